"""Transfer between tasks, and comparable samples."""
