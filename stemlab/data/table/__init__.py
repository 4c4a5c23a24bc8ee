"""A user's own table: reading it, checking what it is said to be, and drafting what it may be."""
