"""Changing users safely: guards, a journal of intents and outcomes, evidence. Plain Python without Airflow."""
