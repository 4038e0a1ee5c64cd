"""Sensors of the Aha! provider."""
