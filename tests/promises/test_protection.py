"""Entries of protected lists and exclusion files: whom they protect, or that they protect nobody, as promised."""

import ast
import csv
import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from airflow.providers.common.compat.sdk import AirflowFailException

from airflow_provider_aha.access.plan.plan import load_decisions, load_plan
from airflow_provider_aha.exceptions import AhaError
from airflow_provider_aha.hooks.paths import resolve_path
from airflow_provider_aha.operators.carry_out import AhaCarryOutPlanOperator
from airflow_provider_aha.operators.deactivations import AhaDeactivateUsersOperator
from airflow_provider_aha.operators.extract import AhaExtractUsersOperator
from airflow_provider_aha.operators.plan import AhaPlanAccessOperator
from airflow_provider_aha.sandbox.testing import Account, SandboxServer

PROMISES = yaml.safe_load((Path(__file__).parent / "protection.yaml").read_text(encoding="utf-8"))
CASES = PROMISES["cases"]
SHARED = [case for case in CASES if not case.keys() & {"single_read", "list_read"}]
READS = [case for case in CASES if case.keys() & {"single_read", "list_read"}]
OWNER = "1000000000000000001"
RIGHTS = ("administer_account", "administer_billing", "administer_configuration")
RUNS = count()


def api_user(user: dict[str, Any], *, administrator: bool = False) -> dict[str, Any]:
    return {
        "created_at": "2024-01-15T10:00:00.000Z",
        "updated_at": "2025-01-15T10:00:00.000Z",
        "accessed_at": "2025-01-15T10:00:00.000Z",
        "product_roles": [],
        "user_roles": [],
        "paid_seat": True,
        "administrator": administrator,
        "administrator_roles": dict.fromkeys(RIGHTS, administrator),
        "identity_provider": {"type": "password"},
        **user,
    }


class Company:
    """The account of the promises, with a snapshot of it."""

    def __init__(self, base: Path, **changes: Any) -> None:
        owner = {"id": OWNER, "email": "key@owner.example", "name": "Key Owner", "enabled": True}
        people = [{**user, **(changes if user["email"].startswith("ann@") else {})} for user in PROMISES["account"]]
        users = [api_user(owner, administrator=True), *map(api_user, people)]
        self.base = base
        self.enabled = [user["id"] for user in people if user["enabled"]]
        # Aha! lists users by id.
        self.server = SandboxServer(account=Account.from_users(sorted(users, key=lambda user: int(user["id"]))))

    def __enter__(self) -> "Company":
        self.server.start()
        self.patch = pytest.MonkeyPatch()
        extra = {"requests_per_second": 1000, "requests_per_minute": 100_000, "max_retries": 0}
        place = {"host": "127.0.0.1", "port": self.server.port, "schema": "http", "password": self.server.key}
        self.patch.setenv("AIRFLOW_CONN_AHA_DEFAULT", json.dumps({"conn_type": "aha", **place, "extra": extra}))
        self.run(AhaExtractUsersOperator, datasets=["users", "user_roles"])
        return self

    def __exit__(self, *_: object) -> None:
        self.patch.undo()
        self.server.close()

    def run(self, operator: Any, **arguments: Any) -> Any:
        instance = SimpleNamespace(dag_id="d", run_id=f"r{next(RUNS)}", task_id="t", map_index=-1, try_number=1)
        instance.xcom_push = lambda **_: None
        dag_run = SimpleNamespace(run_type="manual", triggering_user_name="alice")
        context = {"ti": instance, "dag_run": dag_run, "outlet_events": {}}
        return operator(task_id="t", base_path=str(self.base), **arguments).execute(context)

    def plan(self, **arguments: Any) -> Any:
        rules = [{"class": "named", "ids": self.enabled}]
        made = self.run(AhaPlanAccessOperator, rules=rules, max_percent=100, **arguments)
        return load_plan(resolve_path(made["plan_path"]))

    def write(self, **arguments: Any) -> Any:
        """Judge as a write would; nothing is sent."""
        operator = AhaCarryOutPlanOperator if "plan" in arguments else AhaDeactivateUsersOperator
        return self.run(operator, dry_run=True, max_percent=100, **arguments)


@pytest.fixture(scope="module")
def company(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Company]:
    with Company(tmp_path_factory.mktemp("company")) as company:
        yield company


def day(text: str) -> str:
    today = datetime.now(UTC).date()
    return {"today": str(today), "yesterday": str(today - timedelta(days=1))}.get(text, text)


def exclusion_file(case: dict[str, Any], folder: Path) -> str:
    path = folder / "exclusions.csv"
    if case.get("missing"):
        return str(path)
    cell = {case["column"]: case["entry"]} if "column" in case else {}
    rows = case.get("rows", 1)
    rows = [case.get("row", cell)] * rows if isinstance(rows, int) else rows
    columns = list(dict.fromkeys(["id", "email", "pattern", "reason", "owner", "expires_on", *case.get("row", ())]))
    filled = [{"reason": "legal hold", "owner": "Legal", "expires_on": "", **row} for row in rows]
    if kind := case.get("parquet"):
        path = folder / "exclusions.parquet"
        made = {"id": pa.array([row["id"] for row in filled], pa.type_for_alias(kind))}
        made |= {name: pa.array([row[name] for row in filled], pa.string()) for name in columns[3:]}
        pq.write_table(pa.table(made), path)
        return str(path)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns, restval="")
        writer.writeheader()
        writer.writerows({name: day(value) for name, value in row.items()} for row in filled)
    return str(path)


def given_by(case: dict[str, Any], folder: Path, patch: pytest.MonkeyPatch, key: str = "json") -> dict[str, Any]:
    """Set the Variable as a case says, and return the arguments of its DAG."""
    where = case["where"]
    patch.setenv("AIRFLOW_VAR_AHA_GUARDS", "{}")
    if where == "exclusion":
        return {"exclusions": exclusion_file(case, folder)}
    name = f"protected_{where}"
    text = case[key] if where == "guards" else None
    if text is None:
        value = case["json"] if "json" in case else json.dumps([case["entry"]])
        text = f'{{"{name}": {value}}}'
    patch.setenv("AIRFLOW_VAR_AHA_GUARDS", text)
    argument, _, value = case.get("dag", "").partition("=")
    return {argument: ast.literal_eval(value)} if value else {}


def outcome(company: Company, arguments: dict[str, Any]) -> tuple[str, set[str], str]:
    """Plan everybody, and say what became of the entry, whom it protected, and the sentence about it."""
    try:
        plan = company.plan(**arguments)
    except (AirflowFailException, AhaError) as error:
        return "refused", set(), str(error)
    decisions = load_decisions(resolve_path(plan.path), plan.header).to_pylist()
    spared = {row["user_id"] for row in decisions if row["spared_by"] in PROTECTED}
    expired = [note for note in plan.header["notes"] if "expired" in note]
    if said := plan.header["protects_nobody"] or (not spared and expired):
        head = (Path(plan.path).parent / "plan.md").read_text(encoding="utf-8").partition("| Class")[0]
        assert ("nobody in this account" in head) == bool(plan.header["protects_nobody"])
        return "reported", spared, " ".join(said)
    return "matched", spared, ""


PROTECTED = {"excluded", "protected_id", "protected_email", "protected_domain", "protected_pattern"}


def by_name(cases: list[dict[str, Any]]) -> Any:
    return pytest.mark.parametrize("case", cases, ids=[case["name"] for case in cases])


@by_name(SHARED)
def test_an_entry_protects_or_is_reported_or_refused(company, case, tmp_path, monkeypatch):
    arguments = given_by(case, tmp_path, monkeypatch)
    found, protected, sentence = outcome(company, arguments)
    assert found in case.get("either", [case.get("expect")]), (case["why"], sentence)
    entry = str(case.get("entry", ""))
    assert entry.isdigit() or len(entry) < 3 or entry not in sentence
    assert "ann@" not in sentence
    if found == "matched":
        users = case["users"]
        wanted = set(company.enabled) & set(company.enabled if users == "all" else users)
        assert wanted <= protected <= wanted | set(case.get("look_alikes", ()))
    else:
        assert protected == set()
    if found == "refused":
        with pytest.raises((AirflowFailException, AhaError)) as caught:
            company.write(users=company.enabled[:1], **arguments)
        assert "blocked" not in str(caught.value)
    assert not any(one.method == "PUT" for one in company.server.requests)


@by_name([case for case in SHARED if "write" in case])
def test_a_write_of_what_was_planned_otherwise_is_blocked(company, case, tmp_path, monkeypatch):
    monkeypatch.setenv("AIRFLOW_VAR_AHA_GUARDS", "{}")
    plan = company.plan()
    arguments = given_by(case, tmp_path, monkeypatch, "later_json" if "later_json" in case else "json")
    user_id = (case["users"] or ["6776757454431877834"])[0]
    with pytest.raises(AirflowFailException, match=rf"\b[12] {case['write']}.*{user_id}"):
        company.write(plan=plan.path, **arguments)


@by_name([case for case in SHARED if "cap" in case])
def test_of_two_caps_the_stricter_one_holds(company, case, tmp_path, monkeypatch):
    arguments = given_by(case, tmp_path, monkeypatch)
    assert AhaDeactivateUsersOperator(task_id="t", users=[], **arguments).guards().caps.max_users == case["cap"]


@by_name(READS)
def test_a_name_that_a_read_leaves_out_lifts_no_protection(case, tmp_path, monkeypatch):
    single, ann = case["single_read"]["name"], "6776757454431877834"
    with Company(tmp_path, **case.get("list_read", {})) as company:
        monkeypatch.setenv("AIRFLOW_VAR_AHA_GUARDS", "{}")
        plan = company.plan()
        found, protected, _ = outcome(company, given_by(case, tmp_path, monkeypatch))
        assert (found, protected) == (case["expect"], set(case.get("users", ())))
        fault = {"absent": "missing_key", None: "null_value"}.get(single)
        if fault:
            company.server.set_fault(fault, key="name", path=rf".*/users/{ann}")
        else:
            company.server.account.edit_user(ann, name=single)
        with pytest.raises(AirflowFailException, match=f"1 {case['write']}.*{ann}"):
            company.write(plan=plan.path)
