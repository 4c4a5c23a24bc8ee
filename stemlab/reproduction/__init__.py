"""Reproductions: plan the runs of a preset, run what is missing within a budget, compare with published numbers."""
