"""One file a dataset: its raw reader and its LightningDataModule."""
