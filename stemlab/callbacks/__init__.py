"""Lightning callbacks: early stopping, checkpoints, progress, throughput, diagnostics."""
