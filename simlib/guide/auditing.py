"""`audit`: each defect of the guide on the reader's own board, as written and repaired."""

from __future__ import annotations

import itertools
import math
from collections.abc import Hashable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from simlib import progress as bars
from simlib.engines import compiling
from simlib.engines.choice import check_engine, chosen_engine
from simlib.errors import ScenarioError, shown
from simlib.experiment import check_count, replicate
from simlib.guide.defects import DEFECTS, HORIZON_S, SETTLED_S, Defect, Figures
from simlib.guide.quantities import QUANTITIES
from simlib.rollout.plan import Plan
from simlib.rollout.trials import roll_out
from simlib.run import Run
from simlib.scenario import Scenario
from simlib.scenario.suggestions import nearest, scenario_rule
from simlib.theory import mean_interval

if TYPE_CHECKING:
    import pandas as pd

_OF_PLAN = "plan."


def audit(
    scenario: Scenario,
    *,
    only: Iterable[str] | None = None,
    replications: int = 5,
    seed: int = 1,
    engine: str = "auto",
    progress: bool = True,
) -> pd.DataFrame:
    """Show what each defect of the migration guide does to a board, and what its repair does.

    The board is pushed to for a quarter of an hour, with its own clients, changes, paths and
    server; each defect brings its own situation, such as a restart, in place of the board's faults.

    Parameters
    ----------
    scenario : Scenario
        The board.
    only : iterable of str, optional
        Names of defects, as in `guide.DEFECTS`; absent: all.
    replications : int, optional
        Of each simulated defect and of its repair, on the same draws, >= 2.
    seed, engine : optional
        As in `simulate`.
    progress : bool, optional
        A progress bar on stderr if it takes longer than two seconds.

    Returns
    -------
    pandas.DataFrame
        A row per defect, in the order of harm: ``defect``, ``guide`` (what it does), ``shown_by``
        (simulation, arithmetic or source), ``figure`` and ``unit`` (what the numbers are),
        ``as_written``, ``as_written_low``, ``as_written_high``, ``fix``, ``repaired``,
        ``repaired_low``, ``repaired_high`` (means, and 95 % intervals by Student's t; those of
        shares of users are exact), ``source`` and ``warnings``, of the runs. Defects that no run
        can show have no numbers but a source; NaN too is what a board cannot show, such as unseen
        changes where nothing changes.

    Raises
    ------
    ScenarioError
        An argument is out of range or no name of a defect.

    Examples
    --------
    >>> board = Scenario(updates={"rate_per_s": 0.1}, clients=50)
    >>> row = audit(board, only=["five attempts"], replications=2).iloc[0]
    >>> float(row["as_written"]), float(row["repaired"]), row["figure"]
    (1.0, 0.0, 'of the clients that were cut never come back')
    """
    import pandas as pd

    if not isinstance(scenario, Scenario):
        raise ScenarioError("scenario", scenario, scenario_rule(scenario))
    check_count("replications", replications, 2)
    check_engine(engine)
    defects = _chosen(only)
    board = scenario.replace(
        {
            "transport": "websocket",
            "faults": [],
            "horizon_s": HORIZON_S,
            "warm_up_s": SETTLED_S,
            "cool_down_s": 0.0,
            "ramp_s": min(scenario.ramp_s, SETTLED_S / 2.0),
        }
    )
    runs_n = 2 * replications * len(defects)  # about: some defects have no runs
    engine = chosen_engine(engine, itertools.repeat(board, runs_n))
    options: dict[str, Any] = {"seed": seed, "engine": engine, "progress": False}
    bar_of_all = bars.bar(len(defects), "audit", "defect", is_on=progress)
    rows = []
    with compiling(engine, is_shown=progress), bar_of_all as bar:
        for defect in defects:
            rows.append(_row(board, defect, replications, options))
            bar.update()
    return pd.DataFrame(rows)


def readable(table: pd.DataFrame) -> pd.DataFrame:
    """Return an audit for a reader: what the guide does, and both numbers with their intervals.

    Parameters
    ----------
    table : pandas.DataFrame
        A table from `audit`.

    Returns
    -------
    pandas.DataFrame
        A row per defect that has numbers: ``defect``, ``what the guide does``, ``as written``,
        ``repaired``, and ``what is counted``, all of them text.

    Examples
    --------
    >>> board = Scenario(updates={"rate_per_s": 0.1}, clients=50)
    >>> readable(audit(board, only=["two deciders"]))[["as written", "repaired"]].iloc[0].tolist()
    ['55.3 % (54.6 to 56.0)', '9.9 % (9.5 to 10.3)']
    """
    import pandas as pd

    shown_by_a_run = table[table["shown_by"] != "source"]
    rows = [
        {
            "defect": row["defect"],
            "what the guide does": row["guide"],
            "as written": _said(row, "as_written"),
            "repaired": _said(row, "repaired"),
            "what is counted": row["figure"],
        }
        for row in shown_by_a_run.to_dict("records")
    ]
    return pd.DataFrame(rows)


def _said(row: Mapping[Hashable, Any], wiring: str) -> str:
    mean, low, high = (float(row[f"{wiring}{end}"]) for end in ("", "_low", "_high"))
    unit = row["unit"]
    if unit == "share":
        mean, low, high, unit = 100.0 * mean, 100.0 * low, 100.0 * high, "%"
    texts = [f"{x:,.1f}" if abs(x) >= 0.95 else f"{x:.2g}" for x in (mean, low, high)]
    interval = f" ({texts[1]} to {texts[2]})" if low < high else ""
    return f"{texts[0]} {unit}".rstrip() + interval


def _chosen(only: Iterable[str] | None) -> list[Defect]:
    if only is None:
        return list(DEFECTS)
    known = [defect.name for defect in DEFECTS]
    names = [only] if isinstance(only, str) else list(only)
    for name in names:
        if name not in known:
            near = nearest(str(name), known)
            hint = f'; did you mean "{near}"?' if near else ""
            raise ScenarioError("only", name, f"must be names of {shown(known)}{hint}")
    return [defect for defect in DEFECTS if defect.name in names]


def _row(
    board: Scenario, defect: Defect, replications: int, options: Mapping[str, Any]
) -> dict[str, Any]:
    nothing: Figures = (math.nan, math.nan, math.nan)
    figures, label, unit = (nothing, nothing), defect.label, defect.unit
    warnings: list[str] = []
    if defect.computed is not None:
        figures = defect.computed(board)
    elif defect.quantity:
        quantity = QUANTITIES[defect.quantity]
        label, unit = quantity.label, quantity.unit
        found = []
        for changes in (defect.as_written, defect.repaired):
            both = {**defect.situation, **changes}
            given = {path: x(board) if callable(x) else x for path, x in both.items()}
            runs = _runs(board, given, replications, options)
            found.append(_interval([quantity.of(run) for run in runs], unit))
            warnings += [warning.kind for run in runs for warning in run.warnings]
        figures = found[0], found[1]
    names = ("", "_low", "_high")
    return {
        "defect": defect.name,
        "guide": defect.guide,
        "shown_by": defect.shown_by,
        "figure": label,
        "unit": unit,
        **{f"as_written{end}": x for end, x in zip(names, figures[0], strict=True)},
        "fix": defect.fix.format(polling=board.polling),
        **{f"repaired{end}": x for end, x in zip(names, figures[1], strict=True)},
        "source": defect.source,
        "warnings": ", ".join(dict.fromkeys(warnings)),
    }


def _interval(values: list[float], unit: str) -> Figures:
    """Return the mean and its interval; a share is between 0 and 1; NaN if a run has no value."""
    if any(math.isnan(value) for value in values):
        return math.nan, math.nan, math.nan
    mean, low, high = mean_interval(values)
    return (mean, max(0.0, low), min(1.0, high)) if unit == "share" else (mean, low, high)


def _runs(
    board: Scenario, changes: Mapping[str, Any], replications: int, options: Mapping[str, Any]
) -> list[Run]:
    of_plan = {
        path.removeprefix(_OF_PLAN): value
        for path, value in changes.items()
        if path.startswith(_OF_PLAN)
    }
    of_board = {path: value for path, value in changes.items() if not path.startswith(_OF_PLAN)}
    if not of_plan:
        return replicate(board.replace(of_board), replications, **options)
    # A cohort's transport is the plan's.
    plan, fleet = Plan(**of_plan), board.replace({**of_board, "transport": "polling"})
    return [
        roll_out(plan, fleet, replication=number, **options).run for number in range(replications)
    ]
