"""Build, run, resume and record a training (composition root)."""
