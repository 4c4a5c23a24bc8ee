"""Where the time of a training step goes: ``python -m stemlab.profile`` (docs/profiling.md)."""
