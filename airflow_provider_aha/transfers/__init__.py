"""Operators that push mapped records onward."""
