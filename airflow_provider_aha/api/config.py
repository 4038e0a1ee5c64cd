"""What a client needs to know, read from the fields of a connection."""

from __future__ import annotations

import ipaddress
import json
import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, ClassVar, Self
from urllib.parse import SplitResult, urlsplit

from airflow_provider_aha.common.values import (
    is_unset,
    to_bool,
    to_dict,
    to_int,
    to_list,
    to_number,
    to_text,
    unknown_ones,
)
from airflow_provider_aha.exceptions import AhaConfigurationError

_LABEL = r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
# Accounts in other regions have two labels (mycompany.use3.aha.io).
_SUBDOMAIN = re.compile(rf"{_LABEL}(?:\.{_LABEL})*")
_DEFAULT_PORTS = {"http": 80, "https": 443}
_LONGEST_TIMEOUT = 3600.0
_EXTRAS = (
    "page_size",
    "timeout",
    "requests_per_minute",
    "requests_per_second",
    "max_in_flight",
    "max_retries",
    "verify",
    "proxies",
    "base_url",
)
# Some tools encode an extra once more on its way.
_ENCODED = 3
# Aha!'s keys are 64 hexadecimal digits; no subdomain is half of one.
_LIKE_A_KEY = re.compile(r"[0-9a-f]{32,}", re.IGNORECASE)
# A request may take so many times the read timeout.
_PARTS = 5


@dataclass(frozen=True)
class ServiceHost:
    """Where the accounts of a service are, and what sentences about its connection say.

    :param name: what the service is called.
    :param domain: the domain of its accounts, with the dot before it.
    :param account: what a host has to be.
    :param prefix: what its client puts before every path.
    :param no_host: what else one can do when the connection has no host.
    :param new_key: where a key comes from.
    """

    name: str
    domain: str
    account: str
    prefix: str
    no_host: str
    new_key: str


@dataclass(frozen=True)
class RestConfig:
    """Where an account of a service is and how its API is used; the key is kept out of ``repr``.

    :param base_url: scheme and host of the API, without a path; or a gateway's full address.
    :param account: the subdomain, as it stands in datasets and paths.
    :param api_key: the API key.
    :param page_size: records a page.
    :param connect_timeout: seconds to wait for a connection.
    :param read_timeout: seconds to wait between two parts of an answer; of all of them, five times as many.
    :param requests_per_minute: how many requests a minute are sent at most.
    :param requests_per_second: how many requests a second are sent at most.
    :param max_in_flight: how many requests may wait for their answer at once, 1 to 32.
    :param max_retries: further tries of one request, 0 to 20.
    :param retry_budget: seconds that all retries of one call may wait in sum.
    :param verify: whether the server's certificate is checked, or the path of a CA bundle.
    :param proxies: proxy address by scheme, as ``requests`` takes them.
    """

    service: ClassVar[ServiceHost]
    largest_page: ClassVar[int]

    base_url: str
    account: str
    api_key: str = field(repr=False)
    page_size: int = 200
    connect_timeout: float = 10.0
    read_timeout: float = 60.0
    requests_per_minute: int = 300
    requests_per_second: int = 20
    max_in_flight: int = 8
    max_retries: int = 5
    retry_budget: float = 600.0
    verify: bool | str = True
    proxies: dict[str, str] | None = field(default=None, repr=False)

    @property
    def host(self) -> str:
        """The host that requests go to, with its port where it has one."""
        return urlsplit(self.base_url).netloc

    @property
    def longest_request(self) -> float:
        """Seconds that one request may take in all: an answer that comes byte by byte has an end, too."""
        return self.connect_timeout + _PARTS * self.read_timeout

    @property
    def is_loopback(self) -> bool:
        """Whether the API is on this machine, as a sandbox is."""
        return _is_loopback(urlsplit(self.base_url).hostname or "")

    @classmethod
    def from_connection(
        cls,
        *,
        host: str | None,
        password: str | None,
        schema: str | None = None,
        port: int | None = None,
        extra: Mapping[str, Any] | str | None = None,
    ) -> Self:
        """Read the fields of an Airflow connection.

        :param host: subdomain, subdomain and the service's domain, or a full address; of the address of a page,
            what comes after the host doesn't count.
        :param password: the API key; a ``Bearer`` before it is taken off.
        :param schema: ``http`` for a loopback host, else ``https`` or nothing.
        :param port: port; 0 and null mean the scheme's own.
        :param extra: the connection's extra, as an object or as JSON text of one, also of a text that is JSON once
            more; null and empty values mean the default.
        :raises AhaConfigurationError: when a field can't be right; the sentence names the field.
        """
        extra = _extra(extra)
        account, base_url = _account_and_url(cls.service, host, schema, port)
        if not is_unset(extra.get("base_url")):
            base_url = _gateway(cls.service, str(extra["base_url"]).strip())
        connect, read = _timeouts(extra.get("timeout"))
        minute, second = cls.requests_per_minute, cls.requests_per_second
        return cls(
            base_url=base_url,
            account=account,
            api_key=_api_key(cls.service, password),
            page_size=to_int(extra.get("page_size"), "page_size", cls.page_size, 1, cls.largest_page),
            connect_timeout=connect,
            read_timeout=read,
            requests_per_minute=to_int(extra.get("requests_per_minute"), "requests_per_minute", minute, 1, 10**6),
            requests_per_second=to_int(extra.get("requests_per_second"), "requests_per_second", second, 1, 10**5),
            max_in_flight=to_int(extra.get("max_in_flight"), "max_in_flight", cls.max_in_flight, 1, 32),
            max_retries=to_int(extra.get("max_retries"), "max_retries", cls.max_retries, 0, 20),
            verify=_verify(extra.get("verify")),
            proxies=_proxies(extra.get("proxies")),
        )


@dataclass(frozen=True)
class ClientConfig(RestConfig):
    """Where an Aha! account is and how its API is read; see :class:`RestConfig`.

    :param page_size: users a page, 1 to 200 (Aha!'s maximum).
    :param requests_per_minute: Aha!'s limit is 300.
    :param requests_per_second: Aha!'s limit is 20.
    :param max_rereads: how often a list that changes under the reader is read again from its start.
    """

    service = ServiceHost(
        name="Aha!",
        domain=".aha.io",
        account="an Aha! account",
        prefix="/api/v1",
        no_host=", or set the Airflow Variable aha_subdomain",
        new_key="make one in Aha! under Settings > Personal > Developer",
    )
    largest_page = 200

    page_size: int = 200
    max_rereads: int = 3


def _extra(value: object) -> dict[str, Any]:
    for _ in range(_ENCODED):
        if isinstance(value, str):
            # What is no JSON may be Python's form of an object, which is read as well, or is refused below.
            with suppress(ValueError, RecursionError):
                value = json.loads(value)
    extra = to_dict(value, "The extra of the connection") or {}
    if unknown := unknown_ones(extra, _EXTRAS):
        raise AhaConfigurationError(
            f"The extra of the connection has a field that there isn't: {unknown}. There are {', '.join(_EXTRAS)}."
        )
    return extra


def _account_and_url(
    service: ServiceHost, host: str | None, schema: str | None, port: int | None
) -> tuple[str, str]:
    text = "" if is_unset(host) else str(host).strip()
    if not text:
        raise AhaConfigurationError(
            f"The {service.name} connection has no host: put the subdomain (mycompany for "
            f"mycompany{service.domain}) into its host field{service.no_host}."
        )
    scheme, separator, address = text.partition("://")
    if not separator:
        scheme, address = schema or "", text
    name, number = _split_host(service, address)
    number = number or to_int(port, "port", 0, 0, 65535)
    if not _is_loopback(name):
        name = _host_of(service, name)
    scheme = _scheme(scheme, name)
    netloc = f"[{name}]" if ":" in name else name
    if number not in (0, _DEFAULT_PORTS[scheme]):
        netloc += f":{number}"
    account = name.removesuffix(service.domain).replace(":", "-")
    return account, f"{scheme}://{netloc}"


def _split_host(service: ServiceHost, text: str) -> tuple[str, int]:
    # Airflow takes the brackets off an IPv6 address that comes in a URI.
    parts = _split(f"[{text}]" if _is_loopback(text) and ":" in text else text)
    if parts is None:
        raise AhaConfigurationError(
            f"The host of the {service.name} connection must be the subdomain (mycompany), "
            f"mycompany{service.domain} or a full address without a user, query or fragment."
        )
    return parts.hostname or "", parts.port or 0


def _split(address: str) -> SplitResult | None:
    """Take an address apart; None when it can't be one that a key may be sent to."""
    try:
        parts = urlsplit(address if "://" in address else f"//{address}")
        port_is_possible = parts.port is None or parts.port > 0
    except ValueError:
        return None
    # Look-alikes of ASCII letters, and blanks, which urlsplit drops.
    plain = address.isascii() and address.isprintable() and not re.search(r"[\s\\]", address)
    odd = parts.username is not None or parts.query or parts.fragment
    return parts if plain and parts.hostname and port_is_possible and not odd else None


def _is_loopback(name: str) -> bool:
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return name == "localhost"


def _host_of(service: ServiceHost, name: str) -> str:
    subdomain = name.removesuffix(service.domain)
    # 'mycompany.com' is somebody else's site: it must not become 'mycompany.com.aha.io'.
    foreign = "." in subdomain and not name.endswith(service.domain)
    if foreign or not _SUBDOMAIN.fullmatch(subdomain) or _has_a_key(subdomain):
        raise AhaConfigurationError(
            f"The host of the {service.name} connection is not {service.account}: give the subdomain "
            f"(mycompany for mycompany{service.domain}), or mycompany.<region>{service.domain}. An API key is sent "
            "to no other host; a gateway is named in the extra field base_url."
        )
    return subdomain + service.domain


def _has_a_key(name: str) -> bool:
    return any(map(_LIKE_A_KEY.fullmatch, name.split(".")))


def _scheme(scheme: str, name: str) -> str:
    scheme = scheme.strip().lower()
    if scheme in ("", "https"):
        return "https"
    if scheme == "http" and _is_loopback(name):
        return "http"
    raise AhaConfigurationError(
        "The scheme must be https: http would send the API key in clear text and is accepted for loopback hosts "
        "only. Use https, or leave the field empty."
    )


def _gateway(service: ServiceHost, address: str) -> str:
    parts = _split(address) if "://" in address else None
    if parts is None or parts.scheme not in _DEFAULT_PORTS or _has_a_key(str(parts.hostname)):
        raise AhaConfigurationError(
            "base_url must be a full address such as https://gateway.example.com, without user or query."
        )
    scheme = _scheme(parts.scheme, str(parts.hostname))
    path = parts.path.rstrip("/").removesuffix(service.prefix).rstrip("/")
    return f"{scheme}://{parts.netloc.lower()}{path}"


def _api_key(service: ServiceHost, password: str | None) -> str:
    key = re.sub(r"^bearer\s+", "", (password or "").strip(), flags=re.IGNORECASE)
    if not key or key.lower() == "bearer":
        raise AhaConfigurationError(
            f"The {service.name} connection has no API key: {service.new_key} and put it into the connection's "
            "password field."
        )
    if not re.fullmatch(r"[!-~]+", key):
        raise AhaConfigurationError(
            f"The API key in the {service.name} connection has a space, a line break or another character that no "
            "key has: paste it again, as one line."
        )
    return key


def _timeouts(value: object) -> tuple[float, float]:
    if isinstance(value, str) and "," in value and not value.strip().startswith("["):
        value = value.split(",")
    elif isinstance(value, str) and value.strip().startswith("["):
        value = to_list(value, "timeout")
    if isinstance(value, (list, tuple)):
        if len(value) != 2:
            raise AhaConfigurationError("timeout must be one number of seconds, or two: connect, read.")
        connect, read = value
    else:
        connect = read = value
    shortest = 0.001
    return (
        to_number(connect, "timeout", 10.0, shortest, _LONGEST_TIMEOUT),
        to_number(read, "timeout", 60.0, shortest, _LONGEST_TIMEOUT),
    )


def _verify(value: object) -> bool | str:
    if isinstance(value, str) and value.strip().lower() not in ("true", "false") and not is_unset(value):
        path = value.strip()
        if "/" not in path and "." not in path:
            raise AhaConfigurationError("verify must be true, false, or the path of a CA bundle on the worker.")
        return path
    return to_bool(value, "verify", True)


def _proxies(value: object) -> dict[str, str] | None:
    proxies = to_dict(value, "proxies")
    if proxies is None:
        return None
    found = {scheme: text for scheme, address in proxies.items() if (text := to_text(address, "proxies"))}
    if not all(set(address) & set(".:") for address in found.values()):
        raise AhaConfigurationError("proxies must hold addresses, such as http://proxy.example.com:3128.")
    return found
