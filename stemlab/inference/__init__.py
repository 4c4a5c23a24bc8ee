"""ScoreFunction rows, recommend items, evaluate checkpoints, write vectors and a search index."""
