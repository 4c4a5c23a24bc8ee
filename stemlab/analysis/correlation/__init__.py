"""Feature correlation between behaviours and targets."""
