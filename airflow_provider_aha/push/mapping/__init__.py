"""The mapping language: how a row becomes a record."""
