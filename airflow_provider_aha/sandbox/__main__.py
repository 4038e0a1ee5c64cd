"""Run the sandbox: ``python -m airflow_provider_aha.sandbox``."""

from __future__ import annotations

import argparse
import errno
import sys
import textwrap
from collections.abc import Sequence

try:
    from airflow_provider_aha.sandbox.account import ADMIN_KEY, VIEWER_KEY, Account
    from airflow_provider_aha.sandbox.fault_kinds import KINDS
    from airflow_provider_aha.sandbox.faults import parse
    from airflow_provider_aha.sandbox.server import SandboxServer
except ModuleNotFoundError as error:
    sys.exit(f"{error.name} is missing: pip install 'airflow-provider-aha[sandbox]'")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a sandbox until it is interrupted.

    :param arguments: of the command line; those of this process if not given.
    :returns: the exit status.
    """
    options = _parser().parse_args(arguments)
    try:
        _run(_server(options))
    except KeyboardInterrupt:
        return 0
    except OSError as error:
        return _complain(_reason(error, options))
    except ValueError as error:
        return _complain(str(error))
    return 0


def _run(server: SandboxServer) -> None:
    """Serve until the process is told to end."""
    try:
        server.account.warm()
        print(_greeting(server), flush=True)
        server.run()
    finally:
        server.close()


def _complain(reason: str) -> int:
    """Say why the server can't start."""
    print(f"The sandbox can't start: {reason}.", file=sys.stderr)
    return 1


def _server(options: argparse.Namespace) -> SandboxServer:
    """Build the server that the options describe."""
    if options.from_json:
        account = Account.from_json(options.from_json)
    else:
        account = Account.generate(options.users, seed=options.seed)
    faults = [parse(text) for text in options.fault]
    server = SandboxServer(
        account=account,
        latency=options.latency_ms / 1000,
        limits=options.limits,
        requests_per_minute=options.requests_per_minute,
        requests_per_second=options.requests_per_second,
        key=options.key,
        viewer_key=options.viewer_key,
        host=options.host,
        port=options.port,
    )
    try:
        for name, settings in faults:
            server.set_fault(name, **settings)
    except ValueError:
        server.close()
        raise
    return server


def _reason(error: OSError, options: argparse.Namespace) -> str:
    """Say in plain words why the server can't start."""
    if error.errno == errno.EADDRINUSE:
        return f"port {options.port} of {options.host} is in use; choose another one with --port"
    where = error.filename or f"{options.host}:{options.port}"
    return f"{where}: {error.strerror or error}"


def _greeting(server: SandboxServer) -> str:
    """Say where the sandbox is and what is in it."""
    limiter = server.limiter
    limits = f"{limiter.per_second}/s and {limiter.per_minute}/min" if limiter.enabled else "no rate limits"
    return (
        f"Aha! sandbox on {server.url} with {len(server.account):,} users and "
        f"{len(server.account.workspaces)} workspaces, {limits}; "
        f"connection {server.connection_uri} (Ctrl-C ends it)"
    )


def _parser() -> argparse.ArgumentParser:
    """Describe the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m airflow_provider_aha.sandbox",
        description="A local Aha! server with a realistic account, to try things out and to test against.",
        epilog=_faults_help(),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    account = parser.add_argument_group("the account")
    account.add_argument("--users", type=int, default=500, metavar="N", help="how many users (default 500)")
    account.add_argument("--seed", type=int, default=0, metavar="N", help="another seed, another account")
    account.add_argument("--from-json", metavar="FILE", help="serve the users of a file instead")
    account.add_argument("--key", default=ADMIN_KEY, help=f"an administrator's API key (default {ADMIN_KEY})")
    account.add_argument(
        "--viewer-key", metavar="KEY", default=VIEWER_KEY, help=f"a viewer's API key (default {VIEWER_KEY})"
    )
    server = parser.add_argument_group("the server")
    server.add_argument("--host", default="127.0.0.1", help="address to listen on (default 127.0.0.1)")
    server.add_argument("--port", type=int, default=8765, help="port, 0 for a free one (default 8765)")
    server.add_argument("--latency-ms", type=float, default=0, metavar="MS", help="how long answers take")
    server.add_argument("--no-limits", dest="limits", action="store_false", help="no rate limits")
    server.add_argument("--requests-per-minute", type=int, default=300, metavar="N", help="default 300")
    server.add_argument("--requests-per-second", type=int, default=20, metavar="N", help="default 20")
    server.add_argument(
        "--fault", action="append", default=[], metavar="NAME[:k=v,...]", help="switch a fault on; repeatable"
    )
    return parser


def _faults_help() -> str:
    """List the faults for the help."""
    lines = ["faults (all have the options times, after, method, path and page):"]
    for kind in KINDS.values():
        text = f"{kind.name}: {kind.summary}"
        lines += textwrap.wrap(text, 100, initial_indent="  ", subsequent_indent="      ")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
