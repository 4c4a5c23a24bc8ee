"""Read raw files: text blocks, csv columns, Arrow, downloads, progress."""
