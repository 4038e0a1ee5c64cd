"""Lists that people maintain: rosters, exclusions, protected users."""
