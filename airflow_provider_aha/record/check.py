"""Recomputing the chain of an account: what was changed, removed or added, and where the chain ends."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from airflow_provider_aha.common.moments import moment_of
from airflow_provider_aha.common.text import visible
from airflow_provider_aha.exceptions import AhaConfigurationError, AhaSnapshotError
from airflow_provider_aha.record import evidence
from airflow_provider_aha.record.chain import ANCHOR, LARGEST, PRUNED, Record, manifest_name, number_of
from airflow_provider_aha.store.layout import RECORDS, Layout
from airflow_provider_aha.store.store import FILE, LINK, Store, StoredEntry, parse_record, sealed, sha256

# What a finding is about.
CHANGED, REMOVED, ADDED, LINKED = "changed", "removed", "added", "linked"
BROKEN, UNREADABLE, ACCOUNT = "broken", "unreadable", "account"

# Plans and caps count on what the last weeks say, so no prune may take what is younger.
LEAST_DAYS = 90
_IN_NO_MANIFEST = "is in no manifest: it was added, or the task that wrote it is still running, or died."
_BESIDE = "lies beside the chain: whatever it says counts for nothing."
_IS_LINK = "is a link: what lies behind it can be exchanged."
_EVENT = re.compile(r"(?P<folder>.+)/events/[^/]+/(?P<try>\d+)-[^/]+")
# So many manifests are read at once.
_AT_ONCE = 64
# Bytes: no copy of a snapshot is larger, and a file that only says so would be read for hours.
_LARGEST = 4 * 1024**3


@dataclass(frozen=True)
class Finding:
    """Something that is not as it was written.

    :param kind: ``changed``, ``removed``, ``added``, ``linked``, ``broken``, ``unreadable`` or ``account``.
    :param name: what it is about.
    :param what: what was found, to be read after the name.
    """

    kind: str
    name: str
    what: str

    def __str__(self) -> str:
        """Return it as a sentence in which no character hides."""
        return visible(f"{self.name} {self.what}")


@dataclass(frozen=True)
class Manifest:
    """A manifest of the chain.

    :param number: its number.
    :param sha256: hash of its bytes; None where it is too large to be one.
    :param content: what it says; empty where that can't be read.
    """

    number: int
    sha256: str | None
    content: Mapping[str, Any] = field(repr=False)

    @property
    def name(self) -> str:
        """What findings call it."""
        return _manifest(self.number)

    @property
    def files(self) -> Mapping[str, str]:
        """Hash by name of the files that it vouches for."""
        return dict(self.content.get("files", {}))


@dataclass
class Chain:
    """The manifests of an account, each checked against the one before it.

    :param manifests: them, oldest first; those included that a prune has begun to delete.
    :param anchor: number and hash of the last one that a prune has deleted, or is deleting; None without a prune.
    :param findings: what doesn't hold.
    :param notes: what somebody who verifies should know, though it is right.
    :param files: hash by name of all files that the manifests vouch for.
    :param leaving: the same of manifests that a prune is deleting: their files may be there, or not.
    """

    manifests: list[Manifest] = field(default_factory=list)
    anchor: tuple[int, str] | None = None
    findings: list[Finding] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    files: dict[str, str] = field(default_factory=dict)
    leaving: dict[str, str] = field(default_factory=dict)

    @property
    def kept(self) -> list[Manifest]:
        """The manifests that no prune has deleted, or is deleting."""
        return [one for one in self.manifests if self.anchor is None or one.number > self.anchor[0]]

    def prunes(self) -> Iterator[tuple[Manifest, Mapping[str, Any]]]:
        """Yield the manifests that say that a prune was to delete a beginning, and what they say of it."""
        for manifest in self.kept:
            pruned = manifest.content.get(PRUNED)
            if isinstance(pruned, dict) and pruned.get("name"):
                yield manifest, pruned

    def pruned_hashes(self) -> set[str]:
        """Return the hashes of the manifests that prunes have deleted, as far as the chain still knows them."""
        known = {self.anchor[1]} if self.anchor else set()
        for _, pruned in self.prunes():
            known.update(map(str, pruned.get("manifest_hashes") or ()))
        return known


def verify(location: Store, account: str) -> list[str]:
    """Say what in the record of an account was changed, removed or added.

    :param location: the base path.
    :param account: the account.
    :return: a sentence for each finding.
    :raises AhaStorageError: when the record can't be read.
    """
    return [str(finding) for finding in check(location, account).findings]


def accounts_of(location: Store) -> tuple[list[str], list[Finding]]:
    """Return the accounts that have a record, and what lies beside their folders.

    :param location: the base path.
    :raises AhaStorageError: when it can't be listed.
    """
    found, findings = set(), []
    for folder in RECORDS:
        if location.is_link(folder):
            findings.append(Finding(LINKED, folder, _IS_LINK))
        loose = set(location.files(folder, deep=False, debris=True))
        for name in sorted(location.names(folder)):
            prefix, is_folder, account = name.partition("account=")
            if is_folder and not prefix and _is_account(account) and f"{folder}/{name}" not in loose:
                found.add(account)
            else:
                kind = ACCOUNT if is_folder and not prefix else ADDED
                findings.append(Finding(kind, f"{folder}/{name}", "lies beside the accounts: it is none of them."))
    return sorted(found), findings


def _is_account(name: str) -> bool:
    try:
        Layout(name)
    except AhaConfigurationError:
        return False
    return True


# --- the whole record ------------------------------------------------------------------------------


def check(location: Store, account: str) -> Chain:
    """Recompute the chain of an account, and compare everything that lies in its record.

    :param location: the base path.
    :param account: the account.
    :return: the chain, with all findings.
    :raises AhaStorageError: when the record can't be read.
    """
    record = Record(location, account)
    chain = check_chain(record)
    odd = [
        Finding(LINKED, f"{folder}/account={account}", _IS_LINK)
        for folder in RECORDS
        if location.is_link(f"{folder}/account={account}")
    ]
    files: dict[str, StoredEntry] = {}
    for name, entry in _listed(record):
        if entry.kind == LINK:
            odd.append(Finding(LINKED, name, _IS_LINK))
        elif entry.kind != FILE:
            odd.append(Finding(ADDED, name, "is no file, and was not read."))
        elif entry.size > _LARGEST:
            odd.append(Finding(CHANGED, name, "is too large for a record, and was not read."))
        elif _is_dead(record, entry):
            chain.notes.append(visible(f"{name} was left by a writer that died: nothing reads it."))
        elif not name.startswith("manifests/"):
            files[name] = entry
    names = {entry.name: name for name, entry in files.items()}
    hashes = {names[name]: digest for name, digest in location.hashes(files.values())}
    chain.findings += odd
    chain.findings += _compare(chain, hashes, [finding.name for finding in odd])
    return chain


def _listed(record: Record) -> Iterator[tuple[str, StoredEntry]]:
    for entry in record.location.entries(record.runs):
        name = record.name_of(entry.name)
        # Reviews lie elsewhere; a file here that would be taken for one of theirs goes by its whole path.
        yield (record.location.url_of(entry.name) if name.startswith("reviews/") else name), entry
    for entry in record.location.entries(record.reviews):
        yield record.name_of(entry.name), entry


def _is_dead(record: Record, entry: StoredEntry) -> bool:
    """Tell whether a writer died over a file; only on the local disk it is made whole beside its place."""
    return entry.kind == FILE and record.location.is_debris(entry.name)


def _compare(chain: Chain, found: Mapping[str, str | None], odd: Sequence[str]) -> Iterator[Finding]:
    behind = tuple(f"{name}/" for name in odd)
    for name, digest in sorted(chain.files.items()):
        if name in odd or name.startswith(behind):
            # It was named above.
            continue
        if name not in found:
            yield Finding(REMOVED, name, "was removed.")
        elif found[name] not in (digest, None):
            yield Finding(CHANGED, name, "was changed.")
    for name, there in sorted(found.items()):
        if there is None:
            yield Finding(UNREADABLE, name, "can't be read: permission was denied.")
        elif name not in chain.files and chain.leaving.get(name) != there:
            yield Finding(ADDED, name, _IN_NO_MANIFEST)


# --- the manifests ---------------------------------------------------------------------------------


def check_chain(record: Record) -> Chain:
    """Check each manifest of an account against the one before it; the files that they name are not read.

    :param record: the account's record.
    :raises AhaStorageError: when it can't be read.
    """
    chain = Chain()
    chain.manifests = [_parsed(number, body, chain) for number, body in sorted(_bodies(record, chain).items())]
    chain.anchor = _read_anchor(record, chain)
    account = _account(record, chain)
    before: tuple[int, str | None] = chain.anchor or (0, None)
    ended: set[tuple[str, int]] = set()
    for manifest in chain.manifests:
        if chain.anchor and manifest.number <= chain.anchor[0]:
            chain.leaving.update(manifest.files)
            continue
        chain.findings += _check_link(manifest, *before)
        before = manifest.number, manifest.sha256
        if manifest.content:
            chain.findings += _check_content(manifest, account, chain.files, ended)
            if manifest.content["account"] == account:
                chain.files.update(manifest.files)
    _check_anchor(chain, datetime.now(UTC) - timedelta(days=LEAST_DAYS))
    return chain


def _bodies(record: Record, chain: Chain) -> dict[int, bytes | None]:
    """Read the manifests by number, and name what lies beside them."""
    found: dict[int, bytes | None] = {}
    paths: dict[int, str] = {}
    for entry in record.location.entries(record.manifests):
        name = record.name_of(entry.name)
        number = number_of(name.removeprefix("manifests/"))
        if entry.kind != FILE:
            continue
        if number is None:
            if name != f"manifests/{ANCHOR}" and not _is_dead(record, entry):
                chain.findings.append(Finding(ADDED, name, _BESIDE))
        elif entry.size > LARGEST:
            chain.findings.append(Finding(ADDED, name, "is too large for a manifest, and was not read."))
            found[number] = None
        else:
            paths[number] = entry.name
    numbers = sorted(paths)
    for start in range(0, len(numbers), _AT_ONCE):
        some = numbers[start : start + _AT_ONCE]
        bodies = record.location.read_many(paths[number] for number in some)
        found |= {number: bodies[paths[number]] for number in some}
    return found


def _parsed(number: int, body: bytes | None, chain: Chain) -> Manifest:
    if body is None:
        return Manifest(number, None, {})
    digest, name = sha256(body), _manifest(number)
    try:
        content = parse_record(body, name)
        _check_types(content)
    except (AhaSnapshotError, KeyError, TypeError, ValueError):
        chain.findings.append(Finding(UNREADABLE, name, "was changed, or is no manifest."))
        return Manifest(number, digest, {})
    if any(file.startswith("/") or ".." in file.split("/") for file in content["files"]):
        chain.findings.append(Finding(UNREADABLE, name, "names a file outside of the record: it is no manifest."))
        return Manifest(number, digest, {})
    if sealed({key: value for key, value in content.items() if key != "content_sha256"}) != body:
        chain.findings.append(Finding(CHANGED, name, "was changed."))
    return Manifest(number, digest, content)


def _check_types(content: Mapping[str, Any]) -> None:
    """Refuse what no manifest says, so that nothing has to be asked again."""
    moment_of(content["finished_at"], needs_offset=True)
    texts = [content["account"], content["folder"], *content["files"].values(), *content["files"]]
    if not all(isinstance(text, str) for text in texts) or not isinstance(content.get("try_number", 0), int):
        raise TypeError
    content["previous"], content["previous_sha256"]


def _account(record: Record, chain: Chain) -> str:
    """Return of which account the manifests are: of this one, unless all are of another."""
    accounts = {str(one.content["account"]) for one in chain.manifests if one.content}
    if accounts and record.account not in accounts and len(accounts) == 1:
        (other,) = accounts
        what = f"has the record of the account {other}: its folder was renamed, or is a copy."
        chain.findings.append(Finding(ACCOUNT, f"account={record.account}", what))
        return other
    return record.account


def _check_link(manifest: Manifest, before: int, digest: str | None) -> Iterator[Finding]:
    """Check that a manifest comes after the one before it; 0 stands for none."""
    if manifest.number > before + 1:
        first, last = _manifest(before + 1), _manifest(manifest.number - 1)
        yield Finding(REMOVED, first, "was removed." if first == last else f"and all up to {last} were removed.")
        yield Finding(BROKEN, manifest.name, f"comes after {last}, which isn't there.")
    elif manifest.content:
        previous, expected = manifest.content["previous"], manifest_name(before) if before else None
        if previous is None and expected is not None:
            yield Finding(BROKEN, manifest.name, "says that it is the first, but others come before it.")
        elif previous != expected:
            yield Finding(
                BROKEN, manifest.name, f"comes after {expected}, but says that it comes after {previous}."
            )
        elif manifest.content["previous_sha256"] != digest:
            yield Finding(BROKEN, _manifest(before), f"was changed after {manifest.name} was written.")


def _check_content(
    manifest: Manifest, account: str, known: Mapping[str, str], ended: set[tuple[str, int]]
) -> Iterator[Finding]:
    """Compare what a manifest says with what the ones before it have said."""
    content = manifest.content
    if content["account"] != account:
        yield Finding(BROKEN, manifest.name, f"is a manifest of the account {content['account']}.")
        return
    made_anew = f"{content['folder']}/{evidence.FILE}"
    for name, digest in content["files"].items():
        # The manifest has hashed again what earlier tries left; each try makes its own evidence anew, nothing else.
        if known.get(name, digest) != digest and name != made_anew:
            yield Finding(CHANGED, name, "was changed between two tries.")
    number = content.get("try_number") or 0
    for name in sorted(content["files"].keys() - known.keys()):
        event = _EVENT.fullmatch(name)
        if event and int(event["try"]) < number and (event["folder"], int(event["try"])) in ended:
            yield Finding(ADDED, name, "was added after its try had ended.")
    ended.add((content["folder"], number))


def _read_anchor(record: Record, chain: Chain) -> tuple[int, str] | None:
    body = record.location.read(f"{record.manifests}/{ANCHOR}")
    if body is None:
        return None
    with suppress(AhaSnapshotError, KeyError):
        anchor = parse_record(body, ANCHOR)
        if number := number_of(str(anchor["name"])):
            return number, str(anchor["sha256"])
    chain.findings.append(Finding(CHANGED, f"manifests/{ANCHOR}", "was changed, or is no anchor."))
    return None


def _check_anchor(chain: Chain, youngest: datetime) -> None:
    """Accept a missing beginning only where anchor and manifest agree, and a prune may take what is missing."""
    name, first = f"manifests/{ANCHOR}", next(iter(chain.kept), None)
    if chain.anchor is None:
        before = manifest_name(first.number - 1) if first else None
        for manifest, pruned in chain.prunes():
            if pruned["name"] == before:
                what = f"was removed: {manifest.name} says that all up to {before} was deleted."
                chain.findings.append(Finding(REMOVED, name, what))
        return
    last, digest = manifest_name(chain.anchor[0]), chain.anchor[1]
    said = [one for one in chain.prunes() if (one[1]["name"], one[1].get("sha256")) == (last, digest)]
    if not said and (others := list(chain.prunes())):
        manifest, pruned = others[-1]
        what = f"was changed: what {manifest.name} says of a prune up to {pruned['name']} doesn't agree with it."
        chain.findings.append(Finding(BROKEN, name, what))
    elif not said:
        what = f"is of no prune: no manifest says that all up to {last} was deleted."
        chain.findings.append(Finding(REMOVED, name, what))
    elif not any(_may_go(pruned, first, youngest) for _, pruned in said):
        what = f"is of a prune that may not be: {said[0][0].name} took what was younger than {LEAST_DAYS} days."
        chain.findings.append(Finding(REMOVED, name, what))
    else:
        chain.notes.append(_deleted(last, said[-1][0]))


def _may_go(pruned: Mapping[str, Any], first: Manifest | None, youngest: datetime) -> bool:
    """Tell whether what a prune took was as old as it says, by what the manifest after it says of the last one."""
    try:
        older_than = moment_of(pruned["older_than"], needs_offset=True)
        ended = (first.content if first else {}).get("previous_finished_at")
        return older_than <= youngest and (ended is None or moment_of(ended, needs_offset=True) < older_than)
    except (KeyError, ValueError):
        return False


def _deleted(last: str, manifest: Manifest) -> str:
    said = {name: manifest.content.get(name) for name in ("finished_at", "dag_id", "run_id")}
    return visible(
        f"Manifests up to {last}, and what they named, were deleted by a prune: {manifest.name} says so, of "
        f"{said['finished_at']}, by the DAG {said['dag_id']} in its run {said['run_id']}."
    )


def _manifest(number: int) -> str:
    return f"manifests/{manifest_name(number)}"
