"""Aha!'s REST API: what a request may cost, how often it is tried, and when a read is complete."""
