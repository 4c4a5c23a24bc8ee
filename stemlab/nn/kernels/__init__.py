"""Optional CPU kernels; the plain equations that they replace are the reference (docs/methods/kernels.md)."""
