"""`make up`: the sandbox and `airflow standalone` with the example DAGs, for this machine only.

Nobody has to log in, so everything listens on the loopback interface and nowhere else.
"""

import argparse
import os
import time

from tools.local import (
    AIRFLOW_VERSION,
    BIN,
    DEMO,
    LOOPBACK,
    ROOT,
    Api,
    Processes,
    airflow_environment,
    answers,
    free_port,
    health,
    main,
    migrate,
    say,
    set_once,
    set_pool,
    shown,
    start_oomnitza,
    start_sandbox,
)

PLACE = DEMO / "up"
# Where it listens, if it is free.
OOMNITZA_PORT = 8766
# The DAGs that somebody is told to run first.
FIRST = ("aha_extract", "aha_access_review", "aha_deactivate_users")


def up(users: int, port: int, sandbox_port: int) -> None:
    """Start everything, say where it is, and stay until Ctrl-C."""
    with Processes(PLACE) as processes:
        own = "AIRFLOW_CONN_AHA_DEFAULT" in os.environ
        if own:
            say("Using your own Aha! account (AIRFLOW_CONN_AHA_DEFAULT is set)")
        else:
            sandbox_port = free_port(sandbox_port)
            start_sandbox(processes, users, sandbox_port)
            say(f"Starting an Aha! sandbox with {users:,} users on http://{LOOPBACK}:{sandbox_port}")
        oomnitza_port = None if "AIRFLOW_CONN_OOMNITZA_DEFAULT" in os.environ else free_port(OOMNITZA_PORT)
        if oomnitza_port:
            start_oomnitza(processes, oomnitza_port)
            say(f"Starting an Oomnitza sandbox on http://{LOOPBACK}:{oomnitza_port}")
        port = free_port(port)
        env = airflow_environment(PLACE / "airflow", port)
        migrate(processes, env)
        say(f"Starting Airflow {AIRFLOW_VERSION}")
        env |= {"PATH": f"{ROOT / 'tools' / 'bin'}{os.pathsep}{env['PATH']}", "REAL_AIRFLOW": str(BIN / "airflow")}
        processes.start("airflow", [str(BIN / "airflow"), "standalone"], env)
        api = Api(f"http://{LOOPBACK}:{port}")
        processes.wait_for("Airflow", lambda: health(api), 600)
        # In Airflow's database, where the UI shows them; a connection of one's own stays out of it.
        set_pool(api)
        set_once(api, "variables", "aha_output_path", {"key": "aha_output_path", "value": str(PLACE / "aha")})
        if not own:
            processes.wait_for("the sandbox", lambda: answers(f"http://{LOOPBACK}:{sandbox_port}/"), 60)
            api.call("DELETE", "/api/v2/connections/aha_default")
            set_once(api, "connections", "aha_default", sandbox_connection(sandbox_port))
        if oomnitza_port:
            processes.wait_for("the Oomnitza sandbox", lambda: answers(f"http://{LOOPBACK}:{oomnitza_port}/"), 60)
            api.call("DELETE", "/api/v2/connections/oomnitza_default")
            set_once(api, "connections", "oomnitza_default", oomnitza_connection(oomnitza_port))
            set_once(api, "variables", "aha_oomnitza_role", {"key": "aha_oomnitza_role", "value": "25"})
        processes.wait_for("the DAGs", lambda: all(api.call("GET", f"/api/v2/dags/{name}") for name in FIRST), 300)
        print(f"\nAirflow:  {api.address}  (no login, this machine only)")
        print(f"Output:   {shown(PLACE / 'aha')}")
        print(f"Logs:     {shown(PLACE / 'logs')}")
        print(first_steps(api.address, shown(PLACE / "aha"), sandbox=not own))
        print("Ctrl-C ends it all.\n", flush=True)
        while True:
            processes.check()
            time.sleep(1)


def first_steps(address: str, output: str, *, sandbox: bool) -> str:
    """Say what to click first, and where what comes of it is.

    :param address: where Airflow is.
    :param output: where files land.
    :param sandbox: whether Aha! is the sandbox, in which nobody can do any harm.
    """
    answer = "you may answer it yourself in the sandbox" if sandbox else "a second person has to answer it"
    return f"""
What to do first, at {address}/dags (the arrow beside a DAG opens its form):

1. Run "Aha! – Land users and roles every day".
   Parquet files land in {output}/users, .../user_roles and so on, in half a minute.
2. Run "Aha! – Show or open an access review".
   The page is under Browse > Aha! access reviews. The task "report" leads to it, too: the button Access review
   is on its tab Details, as is the button Aha! of every task.
3. Run "Aha! – Deactivate named users" with an id from that page, a reason and a ticket.
   It is a dry run: the log of its task "preview" says what would happen. Run it again with Dry run off, and a
   question waits under Required Actions; {answer}.
"""


def sandbox_connection(port: int) -> dict[str, object]:
    """Return the connection to the sandbox, as Airflow's API takes it."""
    return {
        "connection_id": "aha_default",
        "conn_type": "aha",
        "description": "The sandbox of make up",
        "schema": "http",
        "host": LOOPBACK,
        "port": port,
        "password": "sandbox-key",
    }


def oomnitza_connection(port: int) -> dict[str, object]:
    """Return the connection to the Oomnitza sandbox, as Airflow's API takes it."""
    return sandbox_connection(port) | {
        "connection_id": "oomnitza_default",
        "conn_type": "oomnitza",
        "password": "oomnitza-sandbox-token",
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--users", type=int, default=500, help="users of the sandbox account")
    parser.add_argument("--port", type=int, default=8080, help="where Airflow listens, if it is free")
    parser.add_argument("--sandbox-port", type=int, default=8765, help="where the sandbox listens, if it is free")
    arguments = parser.parse_args()
    main(lambda: up(arguments.users, arguments.port, arguments.sandbox_port), interrupted=0)
