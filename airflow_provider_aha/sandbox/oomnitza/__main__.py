"""Run the sandbox: ``python -m airflow_provider_aha.sandbox.oomnitza``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

try:
    from airflow_provider_aha.sandbox.faults import parse
    from airflow_provider_aha.sandbox.oomnitza.app import KINDS
    from airflow_provider_aha.sandbox.oomnitza.server import OomnitzaSandbox
except ModuleNotFoundError as error:
    sys.exit(f"{error.name} is missing: pip install 'airflow-provider-aha[sandbox]'")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a sandbox until it is interrupted.

    :param arguments: of the command line; those of this process if not given.
    :returns: the exit status.
    """
    options = _parser().parse_args(arguments)
    try:
        server = OomnitzaSandbox(
            options.people, latency=options.latency_ms / 1000, host=options.host, port=options.port
        )
        try:
            for text in options.fault:
                name, settings = parse(text)
                server.set_fault(name, **settings)
            print(
                f"Oomnitza sandbox on {server.url}; connection {server.connection_uri} (Ctrl-C ends it)", flush=True
            )
            server.run()
        finally:
            server.close()
    except KeyboardInterrupt:
        return 0
    except (OSError, ValueError) as error:
        print(f"The sandbox can't start: {error}.", file=sys.stderr)
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    """Describe the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m airflow_provider_aha.sandbox.oomnitza",
        description="A local Oomnitza to push to and to test against.",
        epilog="faults: " + ", ".join(KINDS),
    )
    parser.add_argument("--people", type=int, default=3, metavar="N", help="how many people (default 3)")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default 127.0.0.1)")
    parser.add_argument("--port", type=int, default=8766, help="port, 0 for a free one (default 8766)")
    parser.add_argument("--latency-ms", type=float, default=0, metavar="MS", help="how long answers take")
    parser.add_argument(
        "--fault", action="append", default=[], metavar="NAME[:k=v,...]", help="switch a fault on; repeatable"
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
