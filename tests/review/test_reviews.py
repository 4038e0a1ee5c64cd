"""Freezing a review, and submitting its decisions."""

import csv
import io
import json
import shutil
import subprocess
from datetime import timedelta
from importlib.metadata import version
from pathlib import Path

import pytest

from airflow_provider_aha.exceptions import AhaConfigurationError, AhaGuardError, AhaSnapshotError
from airflow_provider_aha.record.check import verify
from airflow_provider_aha.record.run import Run
from airflow_provider_aha.review import records as reviews
from airflow_provider_aha.review.submission import read_lines, submit
from airflow_provider_aha.review.worklist import CHOICES
from airflow_provider_aha.store.store import Store, sealed
from airflow_provider_aha.verify import main as command

RUN = Run("aha_submit_review", "s1", "submit", 1, "carla")


class Sheet:
    """The decisions of a review, as somebody edits them."""

    def __init__(self, desk, review_id="2026-Q4"):
        self.desk = desk
        path = desk.folder / "aha" / "reviews" / "account=acme" / f"review={review_id}"
        text = (path / "access_review.csv").read_text("utf-8-sig")
        self.rows = list(csv.DictReader(io.StringIO(text, newline="")))
        self.decide("keep")

    def decide(self, decision, rows=None, reviewer="Rita Reviewer"):
        for row in self.rows if rows is None else rows:
            row |= {"decision": decision, "reviewer": reviewer}

    def of(self, user_id):
        return [row for row in self.rows if row["row_key"].startswith(f"u{user_id}.")]

    def with_role(self, number=0):
        return [row for row in self.rows if ".w" in row["row_key"] and row["suggestion"] == "keep"][number]

    def body(self, delimiter=",", encoding="utf-8-sig"):
        text = io.StringIO()
        writer = csv.DictWriter(text, list(self.rows[0]), delimiter=delimiter)
        writer.writeheader()
        writer.writerows(self.rows)
        return text.getvalue().encode(encoding)

    def submit(self, body=None, run=RUN, later=timedelta(hours=1)):
        return submit(self.desk.location, "acme", body or self.body(), run, now=lambda: self.desk.now + later)


@pytest.fixture
def sheet(desk):
    desk.report("2026-Q4")
    return Sheet(desk)


# --- freezing ------------------------------------------------------------------------------------


def test_a_review_is_frozen_once(desk):
    first = desk.report("2026-Q4")
    frozen = desk.folder / "aha" / "reviews" / "account=acme" / "review=2026-Q4"
    before = {path.name: path.read_bytes() for path in frozen.iterdir()}
    assert set(before) == {
        "access_review.html", "access_review.csv", "access_summary.json", "population.parquet", "manifest.json",
        "review.json",
    }  # fmt: skip
    with pytest.raises(AhaConfigurationError, match="frozen already"):
        desk.report("2026-Q4", run_id="r2")
    again = desk.report("2026-Q4")
    assert {path.name: path.read_bytes() for path in frozen.iterdir()} == before
    assert again["sentence"] == first["sentence"]
    assert "reviews/account=acme/review=2026-Q4" in again["page"]


@pytest.mark.parametrize("name", ["../x", "a/b", "", ".", "ä", "a" * 65])
def test_an_id_that_would_leave_the_folder_is_refused(desk, name):
    with pytest.raises(AhaConfigurationError):
        desk.report(name)


def test_a_try_that_died_while_freezing_is_finished_by_the_next_one(desk, monkeypatch):
    written = Store.create

    def die(store, name, body):
        if name.endswith("review.json"):
            raise RuntimeError("the worker died")
        return written(store, name, body)

    monkeypatch.setattr(Store, "create", die)
    with pytest.raises(RuntimeError):
        desk.report("2026-Q4")
    monkeypatch.undo()
    assert reviews.find_review(desk.location, "acme", "2026-Q4") is None
    desk.now += timedelta(minutes=5)
    desk.report("2026-Q4")
    assert Sheet(desk).submit()["reviewed"] > 1000


def manifests(desk):
    """The manifests of the account's chain, oldest first."""
    return [json.loads(path.read_text()) for path in sorted(desk.folder.glob("aha/access/**/0*.json"))]


def findings(desk):
    return verify(desk.location, "acme")


FOLDER = "reviews/review=2026-Q4"
IN_NO_MANIFEST = "is in no manifest: it was added, or the task that wrote it is still running, or died."


def test_opening_and_submitting_a_review_are_tries_of_the_account_s_one_chain(desk, sheet):
    sheet.submit()
    opened, submitted = manifests(desk)
    assert (opened["action"], opened["ended"], opened["review_id"]) == ("open_review", "completed", "2026-Q4")
    assert (opened["dag_id"], opened["run_id"], opened["requested_by"]) == ("aha_access_review", "r1", "ann")
    assert (submitted["action"], submitted["ended"], submitted["requested_by"]) == (
        "submit_review",
        "completed",
        "carla",
    )
    assert submitted["previous"] == "00000001.json"
    frozen = {"review.json", "population.parquet", "manifest.json"}
    frozen |= {f"access_{name}" for name in ("review.html", "review.csv", "summary.json")}
    assert opened["files"].keys() == {f"{FOLDER}/{name}" for name in frozen}
    added = {"submission.json", "submitted.csv", "decisions.parquet"}
    assert submitted["files"].keys() == {f"{FOLDER}/{name}" for name in frozen | added}
    assert findings(desk) == []


def test_a_report_without_a_review_is_in_no_chain(desk):
    desk.report()
    assert manifests(desk) == []


def test_a_try_that_is_refused_leaves_a_manifest_that_says_why(desk, sheet):
    with pytest.raises(AhaConfigurationError):
        desk.report("2026-Q4", run_id="r2")
    sheet.rows.pop()
    with pytest.raises(AhaConfigurationError):
        sheet.submit()
    assert [(one["action"], one["ended"], one["files"]) for one in manifests(desk)[1:]] == [
        ("open_review", "failed", {}),
        ("submit_review", "failed", {}),
    ]
    assert "frozen already" in manifests(desk)[1]["reason"]
    assert "missing from the file" in manifests(desk)[2]["reason"]
    assert findings(desk) == []


@pytest.mark.parametrize(
    "name",
    ["population.parquet", "decisions.parquet", "access_review.html", "review.json", "submission.json"],
)
@pytest.mark.parametrize("how", ["changed", "removed"])
def test_what_was_frozen_or_decided_and_then_changed_is_found(desk, sheet, name, how):
    sheet.submit()
    (path,) = desk.folder.glob(f"aha/reviews/**/{name}")
    path.unlink() if how == "removed" else path.write_bytes(path.read_bytes() + b" ")
    assert findings(desk) == [f"{FOLDER}/{name} was {how}."]


def test_a_submission_that_was_forged_with_care_is_found(desk, sheet):
    sheet.submit()
    (path,) = desk.folder.glob("aha/reviews/**/submission.json")
    record = json.loads(path.read_text()) | {"submitted_by": "dora"}
    del record["content_sha256"]
    path.write_bytes(sealed(record))
    assert findings(desk) == [f"{FOLDER}/submission.json was changed."]


def test_a_population_that_was_changed_before_decisions_were_submitted_is_found(desk, sheet):
    (path,) = desk.folder.glob("aha/reviews/**/access_review.html")
    path.write_bytes(b"")
    sheet.submit()
    assert findings(desk) == [f"{FOLDER}/access_review.html was changed between two tries."]


def test_a_file_that_was_added_to_a_review_is_named(desk, sheet):
    folder = desk.folder / "aha" / "reviews" / "account=acme" / "review=2026-Q4"
    (folder / "submission-2.json").write_bytes(b"{}")
    assert findings(desk) == [f"{FOLDER}/submission-2.json {IN_NO_MANIFEST}"]
    # No later try vouches for it.
    sheet.submit()
    assert findings(desk) == [f"{FOLDER}/submission-2.json {IN_NO_MANIFEST}"]


def test_what_tries_that_died_have_left_is_vouched_for_by_the_one_that_ended(desk):
    folder = desk.folder / "aha" / "reviews" / "account=acme" / "review=2026-Q4"
    folder.mkdir(parents=True)
    (folder / "population.parquet").write_bytes(b"half")
    assert findings(desk) == [f"{FOLDER}/population.parquet {IN_NO_MANIFEST}"]
    desk.report("2026-Q4")
    (folder / "decisions.parquet").write_bytes(b"half")
    Sheet(desk).submit()
    assert findings(desk) == []


def test_a_review_that_was_taken_away_is_missed(desk):
    for number in (1, 2, 3):
        desk.report(f"r{number}", run_id=f"r{number}")
        desk.now += timedelta(minutes=1)
    shutil.rmtree(desk.folder / "aha/reviews/account=acme/review=r2")
    assert len(findings(desk)) == 6
    for path in desk.folder.glob("aha/access/**/00000002.json"):
        path.unlink()
    assert findings(desk) == [
        "manifests/00000002.json was removed.",
        "manifests/00000003.json comes after manifests/00000002.json, which isn't there.",
    ]


@pytest.mark.parametrize(("days", "is_overdue"), [(29, True), (30, False)])
def test_a_submitted_review_is_overdue_when_the_next_one_is_late(desk, sheet, days, is_overdue):
    sheet.submit()
    desk.now += timedelta(days=30)
    summary = desk.report(run_id="r2", thresholds={"review_every_days": days})
    html = Path(summary["page"]).read_text("utf-8")
    # Submitted an hour after it was opened.
    assert summary["control"]["last_submitted_at"] == "2026-11-20T07:00:00.000Z"
    assert summary["control"]["overdue"] is is_overdue
    assert ("the last one was submitted on 2026-11-20" in html) is is_overdue
    assert ("the review is overdue" in summary["sentence"]) is is_overdue


# --- what a spreadsheet does ---------------------------------------------------------------------


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "cp1252"])
def test_files_of_spreadsheet_programs_are_read(sheet, delimiter, encoding):
    for row in sheet.rows:
        row |= {"person": row["person"].encode("cp1252", "replace").decode("cp1252"), "note": "geprüft"}
    record = sheet.submit(sheet.body(delimiter, encoding))
    assert record["decisions"]["keep"] == record["rows"] == len(sheet.rows)


def test_order_names_and_dates_may_change(sheet):
    sheet.rows.reverse()
    for row in sheet.rows:
        row |= {"person": "", "email": "=broken", "last_seen": "11/20/26", "decision": "  Keep "}
    assert sheet.submit()["reviewed"] == len(sheet.rows)


# --- what is refused -----------------------------------------------------------------------------


def drop_last(sheet):
    sheet.rows.pop()


def repeat(sheet):
    sheet.rows.append(dict(sheet.rows[0]))


def edit(**values):
    return lambda sheet: sheet.rows[0].update(values)


def edit_all(**values):
    return lambda sheet: [row.update(values) for row in sheet.rows]


def other_review(sheet):
    sheet.desk.report("other", run_id="r2")
    edit_all(review_id="other")(sheet)


def contradict(sheet):
    person = next(
        r["row_key"].split(".")[0] for r in sheet.rows if len(sheet.of(r["row_key"][1:].split(".")[0])) > 1
    )
    sheet.decide("revoke account", sheet.of(person[1:])[:1])


def impossible(sheet):
    next(row for row in sheet.rows if row["row_key"].endswith(".administers_account"))["decision"] = "downgrade"


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        (drop_last, AhaConfigurationError, "1 of .* are missing"),
        (repeat, AhaConfigurationError, "in the file twice: row 2, "),
        (edit(row_key="u1.account"), AhaConfigurationError, "not of this review: row 2"),
        (edit(decision=""), AhaGuardError, "no decision: row 2"),
        (edit(decision="maybe"), AhaGuardError, "none of the decisions"),
        (edit(review_id="2026-Q3"), AhaConfigurationError, "of one review"),
        (edit_all(review_id="2026-Q3"), AhaConfigurationError, "no review 2026-Q3"),
        (edit_all(review_id=""), AhaConfigurationError, "can.t be the id"),
        (edit_all(review_id="../../x"), AhaConfigurationError, "can't be the id"),
        (edit_all(population_sha256="0" * 64), AhaConfigurationError, "another population"),
        (contradict, AhaGuardError, "contradict"),
        (impossible, AhaGuardError, "can't be downgraded"),
    ],
)
def test_a_file_that_is_not_whole_or_not_of_the_review_is_refused(sheet, change, error, words):
    change(sheet)
    with pytest.raises(error, match=words):
        sheet.submit()
    assert not list(sheet.desk.folder.glob("aha/reviews/**/submission.json"))


@pytest.mark.parametrize("body", [b"", b"\x00\x81\xff", b"a,b\n1,2\n", b'review_id,"', b"\xff\xfe\x00"])
def test_what_is_no_such_file_is_refused(sheet, body):
    with pytest.raises(AhaConfigurationError):
        sheet.submit(body or b"\n")


def test_a_population_of_another_page_is_refused(desk, sheet):
    desk.now += timedelta(days=1)
    desk.given.pop("roster")
    desk.report("2026-Q4b", run_id="r2")
    edit_all(review_id="2026-Q4b")(sheet)
    with pytest.raises(AhaConfigurationError, match="another population"):
        sheet.submit()


def test_after_fourteen_days_it_is_too_late(sheet):
    assert sheet.submit(later=timedelta(days=13, hours=23))["reviewed"]
    sheet.decide("not mine")
    with pytest.raises(AhaGuardError, match="were submitted before"):
        sheet.submit(later=timedelta(days=15))


def test_an_expired_review_is_refused(sheet):
    with pytest.raises(AhaGuardError, match="over 14 days ago"):
        sheet.submit(later=timedelta(days=14, minutes=1))


@pytest.mark.parametrize("kind", ["email", "login", "name", "blank"])
def test_nobody_decides_on_themselves(sheet, kind):
    row = next(row for row in sheet.rows if row["email"].count("@") == 1 and row["person"].isascii())
    login = row["email"].partition("@")[0]
    row["reviewer"] = {"email": row["email"].upper(), "login": login, "name": row["person"], "blank": ""}[kind]
    run = Run("aha_submit_review", "s1", "submit", 1, login if kind == "blank" else "carla")
    with pytest.raises(AhaGuardError, match="by the person that they are about"):
        sheet.submit(run=run)


def test_who_submits_may_be_in_the_file_when_their_own_rows_stay_open(sheet):
    """Whatever the file says of who decided: the login is what Airflow knows."""
    row = next(row for row in sheet.rows if row["email"].count("@") == 1)
    run = Run("aha_submit_review", "s1", "submit", 1, row["email"])
    with pytest.raises(AhaGuardError, match="about the person who submits the file, whoever decided"):
        sheet.submit(run=run)
    mine = sheet.of(row["row_key"].split(".")[0][1:])
    sheet.decide("not mine", mine)
    record = sheet.submit(run=run)
    assert record["submitted_by"] == row["email"]
    assert record["rows"] - record["reviewed"] == len(mine)


def test_no_refusal_says_what_is_in_the_file(sheet):
    edit(decision="secret word", reviewer="Jane Doe")(sheet)
    with pytest.raises(AhaGuardError) as caught:
        sheet.submit()
    assert "secret" not in str(caught.value)
    assert "Jane" not in str(caught.value)


# --- what follows --------------------------------------------------------------------------------


def test_decisions_are_recorded_once_and_the_same_file_is_recognised(desk, sheet):
    person = sheet.with_role()["row_key"].split(".")[0]
    sheet.decide("revoke account", sheet.of(person[1:]))
    first = sheet.submit()
    assert first["revoke_accounts"] == [person[1:]]
    assert (first["submitted_by"], first["reviewers"]) == ("carla", 1)
    again = sheet.submit(run=Run("aha_submit_review", "s2", "submit", 1, "dora"), later=timedelta(days=30))
    assert again == first
    sheet.decide("not mine", sheet.rows[:1])
    with pytest.raises(AhaGuardError, match="were submitted before"):
        sheet.submit()
    (review,) = reviews.read_reviews(desk.location, "acme")
    rows = [row for batch in reviews.decision_batches(desk.location, review) for row in batch.to_pylist()]
    assert {row["decision"] for row in rows} == {"keep", "revoke account"}
    assert {row["reviewer"] for row in rows} == {"Rita Reviewer"}


def test_a_changed_population_stops_a_submission(desk, sheet):
    (path,) = desk.folder.glob("aha/reviews/**/population.parquet")
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(AhaSnapshotError, match=r"population\.parquet"):
        sheet.submit()


def test_every_choice_can_be_submitted(sheet):
    for choice, number in zip(CHOICES, (0, 30, 60, 90, 120), strict=True):
        row = sheet.with_role(number)
        rows = sheet.of(row["row_key"][1:].split(".")[0]) if choice == "revoke account" else [row]
        sheet.decide(choice, rows)
    record = sheet.submit()
    assert all(record["decisions"][choice] for choice in CHOICES)
    assert record["reviewed"] == len(sheet.rows) - 1


def test_the_command_looks_at_reviews_too(desk, sheet, capsys):
    sheet.submit()
    assert command([str(desk.folder / "aha")]) == 0
    (path,) = desk.folder.glob("aha/reviews/**/decisions.parquet")
    path.unlink()
    assert command([str(desk.folder / "aha")]) == 1
    assert "acme: reviews/review=2026-Q4/decisions.parquet was removed.\n" in capsys.readouterr().out


# --- a real spreadsheet program ------------------------------------------------------------------


@pytest.mark.slow
def test_a_file_that_went_through_libreoffice_is_submitted(hostile_desk, tmp_path):
    """Opened with the program's own guess, which is wrong, and rightly; exported as UTF-8 and as UTF-16."""
    soffice = shutil.which("soffice")
    if soffice is None:
        pytest.skip("LibreOffice is not installed (Debian: libreoffice-calc)")
    if not version("apache-airflow").startswith("3.3"):
        pytest.skip("LibreOffice does the same on every Airflow: it is started on the newest only")

    def convert(name, kind, *options):
        profile = f"-env:UserInstallation=file://{tmp_path}/profile"
        command = [
            soffice,
            profile,
            "--headless",
            *options,
            "--convert-to",
            kind,
            "--outdir",
            folder,
            folder / name,
        ]
        subprocess.run(list(map(str, command)), check=True, capture_output=True, timeout=120)
        return folder / f"decisions.{kind.partition(':')[0]}"

    hostile_desk.report("2026-Q4")
    sheet = Sheet(hostile_desk)
    folder = tmp_path / "sheets"
    folder.mkdir()
    (folder / "decisions.csv").write_bytes(sheet.body())
    convert("decisions.csv", "xlsx")
    misread = convert("decisions.xlsx", f"{TEXT}:44,34,76,1").read_bytes()
    (folder / "decisions.csv").write_bytes(sheet.body())
    convert("decisions.csv", "xlsx", "--infilter=Text - txt - csv (StarCalc):44,34,76,1")
    well_read = convert("decisions.xlsx", f"{TEXT}:59,34,65535,1").read_bytes()
    assert well_read.startswith(b"\xff\xfe")
    assert {line.key for line in read_lines(misread)[0]} == {row["row_key"] for row in sheet.rows}
    record = sheet.submit(well_read)
    assert record["decisions"]["keep"] == record["rows"] == len(sheet.rows)


TEXT = "csv:Text - txt - csv (StarCalc)"
