"""Triggers of the Aha! provider."""
