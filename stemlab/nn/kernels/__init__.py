"""Fused fast paths, each optional; the plain equation beside it is the reference."""
