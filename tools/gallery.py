"""`make gallery`: the screenshots in docs/, taken of the sandbox.

An account lives through three months: a snapshot each week, a review that was submitted, leavers who were
disabled, and a review that is open.
"""

import argparse
import csv
import io
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from fsspec.implementations.local import LocalFileSystem

from airflow_provider_aha.access.decide.named import decide
from airflow_provider_aha.access.write.carry_out import carry_out
from airflow_provider_aha.access.write.guards import Caps, Protection
from airflow_provider_aha.api.client import AhaClient
from airflow_provider_aha.api.config import ClientConfig
from airflow_provider_aha.datasets.extract import extract
from airflow_provider_aha.datasets.names import DATASETS
from airflow_provider_aha.lists.roster import Rosters, RosterSpec, load_roster
from airflow_provider_aha.record.run import Run, RunFolder
from airflow_provider_aha.report.build import TABLE, Asked, make_report
from airflow_provider_aha.review.submission import submit
from airflow_provider_aha.review.terms import Terms
from airflow_provider_aha.sandbox.account import Account
from airflow_provider_aha.sandbox.testing import SandboxServer
from airflow_provider_aha.store.layout import Layout
from airflow_provider_aha.store.store import Store, local_store
from tools.local import ROOT

ACCOUNT = "mycompany"
USERS, WEEKS = 512, 14
CHROMIUM = "/usr/bin/chromium"
PAPER = {"width": 1112, "height": 790}


def gallery(target: Path) -> None:
    """Take all screenshots."""
    target.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory() as folder:
        page = live(Path(folder))
        for name in shoot(page, target):
            print(f"{target / name}: {(target / name).stat().st_size / 1024:.0f} KiB")


def live(folder: Path) -> Path:
    """Let an account live, and return the page of its open review."""
    base = Store(LocalFileSystem(), str(folder / "aha"), "/data/aha")
    now = datetime.now(UTC).replace(microsecond=0)
    for week in range(WEEKS, 0, -1):
        moment = now - timedelta(weeks=week)
        with account_at(moment, missing=6 * week) as (_, client):
            extract(client, base, datasets=DATASETS, connection_id="aha_default", now=clock(moment))
        if week == 3:
            make_report(base, asked(folder, "2026-Q3", 420), now=clock(moment))
            submit_all(base, moment + timedelta(days=2))
    with account_at(now, missing=0) as (account, client):
        gone = write_roster(folder, account, now)
        disable(client, base, gone[:5])
        extract(client, base, datasets=DATASETS, connection_id="aha_default")
    summary = make_report(base, asked(folder, "2026-Q4", 400))
    return Path(summary["page"].replace(base.url, base.path, 1))


def clock(moment: datetime) -> Callable[[], datetime]:
    """Return a clock that stands still."""
    return lambda: moment


@contextmanager
def account_at(moment: datetime, missing: int) -> Iterator[tuple[Account, AhaClient]]:
    """Serve the account as it was at a moment, without those who came later."""
    account = Account.generate(USERS, as_of=moment)
    ids = account.user_ids
    for user_id in ids[len(ids) - missing :]:
        account.remove_user(user_id)
    with SandboxServer(account=account) as server:
        config = ClientConfig(
            server.url, ACCOUNT, server.key, requests_per_second=10_000, requests_per_minute=1_000_000
        )
        with AhaClient(config) as client:
            yield account, client


def write_roster(folder: Path, account: Account, now: datetime) -> list[str]:
    """Write down who works here, and return the ids of those who left."""
    people = [user for user in account.users() if str(user["email"]).endswith("@example.com")]
    gone = [user for user in people if user["enabled"] and user["paid_seat"] and not user["administrator"]][7::23]
    left = {user["email"]: (now - timedelta(days=9 * place + 2)).date() for place, user in enumerate(gone)}
    with (folder / "roster.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["number", "mail", "end"])
        writer.writerows([place, user["email"], left.get(user["email"])] for place, user in enumerate(people, 1))
    return [str(user["id"]) for user in gone]


def disable(client: AhaClient, base: Store, user_ids: list[str]) -> None:
    """Take access from leavers."""
    run = Run("aha_offboard_leavers", "scheduled", "deactivate", 1, "scheduled")
    decision = decide(
        client, user_ids, {"enabled": False}, action="deactivate", facts={"approved_by_name": "carla"}
    )
    carry_out(
        client,
        RunFolder(base, ACCOUNT, run),
        run,
        decision,
        caps=Caps(),
        protection=Protection(str(client.me()["id"])),
        dry_run=False,
    )


def asked(folder: Path, review_id: str, purchased: int) -> Asked:
    """Ask for a report that opens a review."""
    renewal = f"{datetime.now(UTC).year + 1}-01-31"
    terms = {"seat_price": "900 EUR", "seats_purchased": purchased, "renewal_date": renewal}
    roster = None
    path = str(folder / "roster.csv")
    if Path(path).exists():
        spec = RosterSpec(
            name="hr", key="number", emails=("mail",), domains=("example.com",), min_rows=1, end_date="end"
        )
        roster = lambda: Rosters((load_roster(spec, local_store(path)),))  # noqa: E731 (called when it is needed)
    run = Run("aha_access_review", review_id, "report", 1, "ann")
    return Asked(ACCOUNT, run, Terms.read(terms), roster, review_id=review_id)


def submit_all(base: Store, moment: datetime) -> None:
    """Submit decisions: most access is kept, some roles are to be changed by hand."""
    path = Path(base.path, Layout(ACCOUNT).review("2026-Q3"), TABLE)
    rows = list(csv.DictReader(io.StringIO(path.read_text("utf-8-sig"), newline="")))
    for place, row in enumerate(rows):
        row |= {"decision": "keep", "reviewer": "rita@example.com"}
        if ".w" in row["row_key"] and place % 300 == 100:
            row["decision"] = "downgrade" if place % 600 == 100 else "revoke role"
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]))
    writer.writeheader()
    writer.writerows(rows)
    run = Run("aha_submit_review", "manual", "submit", 1, "carla")
    submit(base, ACCOUNT, text.getvalue().encode(), run, now=lambda: moment)


def shoot(file: Path, target: Path) -> Iterator[str]:
    """Take pictures of the page, in light, in dark and on paper."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        for scheme in ("light", "dark"):
            page = open_page(browser, file, color_scheme=scheme, viewport={"width": 1280, "height": 1010})
            page.screenshot(path=target / f"{scheme}.png")
            yield f"{scheme}.png"
        page = open_page(browser, file, color_scheme="light", viewport={"width": 1280, "height": 900})
        page.locator("#reviewer").fill("rita@example.com")
        page.locator('#chips [data-chip="unused"]').click()
        page.locator("#rows tbody select >> nth=0").select_option("revoke account")
        page.evaluate("document.activeElement.blur()")
        for name in ("attention", "table", "actions", "worklist"):
            page.locator(f"#{name}").screenshot(path=target / f"{name}.png")
            yield f"{name}.png"
        page = open_page(browser, file, color_scheme="light", viewport=PAPER)
        page.emulate_media(media="print")
        # A browser adds the margins, and begins a new sheet after the charts.
        page.evaluate("document.body.style.padding = '32px 36px'")
        page.evaluate("document.querySelectorAll('#charts ~ section').forEach(one => (one.hidden = true))")
        end = page.locator("#charts").evaluate("charts => charts.getBoundingClientRect().bottom")
        page.screenshot(
            path=target / "paper.png", clip={"x": 0, "y": 0, "width": PAPER["width"], "height": end + 32}
        )
        yield "paper.png"
        browser.close()


def open_page(browser: Any, file: Path, **options: Any) -> Any:
    """Open the page and wait until it is drawn."""
    page = browser.new_context(**options).new_page()
    page.goto(file.as_uri())
    page.locator("#rows tbody tr[data-key]").first.wait_for()
    page.evaluate("document.fonts.ready")
    return page


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--target", type=Path, default=ROOT / "docs" / "images", help="where the pictures go")
    gallery(parser.parse_args().target)
