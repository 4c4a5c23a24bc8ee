"""The composed config: checked, made plain, and turned into objects."""
