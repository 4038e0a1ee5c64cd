"""No secret in a tracked file: what looks like a key of a well-known service, or a long random value of one."""

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PATTERNS = {
    "private key": r"-----BEGIN (?:RSA |EC |DSA |OPENSSH |PGP )?PRIVATE KEY",
    "AWS access key": r"\b(?:AKIA|ASIA)[0-9A-Z]{16}\b",
    "GitHub token": r"\bgh[pousr]_[A-Za-z0-9]{36}\b|\bgithub_pat_\w{50,}",
    "GitLab token": r"\bglpat-[\w-]{20}",
    "Slack token": r"\bxox[abposr]-[\w-]{10,}",
    "Google key": r"\bAIza[\w-]{35}\b",
    "PyPI token": r"\bpypi-AgEIcHlwaS5vcmc",
    "JSON web token": r"\beyJ[\w-]{10,}\.eyJ[\w-]{10,}\.[\w-]{10,}",
    "long value of a key": r"(?i)(?:api_?key|token|secret|password)['\"]?\s*[:=]\s*['\"][A-Za-z0-9+/_-]{32,}['\"]",
}


def found_in(text: str) -> list[str]:
    return [name for name, pattern in PATTERNS.items() if re.search(pattern, text)]


def test_no_tracked_file_has_a_secret():
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=False)
    if listed.returncode:
        pytest.skip("this is no clone of the repository")
    names = [name for name in listed.stdout.decode().split("\0") if name]
    texts = {
        name: (ROOT / name).read_bytes().decode("utf-8", "replace") for name in names if (ROOT / name).is_file()
    }
    assert {name: kinds for name, text in texts.items() if (kinds := found_in(text))} == {}


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("private key", "-----BEGIN " + "RSA PRIVATE KEY-----"),
        ("AWS access key", "AKIA" + "ABCDEFGHIJKLMNOP"),
        ("GitHub token", "ghp_" + "a1B2" * 9),
        ("long value of a key", 'api_key = "' + "a1B2" * 10 + '"'),
    ],
)
def test_a_secret_would_be_found(kind, text):
    assert found_in(text) == [kind]
