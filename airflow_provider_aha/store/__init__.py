"""A folder on any storage: files that appear whole, records that are written once."""
