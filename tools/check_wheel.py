"""`make test-wheel`: what users install is what they should get.

Builds the sdist, the wheel from it and the wheel from the tree; looks into them; installs them on every
supported Airflow, and asks Airflow about the provider and, from 3.3 on, about the bundle of example DAGs.
"""

import argparse
import json
import os
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
NAME = "airflow-provider-aha"
BUNDLE = f"{NAME}-example-dags"


def run(*command: object, **environment: str) -> str:
    """Run a command to its end and return what it printed; end with one sentence where it fails."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("AIRFLOW_")}
    words = [str(word) for word in command]
    done = subprocess.run(words, cwd=ROOT, env=clean | environment, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{done.stdout}{done.stderr}\nFailed: `{' '.join(words)}` ended with {done.returncode}.")
    return done.stdout


def check(fact: object, complaint: str) -> None:
    """End with one sentence unless the fact holds."""
    if not fact:
        sys.exit(f"Failed: {complaint}.")


def tree(folder: str) -> set[str]:
    """Return the files of a folder that belong to the project."""
    paths = (ROOT / folder).rglob("*")
    return {
        path.relative_to(ROOT).as_posix() for path in paths if path.is_file() and "__pycache__" not in path.parts
    }


def build(uv: Path, out: Path) -> tuple[Path, Path]:
    """Build sdist and wheel; check that one wheel comes out of both the tree and the sdist."""
    constraints = ROOT / "constraints" / "airflow-3.3.2.txt"
    common = ("--quiet", "--python", sys.executable, "--build-constraint", constraints)
    run(uv, "build", *common, "--out-dir", out)
    run(uv, "build", *common, "--wheel", "--out-dir", out / "tree")
    (wheel,), (sdist,), (direct,) = out.glob("*.whl"), out.glob("*.tar.gz"), (out / "tree").glob("*.whl")
    check(
        wheel.read_bytes() == direct.read_bytes(),
        "the wheel built from the sdist is not the one built from the tree",
    )
    return wheel, sdist


def look_into(wheel: Path, sdist: Path) -> None:
    """Check which files are in the wheel and in the sdist."""
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
        entry_points = next(name for name in archive.namelist() if name.endswith(".dist-info/entry_points.txt"))
        check(b"[apache_airflow_provider]" in archive.read(entry_points), "the wheel has no provider entry point")
        check(any(".dist-info/licenses/LICENSE" in name for name in archive.namelist()), "the wheel has no LICENSE")
    dags = {name.replace("dags/", "airflow_provider_aha/example_dags/", 1) for name in tree("dags")}
    wanted = tree("airflow_provider_aha") | dags
    check(dags, "there are no example DAGs")
    check(names == wanted, f"the wheel's files are not those of the tree: {sorted(names ^ wanted)}")
    with tarfile.open(sdist) as archive:
        packed = {name.partition("/")[2] for name in archive.getnames()}
    for folder in ("airflow_provider_aha", "constraints", "dags", "tests", "tools"):
        check(tree(folder) <= packed, f"the sdist lacks {sorted(tree(folder) - packed)}")


def ask_airflow(version: str, artefact: Path, uv: Path, venv: Path) -> None:
    """Install the wheel or sdist beside one version of Airflow and have Airflow describe the provider."""
    python, airflow = venv / "bin" / "python", venv / "bin" / "airflow"
    constraints = ROOT / "constraints" / f"airflow-{version}.txt"
    pins = ("--constraint", constraints, "--build-constraint", constraints)
    if not python.exists():
        run(uv, "venv", "--quiet", "--python", sys.executable, venv)
    run(uv, "pip", "install", "--quiet", "--python", python, *pins, "--reinstall-package", NAME, artefact)
    run(uv, "pip", "check", "--quiet", "--python", python)
    with tempfile.TemporaryDirectory() as home:
        told = run(airflow, "providers", "get", NAME, "--full", "--output", "json", AIRFLOW_HOME=home)
        check(
            "airflow_provider_aha.hooks.aha.AhaHook" in told, f"Airflow {version} does not know the hook:\n{told}"
        )
        print(f"  Airflow {version}: {artefact.name} installed, provider described", flush=True)
        if artefact.suffix == ".whl" and tuple(map(int, version.split(".")[:2])) >= (3, 3):
            list_bundle(version, airflow, home)


def list_bundle(version: str, airflow: Path, home: str) -> None:
    """Check that Airflow lists the wheel's DAGs as a bundle, and the same as from the tree."""
    env = {"AIRFLOW_HOME": home, "AIRFLOW__CORE__DAGS_FOLDER": str(ROOT / "dags")}
    run(airflow, "db", "migrate", AIRFLOW__CORE__LOAD_EXAMPLES="False", **env)
    found: dict[str, set[str]] = {}
    for bundle in ("dags-folder", BUNDLE):
        listing = ("dags", "list", "--local", "--output", "json", "--bundle-name", bundle)
        printed = run(airflow, *listing, AIRFLOW__CORE__LOAD_EXAMPLES="True", **env)
        found[bundle] = {dag["dag_id"] for dag in json.loads(printed[printed.index("[{") :])}
    check(found[BUNDLE] == found["dags-folder"], f"the bundle's DAGs are not those of dags/: {found}")
    print(f"  Airflow {version}: bundle {BUNDLE} has {', '.join(sorted(found[BUNDLE]))}", flush=True)


def main() -> None:
    """Check everything."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("versions", nargs="+", help="versions of Airflow, the newest last")
    parser.add_argument("--uv", type=Path, required=True)
    parser.add_argument("--venv", type=Path, required=True, help="where environments are kept")
    arguments = parser.parse_args()
    uv = arguments.uv.absolute()
    with tempfile.TemporaryDirectory() as folder:
        wheel, sdist = build(uv, Path(folder))
        look_into(wheel, sdist)
        print(f"  {wheel.name} and {sdist.name} have the files they should", flush=True)
        for version in arguments.versions:
            ask_airflow(version, wheel, uv, arguments.venv.absolute() / f"wheel-{version}")
            ask_airflow(version, sdist, uv, arguments.venv.absolute() / f"wheel-{version}")


if __name__ == "__main__":
    main()
