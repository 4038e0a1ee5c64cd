"""One request and its answer, as the parts of the sandbox hand them to each other."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import orjson

from airflow_provider_aha.sandbox.setting import Json

JSON_TYPE = "application/json; charset=utf-8"
HTML_TYPE = "text/html; charset=utf-8"

API_ROOT = "/api/v1"

Ending = Literal["whole", "reset", "half", "nothing", "drip"]
"""How an answer reaches the client: whole; not at all, with a TCP reset; half of its body, then the end
of the connection; not at all, with a regular end of the connection; or its body piece by piece."""


class NotFoundError(LookupError):
    """There is no such record, or the key can't see it."""


class InvalidError(ValueError):
    """A value was sent that the API doesn't take."""


class MalformedError(ValueError):
    """The body of a request is not what the API reads."""


@dataclass
class Exchange:
    """A request to the API.

    :param method: in capitals.
    :param path: below the API's root.
    :param query: the parameters of the address.
    :param params: the variable parts of the path.
    :param body: as sent.
    :param key: the API key; empty where none was sent.
    :param host: as the client named this server.
    :param root: what stands before the path.
    :param late: after how many further requests a write is carried out, as a fault says; at once if 0.
    """

    method: str
    path: str
    query: dict[str, str]
    params: Mapping[str, str]
    body: bytes = b""
    key: str = ""
    host: str = ""
    root: str = API_ROOT
    late: int = 0

    @property
    def page(self) -> int:
        """The page that was asked for; the first one where that is no number."""
        return max(_number(self.query.get("page"), 1), 1)

    @property
    def per_page(self) -> int:
        """The size of a page: 30, at most 200."""
        return min(max(_number(self.query.get("per_page"), 30), 1), 200)


@dataclass(frozen=True)
class Answer:
    """An answer of the API.

    :param status: of HTTP.
    :param body: as sent.
    :param content_type: of the body.
    :param headers: more headers; null takes away one that every answer has.
    :param ending: how it reaches the client.
    :param size: of a piece of a body that drips, in bytes.
    :param pause: between two pieces of it, in seconds.
    """

    status: int = 200
    body: bytes = b""
    content_type: str = JSON_TYPE
    headers: Mapping[str, str | None] = field(default_factory=dict)
    ending: Ending = "whole"
    size: int = 1
    pause: float = 0.0

    @classmethod
    def of(cls, data: object, status: int = 200) -> Answer:
        """Answer with JSON.

        :param data: the body.
        :param status: of HTTP.
        :returns: the answer.
        """
        return cls(status, orjson.dumps(data))

    @classmethod
    def error(cls, status: int, message: str) -> Answer:
        """Answer with an error, in the one documented shape.

        :param status: of HTTP.
        :param message: what is wrong.
        :returns: the answer.
        """
        return cls.of({"error": message}, status)

    @classmethod
    def html(cls, status: int, title: str) -> Answer:
        """Answer with a page, as a proxy in front of the API does.

        :param status: of HTTP.
        :param title: of the page.
        :returns: the answer.
        """
        page = f"<!DOCTYPE html>\n<html><head><title>{title}</title></head><body><h1>{title}</h1></body></html>\n"
        return cls(status, page.encode(), HTML_TYPE)

    def data(self) -> Any:
        """Read the body.

        :returns: what the JSON says; null where the body is not JSON.
        """
        if self.content_type != JSON_TYPE:
            return None
        try:
            # Unlike orjson, json reads a lone surrogate that an earlier fault has put there.
            return json.loads(self.body)
        except ValueError:
            return None

    def with_data(self, data: object) -> Answer:
        """Change the body.

        :param data: the new body.
        :returns: a new answer.
        """
        try:
            return replace(self, body=orjson.dumps(data))
        except orjson.JSONEncodeError:
            return replace(self, body=json.dumps(data).encode())


def paginated(name: str, rows: list[Json], exchange: Exchange) -> Answer:
    """Answer with one page of a list.

    :param name: of the list in the body.
    :param rows: the whole list.
    :param exchange: the request.
    :returns: the answer.
    """
    page, size = exchange.page, exchange.per_page
    return Answer.of({name: rows[(page - 1) * size : page * size], "pagination": pagination(len(rows), exchange)})


def pagination(records: int, exchange: Exchange) -> Json:
    """Describe a page.

    :param records: the length of the whole list.
    :param exchange: the request.
    :returns: the object that goes with every list; an empty list has 0 pages.
    """
    pages = -(-records // exchange.per_page)
    return {"total_records": records, "total_pages": pages, "current_page": exchange.page}


def _number(text: str | None, default: int) -> int:
    """Read a number of an address."""
    return int(text) if text and text.isascii() and text.isdecimal() else default
