"""The rules. No clock, no I/O, no generator object: every driver calls the same functions."""
