"""Operators of the Aha! provider."""
