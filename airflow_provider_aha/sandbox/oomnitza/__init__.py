"""A local Oomnitza, to push to and to test against (extra: ``[sandbox]``).

It answers as Oomnitza's published API description says; what that leaves open is guessed. On the command line:
``python -m airflow_provider_aha.sandbox.oomnitza``. In tests: see :mod:`airflow_provider_aha.sandbox.testing`.
"""
