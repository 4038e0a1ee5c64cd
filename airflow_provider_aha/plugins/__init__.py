"""Plugins of Airflow: pages in its UI."""
