"""Compose, validate and resolve the config; build objects from it."""
