"""Oomnitza's public REST API: people, SaaS users and their roles."""
