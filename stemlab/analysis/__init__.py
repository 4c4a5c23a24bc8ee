"""What the embeddings learnt: analyses of finished runs, from records, checkpoints and prepared datasets alone."""
