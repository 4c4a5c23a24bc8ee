"""Interest entanglement between tasks."""
