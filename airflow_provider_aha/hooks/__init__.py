"""Hooks of the Aha! provider."""
