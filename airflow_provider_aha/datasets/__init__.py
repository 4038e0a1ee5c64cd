"""Each dataset: its schema, its source and how it is made; the snapshot, the crawl, the changes."""
