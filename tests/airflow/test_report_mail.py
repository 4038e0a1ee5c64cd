"""The documented notifier: the report's one sentence, mailed by Airflow to a real SMTP server."""

import json
import re
import socketserver
import threading
from collections.abc import Iterator
from email import message_from_string
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
pytest.importorskip("airflow.providers.smtp.notifications.smtp", reason="Airflow's SMTP provider is not installed")


class Mailbox(socketserver.ThreadingTCPServer):
    """Takes every mail."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Talk)
        self.mails: list[str] = []


class Talk(socketserver.StreamRequestHandler):
    server: Mailbox

    def handle(self) -> None:
        self.wfile.write(b"220 here\r\n")
        for line in self.rfile:
            word = line[:4].upper()
            if word == b"DATA":
                self.wfile.write(b"354 go on\r\n")
                lines = []
                while (text := self.rfile.readline()) != b".\r\n":
                    lines.append(text)
                self.server.mails.append(b"".join(lines).decode())
            self.wfile.write(b"221 bye\r\n" if word == b"QUIT" else b"250 ok\r\n")


@pytest.fixture
def mailbox(monkeypatch: pytest.MonkeyPatch) -> Iterator[Mailbox]:
    with Mailbox() as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        extra = {"disable_ssl": True, "disable_tls": True}
        fields = {"conn_type": "smtp", "host": "127.0.0.1", "port": server.server_address[1], "extra": extra}
        monkeypatch.setenv("AIRFLOW_CONN_SMTP_DEFAULT", json.dumps(fields))
        yield server
        server.shutdown()


def test_the_sentence_is_mailed(registered, run_dag, aha_default, mailbox, tmp_path, monkeypatch):
    monkeypatch.setenv("AIRFLOW_VAR_AHA_OUTPUT_PATH", str(tmp_path / "aha"))
    assert run_dag(registered(ROOT / "dags/aha_extract.py")["aha_extract"]).state == "success"
    (code,) = re.findall(
        r"^```python\n(.*?SmtpNotifier.*?)^```$",
        (ROOT / "docs/access_review.md").read_text("utf-8"),
        re.MULTILINE | re.DOTALL,
    )
    file = tmp_path / "aha_access_mail.py"
    file.write_text(code)
    run = run_dag(registered(file)["aha_access_mail"])
    assert run.state == "success"
    summary = run.xcom("report")
    (mail,) = (message_from_string(text) for text in mailbox.mails)
    assert mail["Subject"] == f"Aha! access as of {summary['snapshot']}"
    (part,) = (part for part in mail.walk() if not part.is_multipart())
    body = part.get_payload(decode=True)
    assert isinstance(body, bytes)
    assert summary["sentence"] in body.decode()
