"""What the people, workspaces and seat groups of a generated account are called."""

from __future__ import annotations

# Every entry: as Aha! shows it, and as it stands in an email address.
FIRST_NAMES = (
    ("Aaliyah", "aaliyah"), ("Adam", "adam"), ("Agnieszka", "agnieszka"), ("Ahmed", "ahmed"),
    ("Aïcha", "aicha"), ("Alejandro", "alejandro"), ("Amara", "amara"), ("Ana", "ana"),
    ("Anders", "anders"), ("Andrew", "andrew"), ("Björn", "bjoern"), ("Camille", "camille"),
    ("Carlos", "carlos"), ("Chiara", "chiara"), ("Chloé", "chloe"), ("Daniel", "daniel"),
    ("Deepa", "deepa"), ("Diego", "diego"), ("Elena", "elena"), ("Emma", "emma"),
    ("Fatima", "fatima"), ("François", "francois"), ("Grace", "grace"), ("Hannah", "hannah"),
    ("Haruto", "haruto"), ("Ibrahim", "ibrahim"), ("Ingrid", "ingrid"), ("Ivan", "ivan"),
    ("James", "james"), ("Jürgen", "juergen"), ("Kateryna", "kateryna"), ("Kofi", "kofi"),
    ("Laura", "laura"), ("Liam", "liam"), ("Łukasz", "lukasz"), ("Maria", "maria"),
    ("Mei", "mei"), ("Michael", "michael"), ("Miriam", "miriam"), ("Mohammed", "mohammed"),
    ("Nadia", "nadia"), ("Ngozi", "ngozi"), ("Noah", "noah"), ("Olivia", "olivia"),
    ("Paolo", "paolo"), ("Priya", "priya"), ("Rachel", "rachel"), ("Rahul", "rahul"),
    ("Renée", "renee"), ("Ricardo", "ricardo"), ("Samuel", "samuel"), ("Sarah", "sarah"),
    ("Sinéad", "sinead"), ("Sofia", "sofia"), ("Søren", "soeren"), ("Tomasz", "tomasz"),
    ("Víctor", "victor"), ("William", "william"), ("Yuki", "yuki"), ("Zoë", "zoe"),
)  # fmt: skip

LAST_NAMES = (
    ("Abe", "abe"), ("Adeyemi", "adeyemi"), ("Ali", "ali"), ("Andersson", "andersson"),
    ("Bauer", "bauer"), ("Bianchi", "bianchi"), ("Brown", "brown"), ("Castro", "castro"),
    ("Chen", "chen"), ("Costa", "costa"), ("Côté", "cote"), ("Davies", "davies"),
    ("de la Cruz", "delacruz"), ("Dubois", "dubois"), ("Evans", "evans"), ("Fischer", "fischer"),
    ("García", "garcia"), ("Gruber", "gruber"), ("Gupta", "gupta"), ("Hansen", "hansen"),
    ("Hernández", "hernandez"), ("Horvat", "horvat"), ("Ivanov", "ivanov"), ("Johnson", "johnson"),
    ("Jones", "jones"), ("Kaya", "kaya"), ("Khan", "khan"), ("Kim", "kim"),
    ("Kowalska", "kowalska"), ("Kumar", "kumar"), ("Lee", "lee"), ("Lefèvre", "lefevre"),
    ("Lindqvist", "lindqvist"), ("Martin", "martin"), ("Mensah", "mensah"), ("Meyer", "meyer"),
    ("Müller", "mueller"), ("Nguyen", "nguyen"), ("Nowak", "nowak"), ("O'Brien", "obrien"),
    ("Okafor", "okafor"), ("Patel", "patel"), ("Pereira", "pereira"), ("Petrović", "petrovic"),
    ("Rossi", "rossi"), ("Sánchez", "sanchez"), ("Sato", "sato"), ("Schmidt", "schmidt"),
    ("Silva", "silva"), ("Smith", "smith"), ("Smith-Jones", "smith-jones"), ("Suzuki", "suzuki"),
    ("Tanaka", "tanaka"), ("Taylor", "taylor"), ("Van der Berg", "vanderberg"), ("Wang", "wang"),
    ("Weiß", "weiss"), ("Williams", "williams"), ("Yılmaz", "yilmaz"), ("Øverland", "oeverland"),
)  # fmt: skip

# Whatever shows, stores or maps a name must survive these: markup, a spreadsheet formula, quotes,
# separators, other scripts, a joined emoji, a combining accent, right-to-left text, padding, no surname.
HOSTILE_NAMES = (
    ("<script>alert('aha')</script> Jones", "script.jones"),
    ('=HYPERLINK("https://example.com","click") Formula', "formula"),
    ("+1 (555) 0100 Plus", "plus"),
    ("@SUM(A1:A9) At", "at"),
    ('Robert "Bobby" O\'Tables', "bobby.tables"),
    ("山田 太郎", "taro.yamada"),
    ("김 민준", "minjun.kim"),
    ("👩‍💻 Ada Émoji", "ada.emoji"),
    ("Zoe\u0308 Noe\u0308l", "zoe.noel"),
    ("محمد علي", "mohammed.ali"),
    ("Comma, Semicolon; Tab\tPipe|", "comma"),
    ("{{ macros.ds }} {% raw %}", "template"),
    ("NULL", "null"),
    ("  Padded   Name  ", "padded"),
    ("Back\\slash %s %(name)s", "backslash"),
    ("Åsa " + "von" + "-und" * 40, "long.name"),
)

EMAIL_DOMAINS = ("example.com", "example.com", "example.com", "example.org", "contractors.example.net")

# Aha! mixes IANA and Rails names.
TIMEZONES = (
    "America/Los_Angeles", "America/New_York", "America/Sao_Paulo", "America/Indiana/Indianapolis",
    "Pacific Time (US & Canada)", "Eastern Time (US & Canada)", "Europe/London", "Europe/Berlin",
    "Europe/Lisbon", "Asia/Kolkata", "Asia/Tokyo", "Asia/Kathmandu", "Australia/Sydney",
    "Pacific/Auckland", "Africa/Lagos", "UTC",
)  # fmt: skip

PRODUCT_LINES = (
    ("ACME", "Acme Corporation"), ("CONS", "Consumer products"), ("PLAT", "Platform"),
    ("DATA", "Data & AI"), ("GTM", "Go-to-market"), ("INT", "Internal IT"),
)  # fmt: skip

WORKSPACES = (
    ("APP", "Mobile app"), ("WEB", "Web storefront"), ("CHK", "Checkout & payments"), ("SRCH", "Search"),
    ("REC", "Recommendations"), ("CART", "Cart"), ("LOY", "Loyalty programme"), ("SUB", "Subscriptions"),
    ("NOTIF", "Notifications"), ("IDP", "Identity & login"), ("API", "Public API"), ("SDK", "SDKs"),
    ("INFRA", "Cloud infrastructure"), ("OBS", "Observability"), ("SEC", "Security"),
    ("LAKE", "Data lake"), ("DASH", "Dashboards"), ("ML", "Machine learning"), ("EXP", "Experimentation"),
    ("CDP", "Customer data platform"), ("CRM", "CRM"), ("CMS", "Content management"),
    ("SEO", "Search marketing"), ("BRAND", "Brand & design"), ("EVT", "Events"),
    ("PRT", "Partner portal"), ("PRC", "Pricing"), ("BIL", "Billing"), ("INV", "Inventory"),
    ("SHIP", "Shipping & returns"), ("SUP", "Support desk"), ("KB", "Knowledge base"),
    ("HR", "People systems"), ("FIN", "Finance systems"), ("ERP", "ERP"), ("ITSM", "IT service desk"),
    ("DEV", "Developer experience"), ("MNA", "Project Nightingale"), ("LEGAL", "Legal & privacy"),
    ("LAB", "Innovation lab"),
)  # fmt: skip

TEAMS = (("TEAM", "Development Team"),)

# In the user list their names are null, but GET /products names them.
UNNAMED_WORKSPACES = frozenset({"CMS", "SEO", "INV", "SHIP", "KB", "ITSM"})
# In the user list their names are null, and GET /products does not have them either.
HIDDEN_WORKSPACES = frozenset({"MNA", "LEGAL", "HR"})

CUSTOM_ROLES = ("Roadmap approver", "Ideas moderator", "Finance observer", "External agency")

SEAT_GROUPS = ("Engineering", "Go-to-market", "Contractors")

IDENTITY_PROVIDERS = ("Okta", "Microsoft Entra ID")
