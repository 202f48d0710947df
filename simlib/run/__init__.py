"""One run's result: columns of arrays with their provenance, read as tidy pandas tables."""

from simlib.run.checks import check_keep, check_runs, check_table, refuse_rollout
from simlib.run.result import Run, make_run
from simlib.run.summary import QUANTITIES, Rows, metrics_of, summary_of, three_digits
from simlib.run.tables import ALWAYS, COHORTS, ON_REQUEST, Columns, Ledger, quantiles_of
from simlib.run.warnings import RunWarning, kinds, kinds_of

__all__ = [
    "ALWAYS",
    "COHORTS",
    "ON_REQUEST",
    "QUANTITIES",
    "Columns",
    "Ledger",
    "Rows",
    "Run",
    "RunWarning",
    "check_keep",
    "check_runs",
    "check_table",
    "kinds",
    "kinds_of",
    "make_run",
    "metrics_of",
    "quantiles_of",
    "refuse_rollout",
    "summary_of",
    "three_digits",
]
