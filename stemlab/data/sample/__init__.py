"""Synthetic worlds with a known truth, written in each dataset's raw format."""
