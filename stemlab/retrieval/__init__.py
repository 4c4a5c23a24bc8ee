"""From vectors of users and items to the best items: exactly, by tiles, or through an index."""
