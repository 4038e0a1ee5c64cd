"""What a client of Oomnitza needs to know, read from the fields of a connection."""

from __future__ import annotations

from dataclasses import dataclass

from airflow_provider_aha.api.config import RestConfig, ServiceHost

API_PREFIX = "/api/v3"


@dataclass(frozen=True)
class OomnitzaConfig(RestConfig):
    """Where an Oomnitza instance is and how its API is used; see :class:`RestConfig`.

    Oomnitza documents no rate limits: requests go one after the other, at a modest pace.

    :param page_size: records a page, 1 to 2000.
    """

    service = ServiceHost(
        name="Oomnitza",
        domain=".oomnitza.com",
        account="an Oomnitza instance",
        prefix=API_PREFIX,
        no_host="",
        new_key="make one in Oomnitza under Configuration > Security > API tokens",
    )
    largest_page = 2000

    page_size: int = 1000
    requests_per_minute: int = 600
    requests_per_second: int = 10
    max_in_flight: int = 1
