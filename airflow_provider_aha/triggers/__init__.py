"""Triggers of the Aha! provider."""

# The kinds of conditions, for sensors too, which needn't load a trigger to be parsed.
USER, SEATS, CHANGES = "user", "seats", "changes"
