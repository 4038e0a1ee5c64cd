"""Who should lose, get or change which access, and why."""
