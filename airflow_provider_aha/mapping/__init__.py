"""Field mapping and the push of mapped records to a target: plain Python, without Airflow."""
