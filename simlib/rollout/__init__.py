"""A rollout: its plan, its controller, the decision rules and tests it uses, trials of it."""

# The formats stand above the plan that they read and write. They enter the table in which
# `Plan.load` looks, so something has to import them, and this comes before any module in here.
import simlib.rollout.formats  # noqa: F401
