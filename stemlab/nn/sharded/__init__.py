"""Embedding tables of which each rank holds a part (docs/devices.md#embedding-tables-across-ranks)."""
