"""Tables of runs to tables that a person reads; nothing here knows an engine."""
