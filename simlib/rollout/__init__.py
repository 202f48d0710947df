"""A rollout: its plan, its controller, the decision rules and tests it uses, trials of it."""
