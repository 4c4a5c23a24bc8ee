"""Optional kernels for CPU and GPU; the plain equations they replace are the reference (docs/methods/kernels.md)."""
