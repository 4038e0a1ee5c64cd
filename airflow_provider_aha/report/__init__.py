"""The access review: one page, the same figures as data, and decisions that count. Plain Python, no Airflow."""
