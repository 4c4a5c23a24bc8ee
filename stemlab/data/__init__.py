"""Datasets: specification, preparation, storage and batches."""
