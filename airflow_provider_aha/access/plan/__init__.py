"""The plan: the contract between deciding, approving and carrying out."""
