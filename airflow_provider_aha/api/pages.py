"""A page of a list: its rows, and what Aha! says of the whole."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol, TypeVar

from airflow_provider_aha.api.records import is_record_id, read_json


class Page(Protocol):
    """What a complete read must know of a page, however the page was decoded."""

    @property
    def total_records(self) -> int:
        """Records that the server counts in the whole list."""

    @property
    def total_pages(self) -> int:
        """Pages that the server counts in the whole list."""

    @property
    def number(self) -> int:
        """The page's own number, from 1."""

    @property
    def ids(self) -> Sequence[str]:
        """The ids of the page's records, in order."""


P = TypeVar("P", bound=Page)


class JsonPage:
    """A page of a list as Python objects.

    :param body: the answer's bytes.
    :param key: under which name the records stand.
    :raises ValueError: when the body is not JSON of that shape.
    """

    def __init__(self, body: bytes, key: str) -> None:
        self.body = body
        answer, _ = read_json(body)
        self.records, pagination = split_list_answer(answer, key)
        try:
            self.total_records = int(pagination["total_records"])
            self.total_pages = int(pagination["total_pages"])
            self.number = int(pagination["current_page"])
        except (KeyError, TypeError, ValueError):
            raise ValueError(f"the pagination of {key} without its numbers") from None
        self.ids = [str(record["id"]) for record in self.records]


def split_list_answer(answer: Any, key: str) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Take a list answer apart.

    :param answer: the decoded JSON.
    :param key: under which name the records stand.
    :return: records and pagination; ``pagination`` may come as a list of one object.
    :raises ValueError: when the answer has another shape.
    """
    if not isinstance(answer, dict):
        raise ValueError("not an object")
    records, pagination = answer.get(key), answer.get("pagination")
    if isinstance(pagination, list) and len(pagination) == 1:
        pagination = pagination[0]
    if not isinstance(records, list) or not isinstance(pagination, dict):
        raise ValueError(f"no list {key} with pagination")
    if not all(isinstance(record, dict) and is_record_id(record.get("id")) for record in records):
        raise ValueError(f"a record of {key} without id")
    return records, pagination
