"""Generators of synthetic samples with known label probabilities, in the raw format of each dataset."""
