"""The LightningModules and their settings."""
