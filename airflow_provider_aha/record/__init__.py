"""What was done, kept: chain, journal, evidence, register, retention."""
