"""Prints how many milliseconds each module that a DAG file may import adds to ``airflow.sdk``."""

import importlib
import pkgutil
import sys
import time

PARTS = ("operators", "hooks", "sensors", "transfers")
# Only a DAG that asks a person loads it, through operators.approvals; it costs what Airflow's own part costs.
LATER = ("airflow_provider_aha.operators.hitl",)


def main() -> None:
    import airflow.sdk

    import airflow_provider_aha

    # These load when they are first named; a DAG file names them with or without this provider.
    _ = airflow.sdk.DAG, airflow.sdk.BaseOperator, airflow.sdk.BaseHook, airflow.sdk.BaseSensorOperator
    names = [
        module.name
        for module in pkgutil.walk_packages(airflow_provider_aha.__path__, "airflow_provider_aha.")
        if module.name.split(".")[1] in PARTS and module.name not in LATER
    ]
    for name in names:
        began = time.perf_counter()
        importlib.import_module(name)
        print(name.removeprefix("airflow_provider_aha."), (time.perf_counter() - began) * 1000)
    print("heavy", ",".join(sorted({"pandas", "pyarrow", "requests"} & sys.modules.keys())) or "none")


if __name__ == "__main__":
    main()
