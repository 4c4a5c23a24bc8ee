"""Turn raw columns into a prepared dataset: splits, vocabularies, scaling, manifest."""
