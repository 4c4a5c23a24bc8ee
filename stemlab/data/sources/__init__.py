"""One file per dataset: its raw reader and its LightningDataModule."""
