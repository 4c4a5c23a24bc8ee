"""Dimensional collapse of embedding tables."""
