"""Targets of a push, one class each behind the protocol of :mod:`airflow_provider_aha.push.targets.base`."""
