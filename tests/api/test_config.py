"""The fields of a connection: where the key may go, and what is said when a field can't be right."""

from __future__ import annotations

import pickle
from typing import Any
from urllib.parse import urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_aha.api.config import ClientConfig
from airflow_provider_aha.exceptions import AhaConfigurationError
from tests.api.conftest import steady


def config_of(host: Any = "acme", password: Any = "s3cret-key", **fields: Any) -> ClientConfig:
    return ClientConfig.from_connection(host=host, password=password, **fields)


def refusal(**fields: Any) -> str:
    with pytest.raises(AhaConfigurationError) as caught:
        config_of(**fields)
    assert "s3cret" not in str(caught.value)
    return str(caught.value)


# --- host ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("host", "account", "base_url"),
    [
        ("acme", "acme", "https://acme.aha.io"),
        ("acme.aha.io", "acme", "https://acme.aha.io"),
        ("acme.use3.aha.io", "acme.use3", "https://acme.use3.aha.io"),
        ("a-b-1", "a-b-1", "https://a-b-1.aha.io"),
        ("ACME.Aha.IO", "acme", "https://acme.aha.io"),
        ("  acme \n", "acme", "https://acme.aha.io"),
        ("https://acme.aha.io", "acme", "https://acme.aha.io"),
        ("https://acme.aha.io/", "acme", "https://acme.aha.io"),
        ("HTTPS://acme.aha.io", "acme", "https://acme.aha.io"),
        ("https://acme", "acme", "https://acme.aha.io"),
        ("acme.aha.io:443", "acme", "https://acme.aha.io"),
        ("acme.aha.io:8443", "acme", "https://acme.aha.io:8443"),
        ("x" * 63, "x" * 63, f"https://{'x' * 63}.aha.io"),
    ],
)
def test_every_way_to_write_an_account_leads_to_its_https_address(host, account, base_url):
    config = config_of(host)

    assert (config.account, config.base_url) == (account, base_url)
    assert not config.is_loopback


@pytest.mark.parametrize("path", ["/", "/products", "/products/PRJ/feature_cards", "/api/v1", "/api/v1/users/"])
def test_of_the_address_of_a_page_only_the_host_counts(path):
    assert config_of(f"acme.aha.io{path}") == config_of("acme")
    assert config_of(f"https://acme.aha.io{path}") == config_of("acme")


@pytest.mark.parametrize(
    ("fields", "account", "base_url"),
    [
        ({"host": "127.0.0.1", "port": 8765, "schema": "http"}, "127.0.0.1", "http://127.0.0.1:8765"),
        ({"host": "127.0.0.1:8765", "schema": "http"}, "127.0.0.1", "http://127.0.0.1:8765"),
        ({"host": "http://127.0.0.1:8765"}, "127.0.0.1", "http://127.0.0.1:8765"),
        ({"host": "127.8.9.10", "schema": "http"}, "127.8.9.10", "http://127.8.9.10"),
        ({"host": "localhost", "port": 80, "schema": "HTTP"}, "localhost", "http://localhost"),
        ({"host": "localhost", "port": 443, "schema": "http"}, "localhost", "http://localhost:443"),
        ({"host": "localhost", "port": 8765}, "localhost", "https://localhost:8765"),
        ({"host": "::1", "port": 8765, "schema": "http"}, "--1", "http://[::1]:8765"),
        ({"host": "[::1]:8765", "schema": "http"}, "--1", "http://[::1]:8765"),
        ({"host": "http://[::1]:8765"}, "--1", "http://[::1]:8765"),
    ],
)
def test_a_loopback_host_may_speak_http_and_have_any_port(fields, account, base_url):
    config = config_of(**fields)

    assert (config.account, config.base_url) == (account, base_url)
    assert config.is_loopback


@pytest.mark.parametrize("port", [None, 0, 443])
def test_the_port_that_goes_without_saying_is_not_in_the_address(port):
    assert config_of("acme", port=port).host == "acme.aha.io"


def test_the_port_of_the_address_comes_before_the_port_of_the_connection():
    assert config_of("acme.aha.io:8443", port=9443).host == "acme.aha.io:8443"


@pytest.mark.parametrize("port", [-1, 65536, "https"])
def test_a_port_that_no_host_has_is_refused_by_name(port):
    assert refusal(port=port).startswith("port must be a number from 0 to 65535")


@pytest.mark.parametrize("host", [None, "", "  ", "None", "null"])
def test_an_empty_host_says_where_to_put_the_subdomain(host):
    assert "put the subdomain (mycompany for mycompany.aha.io)" in refusal(host=host)


FOREIGN = [
    "evil.com",
    "mycompany.com",
    "mycompany.aha.io.evil.com",
    "evil.com/mycompany.aha.io",
    "https://evil.com/mycompany.aha.io",
    "mycompanyaha.io",
    "aha.io",
    "aha.io.",
    "acme.aha.io.",
    "acme..aha.io",
    ".aha.io",
    "-acme",
    "acme-.aha.io",
    "ac_me",
    "ac%2fme",
    "x" * 64,
    "10.0.0.1",
    "169.254.169.254",
    "0.0.0.0",
    "127.1",
    "127.0.0.999",
    "1.127.0.0.1",
    "localhost.evil.com",
    "127.0.0.1.evil.com",
    "[2001:db8::1]",
]


@pytest.mark.parametrize("host", FOREIGN)
def test_the_key_is_sent_to_no_host_that_is_not_aha(host):
    assert "is not an Aha! account: give the subdomain" in refusal(host=host)


@pytest.mark.parametrize(
    "host",
    [
        "user@acme.aha.io",
        "user:s3cret@acme.aha.io",
        "acme.aha.io@evil.com",
        "acme.aha.io:443@evil.com",
        "acme.aha.io\\@evil.com",
        "evil.com\\.aha.io",
        "acme.aha.io?next=evil.com",
        "evil.com?.aha.io",
        "evil.com#.aha.io",
        "acme.aha.io:port",
        "acme.aha.io:99999",
        "acme.aha.io:0",
        "ac me",
        "ac\nme",
        "ac\tme.aha.io",
        "acme\u0000.aha.io",
        "acm\u0435.aha.io",  # a Cyrillic letter
        "\u212aompany.aha.io",  # the sign of Kelvin, whose small letter is k
        "acme\uff0eaha.io",  # a full-width dot
        "[::1",
        "2001:db8::1",
        "https://",
        "https:///acme.aha.io",
        "/acme",
        "@",
    ],
)
def test_an_address_with_more_or_other_than_a_host_is_refused(host):
    assert refusal(host=host).startswith("The host of the Aha! connection must be the subdomain")


@pytest.mark.parametrize(
    "fields",
    [
        {"host": "http://acme.aha.io"},
        {"host": "acme", "schema": "http"},
        {"host": "acme", "schema": " HTTP "},
        {"host": "ftp://acme.aha.io"},
        {"host": "localhost", "schema": "ws"},
        {"host": "http://acme.aha.io", "port": 443},
    ],
)
def test_a_key_never_travels_in_clear_text_beyond_this_machine(fields):
    assert "http would send the API key in clear text" in refusal(**fields)


PIECES = (
    *("acme", "aha", "io", "evil", "com", "localhost", ".aha.io", "127", "0", "1", "443", "https", "http"),
    *(".", "/", "//", ":", "::", "@", "\\", "?", "#", "%", "[", "]", "-", " ", "\t", "\u212a", "\u3002"),
)


@steady
@given(
    host=st.lists(st.sampled_from(PIECES), max_size=9).map("".join),
    schema=st.sampled_from([None, "", "http", "https"]),
)
def test_whatever_stands_in_the_host_field_the_key_goes_to_aha_by_https_or_to_this_machine(host, schema):
    try:
        config = config_of(host, schema=schema)
    except AhaConfigurationError:
        return
    parts = urlsplit(config.base_url)
    name = parts.hostname or ""
    if name not in ("localhost", "::1") and not name.startswith("127."):
        assert parts.scheme == "https"
        assert name.endswith(".aha.io")
        assert config.account == name.removesuffix(".aha.io")
    assert parts.path == parts.query == parts.fragment == ""
    assert parts.username is None


# --- gateway -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given_url", "base_url"),
    [
        ("https://gateway.example.com", "https://gateway.example.com"),
        (" https://gateway.example.com/ ", "https://gateway.example.com"),
        ("https://gateway.example.com/aha/", "https://gateway.example.com/aha"),
        ("https://gateway.example.com/aha/api/v1/", "https://gateway.example.com/aha"),
        ("HTTPS://Gateway.Example.com/Aha", "https://gateway.example.com/Aha"),
        ("https://gateway.example.com:8443", "https://gateway.example.com:8443"),
        ("https://10.0.0.1", "https://10.0.0.1"),
        ("http://127.0.0.1:8765", "http://127.0.0.1:8765"),
        ("http://[::1]:8765", "http://[::1]:8765"),
    ],
)
def test_a_gateway_is_named_in_full(given_url, base_url):
    config = config_of("acme", extra={"base_url": given_url})

    assert (config.base_url, config.account) == (base_url, "acme")


@pytest.mark.parametrize(
    "address",
    [
        "gateway.example.com",
        "https://",
        "https://user:s3cret@gateway.example.com",
        "https://gateway.example.com?key=s3cret",
        "https://gateway.example.com#there",
        "https://gate way.example.com",
        "https://gateway.example.com\\@evil.com",
        "https://[::1",
        "https://gateway.example.com:99999",
        "ftp://gateway.example.com",
    ],
)
def test_a_gateway_that_is_no_plain_address_is_refused(address):
    assert refusal(extra={"base_url": address}).startswith("base_url must be a full address such as https://")


def test_a_gateway_beyond_this_machine_needs_https():
    assert "clear text" in refusal(extra={"base_url": "http://gateway.example.com"})


# --- key -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "password", ["s3cret-key", " s3cret-key\n", "Bearer s3cret-key", "bearer  s3cret-key", "BEARER\ts3cret-key "]
)
def test_the_key_is_taken_out_of_what_was_pasted(password):
    assert config_of(password=password).api_key == "s3cret-key"


@pytest.mark.parametrize("password", [None, "", "   ", "Bearer", "Bearer  "])
def test_a_missing_key_says_where_to_make_one(password):
    assert "Settings > Personal > Developer" in refusal(password=password)


@pytest.mark.parametrize(
    "password",
    [
        "s3cret key",
        "s3cret\nkey",
        "s3cret\r\nX-Injected: 1",
        "s3cret\u00a0key",
        "s3cret\u2013key",
        "s3crét",
        "\ufeffs3cret",
        "s3cret\x00",
        "Authorization: Bearer s3cret",
    ],
)
def test_a_key_with_a_character_that_no_key_has_is_not_sent(password):
    assert "paste it again, as one line" in refusal(password=password)


@steady
@given(st.binary(min_size=8, max_size=40).map(bytes.hex))
def test_no_form_of_a_configuration_shows_the_key(key):
    config = config_of(password=key, extra={"proxies": {"https": f"http://user:{key}@proxy"}})

    assert key not in repr(config)
    assert key not in str(config)
    assert pickle.loads(pickle.dumps(config)) == config


# --- extra ---------------------------------------------------------------------------------------

DEFAULTS = ClientConfig("https://acme.aha.io", "acme", "s3cret-key")


@pytest.mark.parametrize(
    "extra", [None, {}, dict.fromkeys(["page_size", "timeout", "verify", "proxies", "base_url"])]
)
def test_an_untouched_form_means_the_defaults(extra):
    assert config_of(extra=extra) == DEFAULTS


def test_the_defaults_are_aha_s_own_limits():
    limits = (DEFAULTS.page_size, DEFAULTS.requests_per_minute, DEFAULTS.requests_per_second)

    assert limits == (200, 300, 20)


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("page_size", "50", 50),
        ("page_size", 50, 50),
        ("requests_per_minute", "60", 60),
        ("requests_per_second", "5", 5),
        ("max_in_flight", "2", 2),
        ("max_retries", "0", 0),
        ("verify", "false", False),
        ("verify", False, False),
        ("verify", "True", True),
        ("verify", "", True),
        ("verify", " /etc/ssl/company.pem ", "/etc/ssl/company.pem"),
        ("proxies", '{"https": "http://proxy:3128"}', {"https": "http://proxy:3128"}),
        ("proxies", {"https": "http://proxy:3128", "http": None}, {"https": "http://proxy:3128"}),
        ("proxies", {}, {}),
    ],
)
def test_extras_are_understood_as_text_and_as_values(name, value, expected):
    assert getattr(config_of(extra={name: value}), name) == expected


@pytest.mark.parametrize(
    ("timeout", "connect", "read"),
    [
        (30, 30, 30),
        ("30", 30, 30),
        (2.5, 2.5, 2.5),
        ("5, 30", 5, 30),
        ([5, 30], 5, 30),
        ((5, 30), 5, 30),
        ("[5, 30]", 5, 30),
        (["5", "30"], 5, 30),
        ([None, 30], 10, 30),
        ([5, None], 5, 60),
        (None, 10, 60),
        ("None", 10, 60),
    ],
)
def test_a_timeout_is_one_number_or_two(timeout, connect, read):
    config = config_of(extra={"timeout": timeout})

    assert (config.connect_timeout, config.read_timeout) == (connect, read)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("page_size", 0),
        ("page_size", 201),
        ("page_size", "all"),
        ("page_size", 1.5),
        ("page_size", 10**400),
        ("requests_per_minute", 0),
        ("requests_per_second", -1),
        ("max_in_flight", 0),
        ("max_in_flight", 33),
        ("max_retries", -1),
        ("max_retries", True),
        ("timeout", 0),
        ("timeout", -5),
        ("timeout", "never"),
        ("timeout", [1, 2, 3]),
        ("timeout", "[5, null]"),
        ("timeout", "(5, 30)"),
        ("timeout", True),
        ("verify", 0),
        ("verify", ["/etc/ssl"]),
        ("proxies", "http://user:s3cret@proxy"),
        ("proxies", {"https": ["http://user:s3cret@proxy"]}),
    ],
)
def test_an_extra_that_can_t_be_right_is_refused_by_name(name, value):
    assert refusal(extra={name: value}).startswith(f"{name} ")
