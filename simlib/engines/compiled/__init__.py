"""The compiled engine: the journeys of the reference engine as one loop over arrays."""
