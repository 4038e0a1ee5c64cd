"""Walks ``bounds.yaml``: hostile or broken input, and what must happen."""

from __future__ import annotations

import ast
import base64
import gzip
import json
import re
import zlib
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from fsspec.implementations.local import LocalFileSystem

from airflow_provider_aha.api import rest
from airflow_provider_aha.api.client import AhaClient, check_user_id
from airflow_provider_aha.api.config import ClientConfig
from airflow_provider_aha.common.values import to_dict
from airflow_provider_aha.datasets.users import UsersPage
from airflow_provider_aha.exceptions import AhaConfigurationError, AhaError
from airflow_provider_aha.hooks.paths import resolve_path
from airflow_provider_aha.lists.exclusions import load_exclusions
from airflow_provider_aha.lists.matching import UserMatcher
from airflow_provider_aha.lists.roster import RosterSpec, load_roster
from airflow_provider_aha.lists.tables import read_table
from airflow_provider_aha.push.mapping.spec import read_spec
from airflow_provider_aha.store.store import Store
from tests.api.conftest import ImpatientClock, Reply, serve  # noqa: F401 - serve is a fixture
from tests.datasets.conftest import page, role, user

CASES = {
    case["name"]: case for case in yaml.safe_load(Path(__file__).with_name("bounds.yaml").read_text())["cases"]
}
KEY = "3f9c2ab17d04e6588b1f0c9d2e7a46f53f9c2ab17d04e6588b1f0c9d2e7a46f5"
MB = 1024 * 1024
SECRETS = (KEY, base64.b64encode(KEY.encode()).decode(), "Ann Smith", "ann@example.com", "secret@")

# What other tests hold, since another room decides, or the whole of Airflow is needed; each is named.
WIRE, HTTP = "tests/api/test_wire.py::test_", "tests/push/test_http.py::test_"
WRITES, ODD = "tests/access/test_writes.py::test_", "tests/access/test_odd_records.py::test_"
WITHOUT_END = f"{WIRE}an_answer_without_end_has_one"
BUSY = f"{HTTP}a_busy_endpoint_is_waited_for"
NULL = f"{WRITES}a_null_where_null_means_nothing_stops_the_write"
ELSEWHERE = {
    "a body dripped byte by byte": WITHOUT_END,
    "headers dripped byte by byte": WITHOUT_END,
    "an answer without end": WITHOUT_END,
    "a million empty chunks": WITHOUT_END,
    "a hundred 1xx answers before the answer": WITHOUT_END,
    "execution_timeout in the middle of a page": f"{WIRE}a_process_does_not_live_on_for_a_page_that_hangs",
    "an example DAG without execution_timeout": "tests/airflow/test_dag_files.py::test_airflow_imports_every_file",
    "an answer of a target of 1 GB": f"{HTTP}a_success_that_is_too_large_is_not_believed",
    "520 of a target": BUSY,
    "408 of a target": BUSY,
    "425 of a target": BUSY,
    "529 of a target": BUSY,
    "520 to a POST of a target without an idempotency key": (
        f"{HTTP}a_record_on_which_the_endpoint_fails_holds_up_nobody"
    ),
    "administrator_roles as null": NULL,
    "email as null": f"{ODD}an_email_that_is_null_fails_alone",
    "enabled as null": NULL,
    "403 for one user": f"{WRITES}a_failed_read_of_one_user_is_recorded_and_the_others_are_done",
    "404 for one user": f"{WRITES}an_unknown_id_is_recorded_and_the_others_are_done",
    "an odd record among the remaining administrators": (
        f"{ODD}an_administrator_who_cannot_be_read_stays_for_nobody_and_the_next_try_asks_again"
    ),
    "an exclusion file of 1 GB": "tests/lists/test_limits.py::test_a_file_of_gigabytes_is_not_read",
}


def cases(*where: str, request: str | None = None) -> list[Any]:
    """Return the cases of a kind that are walked here."""
    return [
        pytest.param(case, id=name)
        for name, case in CASES.items()
        if case["where"] in where
        and name not in ELSEWHERE
        and (request is None or str(case.get("request", "")).split()[:1] == [request])
    ]


def check(case: dict[str, Any], found: str, said: str = "") -> None:
    wanted = case["either"] if "either" in case else [case["expect"]]
    # What is sent again and again fails in the end; some of what fails may be sent again before.
    allowed = {*wanted, *({"retried"} if "fails" in wanted else ())}
    assert found in allowed, f"{found}, not {wanted}: {case['why']}"
    assert not [secret for secret in SECRETS if secret in said]


def described(error: AhaError) -> str:
    return f"{error} {vars(error)} {error.__cause__}"


def test_every_case_is_walked_here_or_elsewhere():
    here = {
        param.id
        for found in (LISTS, SINGLE, MAPPINGS, ROSTERS, PEOPLE, CONNECTIONS, VARIABLES, FORMS)
        for param in found
    }
    assert here | ELSEWHERE.keys() == CASES.keys()
    assert not here & ELSEWHERE.keys()


@pytest.mark.parametrize("named", sorted(set(ELSEWHERE.values())))
def test_the_tests_elsewhere_are_there(named):
    path, _, name = named.partition("::")
    text = (Path(__file__).parents[2] / path).read_text("utf-8")
    assert name in {one.name for one in ast.parse(text).body if isinstance(one, ast.FunctionDef)}


# --- answers of the API --------------------------------------------------------------------------


def packed(size: int, **how: Any) -> bytes:
    packer = zlib.compressobj(**how)
    return b"".join([*(packer.compress(b" " * MB) for _ in range(size)), packer.flush()])


TOO_LARGE = 2 * rest.LARGEST_ANSWER // MB
BODIES: dict[str, Callable[[], Reply]] = {
    "JSON nested 100,000 deep in an answer": lambda: Reply(b"[" * 100_000),
    "an integer of a million digits in an answer": lambda: users(f'"id": {"1" * 1_000_000}'),
    "a gzip bomb": lambda: Reply(packed(TOO_LARGE, wbits=31), headers={"Content-Encoding": "gzip"}),
    "a gzip bomb of another encoding": lambda: Reply(packed(TOO_LARGE), headers={"Content-Encoding": "deflate"}),
    "gzip in gzip": lambda: Reply(
        gzip.compress(packed(TOO_LARGE, wbits=31)), headers={"Content-Encoding": "gzip, gzip"}
    ),
    "a broken gzip": lambda: Reply(page([user("7")]), headers={"Content-Encoding": "gzip"}),
    "a name of 734 MB": lambda: Reply(headers={"Content-Length": str(734 * MB)}, pieces=[b"{"]),
    "a name of 1 MB": lambda: users(f'"name": "{"x" * MB}"'),
    "headers of 10 MB": lambda: Reply(headers={f"X-{n}": "x" * 60_000 for n in range(170)}),
    "a null character in a name": lambda: users('"name": "a\\u0000b"'),
    "a byte order mark before the JSON": lambda: Reply(b"\xef\xbb\xbf" + page([user("7")])),
    "UTF-16": lambda: Reply(page([user("7")]).decode().encode("utf-16")),
    "bytes that are no UTF-8": lambda: Reply(page([user("7", name="XX")]).replace(b"XX", b"\xff")),
    "an entry of roles that is a text": lambda: users('"product_roles": ["x"]'),
    "a role that is missing": lambda: users('"product_roles": [{"product_id": "1"}]'),
    "roles that are missing": lambda: Reply(page([{k: v for k, v in user("7").items() if k != "product_roles"}])),
    "a reason phrase that echoes the key": lambda: Reply(status=403),
    "a list instead of a user": lambda: Reply([]),
    "a text instead of a user": lambda: Reply(b'"ok"'),
    "a user that is null": lambda: Reply({"user": None}),
    "another user's record": lambda: Reply(user("8")),
}
OF_A_ROLE = ("role", "product_name")


def users(fragment: str) -> Reply:
    """Put a piece of JSON where its key belongs: into the page, a user or a role; the last of equal keys counts."""
    name = json.loads(re.match(r'"(?:[^"\\]|\\.)*"', fragment)[0].replace("\\ud83d", "?"))  # type: ignore[index]
    if name == "users":
        return Reply(page([user("7")])[:-1] + f", {fragment}}}".encode())
    if name == "total_records":
        return Reply(page([user("7")]).replace(b'"total_records": 1', fragment.encode()))
    if name in OF_A_ROLE:
        fragment = f'"product_roles": [{json.dumps(role(20))[:-1]}, {fragment}}}]'
    last = b'"identity_provider": {"type": "password"}'
    return Reply(page([user("7")]).replace(last, last + b", " + fragment.encode()))


def keyed(value: Any) -> Any:
    return json.loads(
        json.dumps(value)
        .replace("<the key>", KEY)
        .replace("<base64 of the key>", SECRETS[1])
        .replace("aaa...", "a" * 10_000)
    )


def answer(case: dict[str, Any]) -> Reply:
    if case["name"] in BODIES:
        return BODIES[case["name"]]()
    given = keyed(case["input"])
    if isinstance(given, str):
        return Reply(given.encode()) if given.startswith("{") else users(given)
    good = user("7") if case["request"] == "user" else {"error": "x"}
    headers = {name: text.replace("\r", " ") for name, text in given.get("headers", {}).items()}
    return Reply(given.get("body", good), status=given["status"], headers=headers)


def client_of(url: str) -> AhaClient:
    pace: dict[str, Any] = {"requests_per_second": 10**5, "requests_per_minute": 10**6}
    return AhaClient(
        ClientConfig(url, "acme", KEY, max_retries=2, retry_budget=60.0, **pace), clock=ImpatientClock()
    )


LISTS = cases("aha", request="users") + cases("aha", request="me")


@pytest.mark.parametrize("case", LISTS)
def test_an_answer_to_a_list(serve, caplog, case):  # noqa: F811
    left = case["input"].get("times", 99) if isinstance(case["input"], dict) else 99
    bad = [answer(case) for _ in range(min(left, 6))]
    server = serve(lambda _: bad.pop() if bad else Reply(page([user("7")])))
    client = client_of(server.url)
    absent: Counter[str] = Counter()

    def consume(pages: Any) -> list[str]:
        found = []
        for one in pages:
            absent.update(one.absent)
            found += one.ids
        return found

    try:
        assert client.read_users(consume, UsersPage.several) == ["7"]
    except AhaError as error:
        check(case, "retried" if len(server.seen) > 1 else "fails", described(error) + caplog.text)
    else:
        field = case.get("field")
        check(case, "unknown" if field and absent[field] else "read", caplog.text)


SINGLE = cases("aha", request="user")


@pytest.mark.parametrize("case", SINGLE)
def test_an_answer_about_one_user(serve, caplog, case):  # noqa: F811
    reply = BODIES[case["name"]]() if case["name"] in BODIES else None
    if reply is None and isinstance(case["input"], dict):
        reply = answer(case)
    elif reply is None:
        name = case["name"]
        fragment = case["input"] if case["input"].startswith('"') else f'"administrator_roles": {case["input"]}'
        record = json.dumps(user("7"))[:-1] + f", {fragment}}}"
        assert json.loads(record), name
        reply = Reply(record.encode())
    server = serve(lambda _: reply)
    client = client_of(server.url)
    try:
        client.get_user("7")
    except AhaError as error:
        retried = {"retried"} & {case.get("expect"), *case.get("either", ())}
        check(case, "retried" if retried and len(server.seen) > 1 else "one_fails", described(error) + caplog.text)
    else:
        check(case, "read", caplog.text)


# --- files and settings --------------------------------------------------------------------------

LAUGHS = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{level}: &a{level} [{', '.join([f'*a{level - 1}'] * 9)}]\n" for level in range(1, 9)
)
TEXTS = {
    "YAML with aliases": LAUGHS,
    "YAML with one harmless alias": "name: &n x\nother: *n\n",
    "YAML with an anchor and no alias": "name: &n x\n",
    "YAML with merge keys": "base: &base {a: 1}\nfields:\n  <<: *base\n",
    "YAML nested 10,000 deep": "[" * 10_000,
    "YAML with a tag": "!!python/object/apply:os.system [id]",
    "YAML with a key twice": "name: a\nname: b\n",
    "YAML of 100 MB": "#" * (100 * MB),
}
MAPPINGS = cases("mapping")


@pytest.mark.parametrize("case", MAPPINGS)
def test_a_mapping(case):
    with pytest.raises(AhaConfigurationError) as caught:
        read_spec(TEXTS[case["name"]])
    check(case, "refused", described(caught.value))


HEADER, PERSON = b"work_email,name\n", b"ann@example.com,Ann Smith\n"
UTF_16 = (HEADER + PERSON).decode().encode("utf-16-le")
FILES: dict[str, Callable[[Path], Any]] = {
    "a roster of 3 GB": lambda path: hole(path, 3 * 1024 * MB),
    "a roster with one line of 500 MB": lambda path: hole(path, 500 * MB),
    "a roster with a quote that isn't closed": lambda path: path.write_bytes(HEADER + b'"' + PERSON * 100),
    "a roster with 100,000 columns": lambda path: path.write_bytes(b",".join([b"a"] * 100_000)),
    "a roster with a byte order mark": lambda path: path.write_bytes(b"\xef\xbb\xbf" + HEADER + PERSON),
    "a roster in UTF-16 without a mark": lambda path: path.write_bytes(
        (HEADER + PERSON).decode().encode("utf-16-le")
    ),
    "a roster in Latin-1": lambda path: path.write_bytes(HEADER + b"ann@example.com,Ren\xe9\n"),
    "a roster with null bytes": lambda path: path.write_bytes(HEADER + PERSON + b"\0,\n"),
    "a roster that is a ZIP": lambda path: path.write_bytes(b"PK\x03\x04" + PERSON),
    "a roster with a column twice": lambda path: path.write_bytes(b"work_email,work_email\n" + PERSON),
    "a roster in Parquet that unpacks to 10 GB": lambda path: parquet(path),
    "a roster in Parquet with a forged footer": lambda path: parquet(path, b"\xff\xff\xff\x7fPAR1"),
}


def hole(path: Path, size: int) -> None:
    with path.open("wb") as file:
        file.truncate(size)


def parquet(path: Path, end: bytes = b"") -> None:
    pq.write_table(pa.table({"work_email": pa.repeat(pa.scalar("ann@example.com"), 1_000_001)}), path)
    if end:
        body = path.read_bytes()
        path.write_bytes(body[: -len(end)] + end)


LOGIN_PAGE = b"<!DOCTYPE html>\n<html><body><form>Log in, please</form></body></html>\n"
# Files that are whole tables, or look so: what refuses them is what reads the roster or the exclusions.
LISTED: dict[str, bytes] = {
    "a roster that begins with sep=;": b"sep=;\nnr;work_email;last_day\n1;ann@example.com;\n",
    "a roster with semicolons": b"nr;work_email;last_day\n1;ann@example.com;\n",
    "a roster that is HTML": LOGIN_PAGE,
    "a name typed as a date": b"nr,work_email,last_day\n1,bob@example.com,\n2,ann@example.com,Ann Smith\n",
    "an email as a column's name": b"1,ann@example.com,Ann Smith\n2,bob@example.com,Bob\n",
    "a name typed as an expiry": b"id,reason,owner,expires_on\n7,hold,Legal,\n8,hold,Legal,Ann Smith\n",
}
# What the sentence must name.
NAMED = {
    "a name typed as a date": ("row 2", "last_day"),
    "a name typed as an expiry": ("Row 2", "expires_on"),
    "an email as a column's name": ("nr, work_email, last_day",),
}
ROSTERS = [param for param in cases("roster") if param.id not in LISTED]


@pytest.mark.parametrize("case", ROSTERS)
def test_a_roster(tmp_path, case):
    path = tmp_path / ("roster.parquet" if "Parquet" in case["name"] else "roster.csv")
    if case["name"] == "a password in a path":
        with pytest.raises(AhaConfigurationError) as caught:
            resolve_path(case["input"])
        check(case, "refused", described(caught.value).replace("@bucket", "").replace("aws_default", ""))
        return
    FILES[case["name"]](path)
    try:
        read_table(Store(LocalFileSystem(), str(path), str(path)), "The roster")
    except AhaError as error:
        check(case, "refused", described(error))
    else:
        check(case, "read")


PEOPLE = [param for param in cases("roster", "exclusion") if param.id in LISTED]


@pytest.mark.parametrize("case", PEOPLE)
def test_a_list_of_people(tmp_path, case):
    path = tmp_path / "list.csv"
    path.write_bytes(LISTED[case["name"]])
    place = resolve_path(str(path))
    spec = {"path": str(path), "key": "nr", "emails": ["work_email"], "domains": ["example.com"], "min_rows": 1}
    (roster,) = RosterSpec.read_all({**spec, "end_date": "last_day"})
    read = partial(load_exclusions) if case["where"] == "exclusion" else partial(load_roster, roster)
    with pytest.raises(AhaError) as caught:
        read(place)
    check(case, "refused", described(caught.value))
    assert all(text in str(caught.value) for text in NAMED.get(case["name"], ()))


VARIABLES = cases("guards")


@pytest.mark.parametrize("case", VARIABLES)
def test_a_variable(case):
    text = "[" * 100_000 if "deep" in case["name"] else f"[{'1' * 1_000_000}]"
    read: Callable[[], Any] = partial(to_dict, text, "The Variable aha_guards")
    if "id list" in case["name"]:
        read = partial(UserMatcher, ids=["7", "ann@example.com"], where=" in the Variable aha_guards")
    with pytest.raises(AhaConfigurationError, match=r"(Entry 2 of .*)?Variable aha_guards") as caught:
        read()
    check(case, "refused", described(caught.value))


CONNECTIONS = cases("connection")


@pytest.mark.parametrize("case", CONNECTIONS)
def test_a_connection(case):
    try:
        config = ClientConfig.from_connection(
            **{"host": "acme", "password": "the-real-key", **keyed(case["input"])}
        )
    except AhaConfigurationError as error:
        check(case, "refused", described(error))
    else:
        check(case, "read")
        if case.get("result"):
            name, value = case["result"].split()
            assert getattr(config, name) == int(value)


FORMS = cases("form")


@pytest.mark.parametrize("case", FORMS)
def test_a_form(case):
    typed = case["input"].get("user") or case["input"]["ids"][0]
    with pytest.raises(AhaConfigurationError) as caught:
        check_user_id(typed)
    check(case, "refused", described(caught.value))
