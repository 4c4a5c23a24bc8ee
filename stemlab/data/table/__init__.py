"""The user's own table (``dataset=table``): reading, checking the column roles, drafting a config."""
