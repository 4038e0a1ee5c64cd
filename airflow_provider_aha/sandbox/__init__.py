"""A local Aha! server with a realistic account, to run and to test against (extra: ``[sandbox]``).

On the command line: ``python -m airflow_provider_aha.sandbox``. In tests: see
:mod:`airflow_provider_aha.sandbox.testing`.
"""
