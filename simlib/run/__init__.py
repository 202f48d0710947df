"""One run's result: columns of arrays with their provenance, read as tidy pandas tables."""

from simlib.run.checks import MAX_ROWS, check_runs, check_table, refuse_rollout, rows_to_keep
from simlib.run.result import Run, make_run
from simlib.run.summary import QUANTITIES, Rows, metrics_of, summary_of, three_digits
from simlib.run.tables import ALWAYS, COHORTS, ON_REQUEST, Columns, Ledger, quantiles_of
from simlib.run.warnings import RunWarning, kinds, kinds_of

__all__ = [
    "ALWAYS",
    "COHORTS",
    "MAX_ROWS",
    "ON_REQUEST",
    "QUANTITIES",
    "Columns",
    "Ledger",
    "Rows",
    "Run",
    "RunWarning",
    "check_runs",
    "check_table",
    "kinds",
    "kinds_of",
    "make_run",
    "metrics_of",
    "quantiles_of",
    "refuse_rollout",
    "rows_to_keep",
    "summary_of",
    "three_digits",
]
