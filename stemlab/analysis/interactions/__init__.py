"""Learned field interactions of MMFI."""
