"""What `make test` does: it uses all cores, and says before how long it takes and what it skips."""

import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tools import local, test_needs
from tools.up import FIRST, first_steps

ROOT = Path(__file__).parents[1]


def recipe(target: str) -> str:
    """Return the commands of a target of the Makefile, as `make` would run them."""
    found = re.search(rf"^{target}:.*\n((?:\t.*\n)+)", (ROOT / "Makefile").read_text(), re.M)
    assert found, target
    return found[1]


@pytest.mark.parametrize("target", ["test", "test-airflow-%"])
def test_tests_use_all_cores_and_more_arguments_come_last(target):
    """A later `-n` replaces an earlier one, so that somebody can debug in one process."""
    assert "-m pytest -n auto --dist loadfile $(ARGS)" in recipe(target)


def test_make_test_says_first_what_is_ahead():
    assert recipe("test").splitlines()[0] == "\t@$(BIN)/python -m tools.test_needs"


def test_what_is_ahead_depends_on_the_cores_and_names_what_is_missing(monkeypatch, tmp_path):
    lacking = test_needs.Package("cowsay", "no-such-program", "what a cow says")
    here = test_needs.Package("coreutils", "true", "what is so")
    monkeypatch.setattr(test_needs, "PACKAGES", (here, lacking))
    text = "\n".join(test_needs.ahead(2))
    assert f"{test_needs.CORE_MINUTES // 2} minutes on 2 cores" in text
    assert "cowsay  what a cow says" in text
    assert text.endswith("apt-get install cowsay")
    monkeypatch.setattr(test_needs, "PACKAGES", (here,))
    assert "Nothing is skipped" in "\n".join(test_needs.ahead(2))


def test_a_program_is_found_in_its_own_folder(tmp_path, monkeypatch):
    program = tmp_path / "14" / "bin" / "postgres"
    program.parent.mkdir(parents=True)
    program.touch(mode=0o755)
    folders = str(tmp_path.relative_to("/") / "*" / "bin")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert test_needs.Package("postgresql", "postgres", "", folders).installed
    assert not test_needs.Package("postgresql", "postgres", "").installed


def test_ci_installs_what_the_tests_need_by_the_same_list():
    """It asks before there is an environment: any Python must be able to answer."""
    script = (ROOT / ".ci" / "run").read_text()
    assert "python3 -m tools.test_needs --missing" in script
    assert not [package.name for package in test_needs.PACKAGES if package.name in script]
    done = subprocess.run(
        [sys.executable, "-I", "-S", str(ROOT / "tools" / "test_needs.py"), "--missing"],
        env={"PATH": "/nowhere"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert set(done.stdout.split()) <= {package.name for package in test_needs.PACKAGES}
    assert "libreoffice-calc" in done.stdout


def test_every_package_is_what_a_skipped_test_asks_for():
    skips = "\n".join(path.read_text() for path in (ROOT / "tests").rglob("*.py") if path != Path(__file__))
    for package in test_needs.PACKAGES:
        assert re.search(rf'["/]{Path(package.program).name}["\s]', skips), package


def test_contributing_names_the_packages():
    page = (ROOT / "CONTRIBUTING.md").read_text()
    names = re.findall(r"`apt-get install ([\w\- ]+)`", page)
    assert {package.name for package in test_needs.PACKAGES} <= {name for found in names for name in found.split()}


# --- make up -------------------------------------------------------------------------------------


def test_make_up_names_what_is_there():
    """DAGs as the list shows them, the link of the plugin, the buttons of the tasks, the fields of the form."""
    from airflow_provider_aha.operators.links import AccessReportLink, AhaLink
    from airflow_provider_aha.plugins import reports

    text = " ".join(first_steps("http://127.0.0.1:8080", ".demo/up/aha", sandbox=True).split())
    dags = "\n".join(path.read_text() for path in (ROOT / "dags").glob("*.py"))
    shown = re.findall(r'Run "(Aha! – .+?)"', text)
    for dag_id, name in zip(FIRST, shown, strict=True):
        assert f'dag_id="{dag_id}",\n    dag_display_name="{name}",' in dags
    assert f"button {AccessReportLink.name} " in text
    assert f"button {AhaLink.name} " in text
    (link,) = re.findall(r"Browse > (.+?)\. ", text)
    assert f'"name": "{link}"' in Path(reports.__file__).read_text()
    for task_id in ("report", "preview"):
        assert f'task "{task_id}"' in text


@pytest.mark.parametrize(("sandbox", "who"), [(True, "you may answer it yourself"), (False, "a second person")])
def test_make_up_says_who_may_answer(sandbox, who):
    assert who in first_steps("http://127.0.0.1:8080", "aha", sandbox=sandbox)


def test_a_second_signal_does_not_break_off_the_tidying_up():
    """Else sandbox and Airflow would go on running, and keep their ports."""
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = {number: signal.getsignal(number) for number in numbers}
    try:
        for number in numbers:
            signal.signal(number, local._interrupt)
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGTERM)
        for number in numbers:
            signal.raise_signal(number)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
