"""What Airflow is told about this provider.

Airflow calls :func:`get_provider_info` while it is still starting, so nothing is imported here.
The connection forms are described in this module only. Airflow 3.2 and later read them from the
dict; the Python methods that older versions read build the same forms from the same constants.
"""

CONNECTION_TYPE = "aha"
HOOK_CLASS_NAME = "airflow_provider_aha.hooks.aha.AhaHook"
HOOK_NAME = "Aha!"

# The standard fields of the form. `port` stays visible, and its label says which one to enter: on a connection
# without a stored port, the Test button of Airflow 3.3.1 and 3.3.2 says nothing but "Bad Request".
HIDDEN_FIELDS = ["login"]
RELABELING = {
    "host": "Subdomain",
    "password": "API key",
    "port": "Port (enter 443)",
    "schema": "Scheme",
}
PLACEHOLDERS = {
    "host": "mycompany",
    "password": "Aha! > Settings > Personal > Developer > API keys",
    "port": "443",
    "schema": "https",
}

# The fields kept in `extra`: what the form shows, in this order, each with its JSON schema.
# Every one may be null, because the form of Airflow 3 sends null for a field that was left alone.
CONN_FIELDS: dict[str, dict[str, object]] = {
    "page_size": {
        "label": "Page size",
        "description": "Users per request, 1 to 200. Smaller pages mean more requests.",
        "schema": {"type": ["integer", "null"], "minimum": 1, "maximum": 200, "default": 200},
    },
    "timeout": {
        "label": "Timeout (seconds)",
        "description": "One number for connecting and for reading, or two: connect, read.",
        "schema": {"type": ["string", "null"], "default": "10, 60"},
    },
    "requests_per_minute": {
        "label": "Requests per minute",
        "description": "Aha! allows an account 300 in total; take less to leave room for others.",
        "schema": {"type": ["integer", "null"], "minimum": 1, "maximum": 300, "default": 300},
    },
    "requests_per_second": {
        "label": "Requests per second",
        "description": "Aha! allows an account 20 in total.",
        "schema": {"type": ["integer", "null"], "minimum": 1, "maximum": 20, "default": 20},
    },
    "max_in_flight": {
        "label": "Requests in flight",
        "description": "How many pages may be on their way at the same time, 1 to 32.",
        "schema": {"type": ["integer", "null"], "minimum": 1, "maximum": 32, "default": 8},
    },
    "max_retries": {
        "label": "Retries per request",
        "description": "How often a failed request is sent again, 0 to 20. A POST never is.",
        "schema": {"type": ["integer", "null"], "minimum": 0, "maximum": 20, "default": 5},
    },
    "verify": {
        "label": "Verify TLS",
        "description": "true, false, or the path of a CA bundle on the worker.",
        "schema": {"type": ["string", "null"], "default": "true"},
    },
    "proxies": {
        "label": "Proxies",
        "description": 'A JSON object such as {"https": "http://proxy.example.com:3128"}.',
        "schema": {"type": ["string", "null"]},
    },
    "base_url": {
        "label": "Base URL",
        "description": "The https address of a gateway to use instead of the subdomain's own.",
        "schema": {"type": ["string", "null"]},
    },
}

OOMNITZA_CONNECTION_TYPE = "oomnitza"
OOMNITZA_HOOK_CLASS_NAME = "airflow_provider_aha.hooks.oomnitza.OomnitzaHook"
OOMNITZA_HOOK_NAME = "Oomnitza"
OOMNITZA_RELABELING = RELABELING | {"password": "API token"}
OOMNITZA_PLACEHOLDERS = PLACEHOLDERS | {"password": "Oomnitza > Configuration > Security > API tokens"}
OOMNITZA_CONN_FIELDS: dict[str, dict[str, object]] = {
    "page_size": {
        "label": "Page size",
        "description": "Records per request, 1 to 2000. Smaller pages mean more requests.",
        "schema": {"type": ["integer", "null"], "minimum": 1, "maximum": 2000, "default": 1000},
    },
    "timeout": CONN_FIELDS["timeout"],
    "requests_per_minute": {
        "label": "Requests per minute",
        "description": "Oomnitza documents no limit; one person takes one request.",
        "schema": {"type": ["integer", "null"], "minimum": 1, "maximum": 6000, "default": 600},
    },
    "requests_per_second": {
        "label": "Requests per second",
        "description": "Oomnitza documents no limit.",
        "schema": {"type": ["integer", "null"], "minimum": 1, "maximum": 100, "default": 10},
    },
    "max_retries": {
        "label": "Retries per request",
        "description": "How often a failed request is sent again, 0 to 20; nobody is created twice.",
        "schema": {"type": ["integer", "null"], "minimum": 0, "maximum": 20, "default": 5},
    },
    "verify": CONN_FIELDS["verify"],
    "proxies": CONN_FIELDS["proxies"],
    "base_url": CONN_FIELDS["base_url"],
}


def get_provider_info() -> dict[str, object]:
    """Return the provider's metadata in the shape of Airflow's ``provider_info`` schema."""
    return {
        "package-name": "airflow-provider-aha",
        "name": "Aha!",
        "description": (
            "`Aha! <https://www.aha.io/>`__ product roadmaps: users, roles and seats as Parquet, "
            "read completely or not at all, and pushed onward."
        ),
        "integrations": [
            {
                "integration-name": "Aha!",
                "external-doc-url": "https://www.aha.io/api",
                "tags": ["service"],
            },
            {
                "integration-name": "Oomnitza",
                "external-doc-url": "https://www.oomnitza.com",
                "tags": ["service"],
            },
        ],
        "hooks": [
            {"integration-name": "Aha!", "python-modules": ["airflow_provider_aha.hooks.aha"]},
            {"integration-name": "Oomnitza", "python-modules": ["airflow_provider_aha.hooks.oomnitza"]},
        ],
        "operators": [
            {
                "integration-name": "Aha!",
                "python-modules": [
                    "airflow_provider_aha.operators.approvals",
                    "airflow_provider_aha.operators.carry_out",
                    "airflow_provider_aha.operators.confirm",
                    "airflow_provider_aha.operators.deactivations",
                    "airflow_provider_aha.operators.extract",
                    "airflow_provider_aha.operators.plan",
                    "airflow_provider_aha.operators.prune",
                    "airflow_provider_aha.operators.report",
                    "airflow_provider_aha.operators.users",
                    "airflow_provider_aha.transfers.suggest",
                ],
            },
        ],
        "sensors": [
            {"integration-name": "Aha!", "python-modules": ["airflow_provider_aha.sensors.users"]},
        ],
        "triggers": [
            {
                "integration-name": "Aha!",
                "python-modules": ["airflow_provider_aha.triggers.users", "airflow_provider_aha.triggers.watcher"],
            },
        ],
        "extra-links": [
            "airflow_provider_aha.operators.links.AhaLink",
            "airflow_provider_aha.operators.links.AccessReportLink",
        ],
        "transfers": [
            {
                "source-integration-name": "Aha!",
                "target-integration-name": "Local",
                "python-module": "airflow_provider_aha.transfers.to_file",
            },
            {
                "source-integration-name": "Aha!",
                "target-integration-name": "Hypertext Transfer Protocol (HTTP)",
                "python-module": "airflow_provider_aha.transfers.to_http",
            },
            {
                "source-integration-name": "Aha!",
                "target-integration-name": "Oomnitza",
                "python-module": "airflow_provider_aha.transfers.to_oomnitza",
            },
            {
                "source-integration-name": "Aha!",
                "target-integration-name": "Common SQL",
                "python-module": "airflow_provider_aha.transfers.to_sql",
            },
        ],
        "connection-types": [
            {
                "connection-type": CONNECTION_TYPE,
                "hook-class-name": HOOK_CLASS_NAME,
                "hook-name": HOOK_NAME,
                "ui-field-behaviour": {
                    "hidden-fields": HIDDEN_FIELDS,
                    "relabeling": RELABELING,
                    "placeholders": PLACEHOLDERS,
                },
                "conn-fields": CONN_FIELDS,
            },
            {
                "connection-type": OOMNITZA_CONNECTION_TYPE,
                "hook-class-name": OOMNITZA_HOOK_CLASS_NAME,
                "hook-name": OOMNITZA_HOOK_NAME,
                "ui-field-behaviour": {
                    "hidden-fields": HIDDEN_FIELDS,
                    "relabeling": OOMNITZA_RELABELING,
                    "placeholders": OOMNITZA_PLACEHOLDERS,
                },
                "conn-fields": OOMNITZA_CONN_FIELDS,
            },
        ],
    }
