"""What makes, runs, resumes and records a training: the composition root."""
