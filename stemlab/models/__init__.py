"""Networks, one paper a file: pure modules that know no dataset, file, rank or logger."""

from stemlab.models.counts import parameter_counts

__all__ = ["parameter_counts"]
