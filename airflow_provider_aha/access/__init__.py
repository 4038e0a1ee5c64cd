"""Access: who should lose, get or change it (decide), the plan that says so, and carrying it out (write)."""
