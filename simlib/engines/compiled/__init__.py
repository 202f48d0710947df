"""The compiled engine: the journeys of the reference engine as one loop over arrays."""

loaded: set[str] = set()
"""Engines whose code has been loaded in this process: the compiled one says so itself."""
