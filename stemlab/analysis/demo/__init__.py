"""Demonstration of the analyses on synthetic data with known effects."""
