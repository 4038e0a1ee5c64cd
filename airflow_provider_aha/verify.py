"""Say whether anything in the record of deactivations and reviews was changed, removed or added."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from airflow_provider_aha.exceptions import AhaError
from airflow_provider_aha.hooks.paths import resolve_path


def main(arguments: list[str] | None = None) -> int:
    """Check every account below a base path.

    :param arguments: the command line; that of the process when left out.
    :return: 0 when the record is as it was written, 1 when not, 2 when there is none or it can't be read.
    """
    parser = argparse.ArgumentParser(prog="python -m airflow_provider_aha.verify", description=__doc__)
    parser.add_argument("path", help="the base path, local or a URL; or one account's folder below it")
    options = parser.parse_args(arguments)
    try:
        return _verify(options.path)
    except AhaError as error:
        print(error, file=sys.stderr)
        return 2


def _verify(given: str) -> int:
    from airflow_provider_aha.record.chain import pruned_up_to, verify
    from airflow_provider_aha.review.records import verify_reviews
    from airflow_provider_aha.store.store import is_there

    location = resolve_path(given if "://" in given else str(Path(given).absolute()))
    fs, path = location.fs, location.path
    name = path.rpartition("/")[2]
    if name.startswith("account="):
        accounts, reviewed = [path] if is_there(fs, path) else [], []
    else:
        accounts, reviewed = (_accounts(fs, f"{path}/{kind}") for kind in ("deactivations", "reviews"))
    if not accounts and not reviewed:
        print(f"There is no record below {given}.", file=sys.stderr)
        return 2
    for account in accounts:
        if (last := pruned_up_to(fs, account)) is not None:
            print(f"{account}: manifests up to {last}, and what they named, were deleted by a prune.")
    findings = [f"{account}: {finding}" for account in accounts for finding in verify(fs, account)]
    for folder in reviewed:
        findings += verify_reviews(location, folder.rpartition("account=")[2])
    for finding in findings:
        print(finding)
    names = {folder.rpartition("/")[2] for folder in (*accounts, *reviewed)}
    print(f"{len(names)} account(s), {len(findings)} finding(s).")
    return 1 if findings else 0


def _accounts(fs: Any, folder: str) -> list[str]:
    from airflow_provider_aha.store.store import names_in

    return [f"{folder}/{name}" for name in sorted(names_in(fs, folder)) if name.startswith("account=")]


if __name__ == "__main__":
    sys.exit(main())
