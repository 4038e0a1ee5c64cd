"""Rows become records of another system: mapping, plan, targets, outcomes."""
