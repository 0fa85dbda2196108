"""A recorded agent run, turn by turn between two workers: this store against other ways to keep it in Redis."""
