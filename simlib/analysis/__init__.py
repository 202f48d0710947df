"""Functions from the tables of runs to tables for readers; no module here knows an engine."""
