"""Who is asked about which access, what was decided, and what is left to do."""
