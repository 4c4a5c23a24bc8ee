"""Analyses of finished runs; ``train_missing`` trains missing runs, and the demo trains small models of its own."""
