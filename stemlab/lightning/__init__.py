"""The LightningModules, and runs of them from a config to a record."""
