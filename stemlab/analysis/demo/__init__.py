"""Demonstration on synthetic data with planted effects."""
