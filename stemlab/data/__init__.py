"""Data: what a dataset is, how it is prepared and stored, how it becomes batches."""
