"""Apache Airflow provider for the Aha! REST API."""
