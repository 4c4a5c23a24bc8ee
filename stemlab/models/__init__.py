"""Networks, one paper per file: pure modules without dataset, file, rank or logger."""

from stemlab.models.counts import parameter_counts

__all__ = ["parameter_counts"]
