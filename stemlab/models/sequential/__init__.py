"""Sequential networks: predict the next item from the history of a user."""
