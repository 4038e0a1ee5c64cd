"""Carrying a plan out: guards, requests, proof."""
