"""Sequential networks: the next item after a history."""
