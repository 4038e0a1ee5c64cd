"""Say whether anything in the records of plans, writes and reviews was changed, removed or added."""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from airflow_provider_aha.exceptions import AhaError
from airflow_provider_aha.hooks.paths import resolve_path

if TYPE_CHECKING:
    from airflow_provider_aha.record.check import Chain
    from airflow_provider_aha.store.store import Store

_KEPT = re.compile(r"(?:(?P<account>[^=]+)=)?(?P<hash>[0-9a-fA-F]{64})")

# What the folders inside of a base path hold. There would be no records below them, and nothing to find.
_INSIDE = ("account=", "dag=", "run=", "task=", "snapshot=", "review=")


def main(arguments: list[str] | None = None) -> int:
    """Check every account below a base path, and print where each chain ends.

    :param arguments: the command line; that of the process when left out.
    :return: 0 when the records are as they were written, also where there are none yet; 1 when something was found,
        or there is nothing at the path; 2 when the records can't be read, or an argument can't be right.
    """
    parser = argparse.ArgumentParser(prog="python -m airflow_provider_aha.verify", description=__doc__)
    parser.add_argument("path", help="the base path, local or a URL; or one account's folder below it")
    parser.add_argument(
        "--expect",
        action="append",
        default=[],
        metavar="[ACCOUNT=]HASH",
        help="a newest hash that was printed or logged before and kept elsewhere; once for each account",
    )
    options = parser.parse_args(arguments)
    try:
        return _verify(options.path, options.expect)
    except AhaError as error:
        print(error, file=sys.stderr)
        return 2


def _verify(given: str, expected: Sequence[str]) -> int:
    from airflow_provider_aha.record.check import accounts_of, check

    kept = [_KEPT.fullmatch(text) for text in expected]
    for text, match in zip(expected, kept, strict=True):
        if match is None:
            print(f"{text!r} is not a hash: --expect takes [ACCOUNT=] and 64 hexadecimal digits.", file=sys.stderr)
            return 2
    location = resolve_path(given if "://" in given else str(Path(given).absolute()))
    if not location.exists():
        print(f"There is nothing at {given}: is the path right?", file=sys.stderr)
        return 1
    location, only = _split(location)
    if only is None and any(name.startswith(_INSIDE) for name in location.names()):
        print(
            f"{given} lies inside of a base path: give the base path itself, or one account's folder.",
            file=sys.stderr,
        )
        return 2
    accounts, beside = ([only], []) if only else accounts_of(location)
    if not accounts and not beside:
        print(f"There are no records below {given}: nothing was planned, asked or done yet.")
    chains = {account: check(location, account) for account in accounts}
    hashes = [(match["account"], match["hash"].lower()) for match in kept if match]
    notes, findings = _compare(chains, [one for one in hashes if only in (None, one[0]) or one[0] is None])
    if only is None:
        notes += [f"{name}: there are snapshots, but no records." for name in _without_records(location, accounts)]
    for account, chain in chains.items():
        notes += [f"{account}: {note}" for note in chain.notes]
        findings += [f"{account}: {finding}" for finding in chain.findings]
    findings += map(str, beside)
    for line in (*notes, *findings, *(f"{name}: {_newest(name, chain)}" for name, chain in chains.items())):
        print(line)
    print(f"{len(accounts)} account(s), {len(findings)} finding(s).")
    return 1 if findings else 0


def _split(location: Store) -> tuple[Store, str | None]:
    """Return the base path and, where the path is one account's folder, the account."""
    from airflow_provider_aha.store.layout import RECORDS

    pattern = rf"(.*)/(?:{'|'.join(RECORDS)})/account=([^/]+)"
    match = re.fullmatch(pattern, location.url)
    return (location.folder.folder, match[2]) if match else (location, None)


def _without_records(location: Store, accounts: Sequence[str]) -> Iterator[str]:
    for name in sorted(location.names("manifests")):
        if name.startswith("account=") and (account := name.removeprefix("account=")) not in accounts:
            yield account


def _newest(account: str, chain: Chain) -> str:
    if not chain.manifests:
        return "there is no manifest."
    head = chain.manifests[-1]
    if head.sha256 is None:
        return f"the newest is {head.name}, which can't be read."
    return f"the newest is {head.name}. Keep its hash elsewhere: --expect {account}={head.sha256}"


def _compare(chains: Mapping[str, Chain], kept: Sequence[tuple[str | None, str]]) -> tuple[list[str], list[str]]:
    """Compare the chains with hashes that were kept elsewhere; return what to know, and what was found."""
    notes, findings = [], []
    for account, digest in kept:
        names = list(chains) if account is None else [account]
        if account is not None and account not in chains:
            findings.append(f"{account}: the account was removed: a hash of it was kept, but it has no record.")
        elif said := [line for name in names for line in _since(name, chains[name], digest)]:
            notes += said
        else:
            what = "in no chain" if account is None else f"not in the chain of {account}"
            why = "its end was cut off or made anew, or an older state was restored"
            findings.append(f"The kept hash {digest} is {what}: {why}.")
    if kept and all(account for account, _ in kept):
        new = [name for name in chains if name not in dict(kept)]
        notes += [f"{name}: no hash of it was kept: it is new since, or its hash wasn't given." for name in new]
    return notes, findings


def _since(account: str, chain: Chain, digest: str) -> list[str]:
    """Say what came after the manifest with a kept hash; nothing where the chain doesn't hold it."""
    number = next((one.number for one in chain.manifests if one.sha256 == digest), None)
    if number is None and digest not in chain.pruned_hashes():
        return []
    later = [one for one in chain.manifests if one.number > (number or 0)]
    said = [f"{account}: {len(later)} manifest(s) newer than the kept one."]
    if number is None:
        said.append(f"{account}: the kept manifest was pruned.")
    for manifest, pruned in chain.prunes():
        if manifest in later:
            said.append(f"{account}: pruned, since the kept hash, up to {pruned['name']}: {manifest.name} says so.")
    return said


if __name__ == "__main__":
    sys.exit(main())
