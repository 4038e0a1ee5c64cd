"""The page in a real browser: Debian's Chromium, driven by Playwright."""

import csv
import http.server
import io
import json
import threading
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_aha.record.run import Run
from airflow_provider_aha.review.submission import submit
from airflow_provider_aha.sandbox.account import Account

OWN = ("file:", "data:", "blob:", "http://127.0.0.1:")
A4_LANDSCAPE = {"width": 1039, "height": 718}  # in pixels, without the margins


@pytest.fixture(scope="module")
def reviewed(make_desk: Callable[[Path], Any], tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A desk with an open review; not to be written to."""
    desk = make_desk(tmp_path_factory.mktemp("reviewed"))
    desk.report("2026-Q4")
    return desk


@pytest.fixture
def page_of(chromium: Any) -> Iterator[Callable[..., Any]]:
    """Call it with a file to open it; what it logs, asks of the network or says in a dialog fails the test."""
    contexts: list[Any] = []
    wrong: list[str] = []

    def open_page(file: Path | str, scheme: str = "light", **options: Any) -> Any:
        context = chromium.new_context(
            **{"viewport": {"width": 1440, "height": 1000}, "color_scheme": scheme, **options}
        )
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: wrong.append(message.text))
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("dialog", lambda dialog: wrong.append(dialog.message))
        page.on("request", lambda one: wrong.extend([] if one.url.startswith(OWN) else [one.url]))
        page.goto(Path(file).as_uri() if isinstance(file, Path) else file)
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert wrong == []


@pytest.fixture
def page(page_of: Callable[..., Any], reviewed: Any) -> Any:
    return page_of(page_file(reviewed))


def page_file(desk: Any) -> Path:
    found: Path = desk.folder / "aha/reports/account=acme/snapshot=2026-11-20/access_review.html"
    return found


def figures_of(desk: Any) -> dict[str, Any]:
    return dict(json.loads(page_file(desk).with_name("access_summary.json").read_text("utf-8"))["figures"])


def rows_of(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text.removeprefix("\ufeff"), newline="")))


def written(desk: Any) -> list[dict[str, str]]:
    return rows_of(page_file(desk).with_name("access_review.csv").read_text("utf-8"))


def download(page: Any, button: str) -> Path:
    with page.expect_download() as found:
        page.locator(button).click()
    return Path(found.value.path())


def shown(page: Any) -> int:
    return int(page.locator("#shown").inner_text().split(" ")[0].replace(",", ""))


# --- what is seen --------------------------------------------------------------------------------


def test_charts_are_drawn_and_say_their_numbers(page, reviewed):
    figures = figures_of(reviewed)
    labels = [page.locator(f"#chart-{name} svg").get_attribute("aria-label") for name in ("seats", "trend", "heat")]
    assert labels[0].startswith(f"Paid seats: Active {figures['seats_by_activity']['active']}, ")
    assert labels[1] == (
        f"Seats over 3 snapshots. Now {figures['seats_in_use']} in use, {figures['seats_unused']} of them unused."
    )
    assert page.locator("#chart-heat svg rect").count() > 50
    marks = page.locator("#chart-seats svg text").all_text_contents()
    assert str(figures["seats_by_activity"]["active"]) in marks
    assert sum(int(mark.replace(",", "")) for mark in marks) == figures["seats_in_use"] + figures["seats_free"]


def test_tiles_say_what_the_json_says(page, reviewed):
    figures = figures_of(reviewed)
    for name in ("seats_in_use", "leavers", "administrators", "never_seen_long"):
        value = page.locator(f'[data-figure="{name}"] .value span').inner_text()
        assert value == f"{figures[name]:,}"
    money = page.locator('[data-figure="seats_reclaimable"]').inner_text()
    assert f"{figures['reclaimable_a_year']:,.0f}" in money
    assert "Not yet saved" in money


def test_the_whole_story_fits_on_the_first_printed_page(page):
    page.set_viewport_size(A4_LANDSCAPE)
    page.emulate_media(media="print")
    charts = page.locator("#charts").bounding_box()
    assert charts["y"] + charts["height"] <= A4_LANDSCAPE["height"]
    assert page.evaluate("getComputedStyle(document.querySelector('#attention')).breakBefore") == "page"
    assert not page.locator("#grid").is_visible()
    manifest = page.locator("#appendix details pre")
    assert not manifest.is_visible()
    page.evaluate("window.dispatchEvent(new Event('beforeprint'))")
    assert '"total_records_last": 500' in manifest.inner_text()
    assert page.locator("#printed tbody tr").count() == 400
    assert "more rows are in access_review.csv" in page.locator("#printed").inner_text()
    page.evaluate("window.dispatchEvent(new Event('afterprint'))")
    assert not manifest.is_visible()


def test_dark_is_dark(page_of, reviewed):
    colours = [
        page_of(page_file(reviewed), scheme).evaluate("getComputedStyle(document.body).backgroundColor")
        for scheme in ("light", "dark")
    ]
    assert colours == ["rgb(246, 247, 249)", "rgb(14, 19, 25)"]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing(page_of, reviewed, scheme):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe is not installed").Axe()
    page = page_of(page_file(reviewed), scheme)
    page.locator("details summary").click()
    results = axe.run(page)
    found = [(one["id"], node["html"][:200]) for one in results.response["violations"] for node in one["nodes"]]
    assert found == []


# --- the table -----------------------------------------------------------------------------------


def test_only_rows_in_sight_exist_and_scrolling_brings_the_others(page, reviewed):
    assert shown(page) == len(written(reviewed))
    rows = page.locator("#rows tbody tr[data-key]")
    assert rows.count() < 40
    page.locator("#grid").evaluate("grid => { grid.scrollTop = grid.scrollHeight; }")
    page.wait_for_function(
        "key => document.querySelector(`[data-key='${key}']`)", arg=written(reviewed)[-1]["row_key"]
    )
    assert rows.count() < 40


def test_search_and_filters_agree_with_the_table_beside_it(page, reviewed):
    rows = written(reviewed)
    page.locator("#search").fill("SMITH")
    expected = [
        row for row in rows if "smith" in f"{row['person']} {row['email']} {row['workspace']} {row['role']}".lower()
    ]
    assert shown(page) == len(expected) > 0
    page.locator('[data-filter="role"]').select_option("Viewer")
    expected = [row for row in expected if row["role"] == "Viewer"]
    assert shown(page) == len(expected) > 0
    page.locator("#clear").click()
    assert shown(page) == len(rows)
    page.locator('#chips [data-chip="leaver"]').click()
    assert len({row["email"] for row in rows_of(download(page, "#export").read_text("utf-8"))}) == 4
    page.locator("#search").fill("nobody has this name")
    assert page.locator("#rows .none").inner_text() == "No row fits these filters."


def test_the_address_keeps_the_filter(page, page_of):
    page.locator('#chips [data-chip="unused"]').click()
    page.locator('[data-filter="role"]').select_option("Contributor")
    page.locator("#search").fill("a")
    count = shown(page)
    again = page_of(page.url)
    assert shown(again) == count
    assert again.locator("#search").input_value() == "a"
    assert again.locator('#chips [data-chip="unused"]').get_attribute("aria-pressed") == "true"
    page.goto(f"{page.url.partition('#')[0]}#chip=nonsense&role=nonsense")
    page.reload()
    assert shown(page) > count


def test_sorting_by_a_click_and_back(page):
    head = page.locator("#rows th", has_text="Last seen")
    first = page.locator("#rows tbody tr[data-key] >> nth=0")
    head.locator("button").click()
    assert head.get_attribute("aria-sort") == "ascending"
    assert "Active" in first.inner_text()
    head.locator("button").click()
    assert head.get_attribute("aria-sort") == "descending"
    assert "Never seen" in first.inner_text()


def test_the_first_rows_are_of_those_who_need_attention_and_a_click_orders_by_name(page, reviewed):
    first = page.locator("#rows tbody tr[data-key] >> nth=0")
    assert "warm" in first.get_attribute("class")
    assert first.inner_text().splitlines()[0].removeprefix("Admin ") == written(reviewed)[0]["person"]
    head = page.locator("#rows th", has_text="Person")
    head.locator("button").click()
    names = sorted({row["person"] for row in written(reviewed) if row["person"][:1].isalpha()}, key=str.lower)
    assert names[0] in first.inner_text()
    head.locator("button").click()
    last = first.inner_text().splitlines()[0]
    assert not last[:1].isalpha()


def test_it_can_be_used_by_keyboard_alone(page):
    page.locator("#search").focus()
    page.keyboard.type("smith")
    for _ in range(30):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.id") == "grid":
            break
    assert page.evaluate("document.activeElement.id") == "grid"
    page.keyboard.press("PageDown")
    page.wait_for_function("() => document.getElementById('grid').scrollTop > 0")
    page.locator("#rows tbody tr[data-key] select >> nth=2").focus()
    page.keyboard.press("ArrowDown")
    assert page.evaluate("document.activeElement.value") == "keep"
    assert page.evaluate("document.activeElement.tagName") == "SELECT"


def test_attention_leads_to_the_rows(page):
    page.locator('#attention [data-chip="same_email"]').click()
    assert page.locator('#chips [data-chip="same_email"]').get_attribute("aria-pressed") == "true"
    assert page.evaluate("document.activeElement.id") == "grid"


# --- files ---------------------------------------------------------------------------------------


def test_export_without_filter_is_the_csv_beside_the_page(page, reviewed):
    assert download(page, "#export").read_bytes() == page_file(reviewed).with_name("access_review.csv").read_bytes()


def test_export_is_what_is_shown(page, reviewed):
    page.locator('[data-filter="workspace"]').select_option(index=3)
    page.locator("#rows th button >> nth=2").click()
    rows = rows_of(download(page, "#export").read_text("utf-8"))
    assert len(rows) == shown(page)
    assert len({row["workspace"] for row in rows}) == 1
    keys = {row["row_key"] for row in written(reviewed)}
    assert {row["row_key"] for row in rows} < keys


def test_decisions_of_the_page_can_be_submitted(page_of, desk):
    desk.report("2026-Q4")
    page = page_of(page_file(desk))
    assert page.locator("#submit").is_disabled()
    page.locator("#reviewer").fill("Rita Reviewer")
    page.locator("#bulk").select_option("keep")
    page.locator("#bulk-apply").click()
    assert page.locator("#decided").inner_text() == "All rows are decided"
    page.locator("#search").fill("smith")
    row = page.locator("#rows tbody tr[data-key] >> nth=0")
    key = row.get_attribute("data-key").partition(".")[0]
    row.locator("select").select_option("revoke account")
    row.locator("input >> nth=1").fill("=left; gone")
    file = download(page, "#submit")
    rows = rows_of(file.read_text("utf-8"))
    lost = {row["row_key"] for row in rows if row["decision"] == "revoke account"}
    assert lost == {row["row_key"] for row in rows if row["row_key"].startswith(f"{key}.")}
    run = Run("aha_submit_review", "s1", "submit", 1, "carla")
    record = submit(desk.location, "acme", file.read_bytes(), run, now=lambda: desk.now + timedelta(hours=1))
    assert record["revoke_accounts"] == [key[1:]]
    assert record["rows"] == len(rows) == len(written(desk))


def test_what_contradicts_is_open_again_and_undo_undoes(page, reviewed):
    page.locator("#bulk").select_option("keep")
    page.locator("#bulk-apply").click()
    page.locator("#bulk-undo").click()
    total = page.locator("#decided").inner_text()
    assert total.endswith("rows undecided")
    emails = [row["email"] for row in written(reviewed)]
    page.locator("#search").fill(next(one for one in emails if "@" in one and emails.count(one) > 1))
    selects = page.locator("#rows tbody select")
    assert selects.count() > 1
    selects.nth(0).select_option("revoke account")
    assert {select.input_value() for select in selects.all()} == {"revoke account"}
    selects.nth(1).select_option("keep")
    assert [select.input_value() for select in selects.all()] == [
        "", "keep", *[""] * (selects.count() - 2)
    ]  # fmt: skip


def test_decisions_outlive_a_reload(page):
    page.locator("#rows tbody select >> nth=0").select_option("keep")
    page.reload()
    assert page.locator("#rows tbody select >> nth=0").input_value() == "keep"


def test_a_page_in_a_sandbox_works_too(page_of, reviewed):
    """As the plugin serves it: an origin of its own, which keeps nothing and may not change its address."""
    headers = pytest.importorskip("airflow_provider_aha.plugins.reports_app")._HEADERS

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            for name, value in {**headers, "Content-Type": "text/html; charset=utf-8"}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(page_file(reviewed).read_bytes())

        def log_request(self, *_: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    try:
        page = page_of(f"http://127.0.0.1:{server.server_port}/")
        assert page.evaluate("origin") == "null"
        page.locator('#chips [data-chip="leaver"]').click()
        assert page.url.endswith("#chip=leaver")
        assert len(rows_of(download(page, "#export").read_text("utf-8"))) == shown(page)
        page.locator("#rows tbody select >> nth=0").select_option("keep")
        assert "undecided" in page.locator("#decided").inner_text()
        page.locator("#bulk").select_option("keep")
        page.locator("#bulk-apply").click()
    finally:
        server.shutdown()
        server.server_close()


# --- sizes and strangers -------------------------------------------------------------------------


def test_hostile_names_are_text(page_of, hostile_desk):
    summary = hostile_desk.report("r1")
    page = page_of(Path(summary["page"]))
    names = page.locator("#rows tbody td:first-child div:first-child").all_inner_texts()
    assert '<script>alert("x")</script>' in names
    assert "{{ 7 * 7 }}{% for x in y %}" in names
    assert "nul\ufffdbyte" in names
    assert "\ufffdgnp.exe" in names
    for name in ("</script><img src=x onerror=alert(1)>", "a;=1+1", "{{ 7"):
        page.locator("#search").fill(name)
        assert shown(page) == 1
    page.locator("#clear").click()
    page.locator("#reviewer").fill("<b>Rita")
    page.locator("#bulk").select_option("keep")
    page.locator("#bulk-apply").click()
    file = download(page, "#submit")
    run = Run("aha_submit_review", "s1", "submit", 1, "carla")
    record = submit(hostile_desk.location, "acme", file.read_bytes(), run, now=lambda: hostile_desk.now)
    assert record["reviewed"] == summary["figures"]["rows"]
    assert page.locator("img").count() == 0


@pytest.mark.parametrize("users", [0, 1])
def test_nobody_and_somebody(page_of, small, someone, users):
    """An account always has one user; here that is somebody who is disabled, or not."""
    desk = small([someone(10, "Ada", enabled=users == 1, paid_seat=users == 1)])
    page = page_of(Path(desk.report("r1", seats_purchased=None)["page"]))
    assert shown(page) == users
    assert page.locator("#charts .nothing").count() == (1 if users else 3)
    assert "trend needs two" in page.locator("#chart-trend").inner_text()
    assert page.locator("#attention .nothing").count() == 1
    assert len(rows_of(download(page, "#export").read_text("utf-8"))) == users


@pytest.mark.slow
def test_twenty_thousand_users(page_of, large_desk):
    summary = large_desk.report()
    file = Path(summary["page"])
    assert summary["figures"]["rows"] > 60_000
    assert file.stat().st_size < 8_000_000
    page = page_of(file)
    assert shown(page) == summary["figures"]["rows"]
    for name, value in (("search", "smith"), ("search", "e"), ("role", "Viewer"), ("chip", "unused"), ("", "")):
        # The quickest of a few: what the page needs, whatever else the machine does.
        best = min(page.evaluate(CHOOSE, [name, value]) for _ in range(5))
        assert best < 100, (name, value)


# Uses a filter, and says how many milliseconds the page was busy with it.
CHOOSE = """([name, value]) => {
  const begun = performance.now();
  if (name === "search") {
    const box = document.getElementById("search");
    box.value = value;
    box.dispatchEvent(new Event("input"));
  } else if (name === "role") {
    const list = document.querySelector("[data-filter=role]");
    list.value = value;
    list.dispatchEvent(new Event("change"));
  } else if (name === "chip") {
    document.querySelector(`#chips [data-chip=${value}]`).click();
  } else {
    document.getElementById("clear").click();
  }
  document.body.offsetHeight;
  return performance.now() - begun;
}"""


@pytest.fixture(scope="module")
def large_desk(make_desk: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory) -> Any:
    desk = make_desk(tmp_path_factory.mktemp("large"), copied=False)
    moment = desk.now - timedelta(hours=1)
    desk.extract(Account.generate(20_000, as_of=moment), moment)
    return desk
