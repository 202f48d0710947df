"""How much is enough, and how much is too much: `fewest` and `find_limit`.

Numbers are tried by doubling and then by bisection, each with the same replications, so that all of
them have the same changes, sessions and user activity.
"""

from __future__ import annotations

import math
import numbers
import sys
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from simlib.analysis.closed_forms import Metrics, metrics_by_theory
from simlib.errors import ScenarioError
from simlib.experiment import check_count, sweep
from simlib.run import QUANTITIES
from simlib.scenario import Scenario
from simlib.scenario.suggestions import METRIC_ALIASES, hint, nearest, scenario_rule

if TYPE_CHECKING:
    import pandas as pd

_CLOSEST = 0.001
_OPTIONS = ("seed", "engine", "on", "workers", "store", "confidence", "progress")


def fewest(
    scenario: Scenario,
    over: str,
    metric: str,
    *,
    below: float,
    least: int = 1,
    most: int = 64,
    replications: int = 5,
    **options: Any,
) -> pd.DataFrame:
    """Find the smallest whole number of a setting with which a metric stays below a limit.

    Parameters
    ----------
    scenario : Scenario
    over : str
        The path of a setting that is a whole number, and with which the metric falls, such as
        ``"server.nodes"`` or ``"server.workers"``.
    metric : str
        A column of `metrics.table`, such as ``"latency_p95_s"`` or ``"utilisation"``.
    below : float
        The limit, in the metric's unit. The whole interval of the mean has to be below it.
    least, most : int, optional
        The smallest and the largest number that are tried, >= 1. A rolling deploy, for instance,
        needs two nodes at least.
    replications : int, optional
        Of each number, >= 2.
    **options
        ``seed``, ``engine``, ``on``, ``workers``, ``store``, ``confidence`` and ``progress``, as in
        `sweep`.

    Returns
    -------
    pandas.DataFrame
        A row per number that was tried, ascending: the setting, ``mean``, ``low`` and ``high`` of
        the metric (Student t), ``is_below``, and ``warnings``. ``attrs["fewest"]`` is the answer,
        None if even `most` is not enough.

    Raises
    ------
    ScenarioError
        There is no such setting or metric, `most` is none of its values, an argument is
        out of range, or the metric has no value in some run, such as a latency if nothing arrives.

    Notes
    -----
    Only numbers that bisection asks for are tried: a metric that rises and falls with the setting
    may have a smaller answer.

    Examples
    --------
    >>> board = Scenario(
    ...     updates={"rate_per_s": 0.5},
    ...     transport="websocket",
    ...     clients=200,
    ...     horizon_s=60,
    ...     server={"send_s": 1e-3},
    ... )
    >>> table = fewest(board, "server.nodes", "latency_p95_s", below=0.1, replications=3)
    >>> table.attrs["fewest"], table["server.nodes"].tolist()
    (3, [1, 2, 3, 4])
    """
    _check_asked(scenario, over, options)
    check_count("least", least, 1)
    check_count("most", most, least)
    _check_metric("metric", metric)
    _check_number("below", below)
    _check_value(scenario, over, most)
    tried: dict[int, pd.DataFrame] = {}

    def is_enough(number: int) -> bool:
        if number not in tried:
            table = sweep(scenario, {over: [number]}, replications=replications, **options)
            row = table[table["quantity"] == metric]
            _check_values("metric", metric, row, f"{over} = {number}")
            tried[number] = row.assign(is_below=row["high"] < below)
        return bool(tried[number]["is_below"].all())

    _, answer = _boundary(lambda number: not is_enough(number), least, most, _middle_of_whole)
    return _table(tried, over, answer)


def find_limit(
    scenario: Scenario,
    over: str,
    needs: Mapping[str, float],
    *,
    least: float,
    most: float,
    closeness: float = 0.05,
    replications: int = 5,
    **options: Any,
) -> pd.DataFrame:
    """Raise a setting until a need breaks, and say which one it is.

    Parameters
    ----------
    scenario : Scenario
    over : str
        The path of a setting that is a number, and with which the needs get harder to meet, such as
        ``"clients"`` or ``"updates.rate_per_s"``.
    needs : mapping of str to float
        Columns of `metrics.table`, and what each has to stay below, in its unit: the whole interval
        of its mean.
    least, most : float
        The smallest and the largest value that are tried, > 0.
    closeness : float, optional
        How close the answer and the next value that breaks are, as a share of the answer, in
        [0.001, 1]; of a setting that is a whole number, neighbours are close enough.
    replications : int, optional
        Of each value, >= 2.
    **options
        ``seed``, ``engine``, ``on``, ``workers``, ``store``, ``confidence`` and ``progress``, as in
        `sweep`.

    Returns
    -------
    pandas.DataFrame
        A row per value that was tried, ascending: the setting, for each need its ``mean`` as a
        column of its name, the upper end of its interval as ``<name>_high`` and what closed forms
        say as ``<name>_theory`` (`metrics_by_theory`; NaN where there is none), ``breaks`` (the
        needs that break, joined by commas) and ``warnings``. ``attrs["limit"]`` is the largest
        value found with which all needs hold, None if they do not even with `least`;
        ``attrs["breaks"]`` are the needs that break next, a tuple that is empty if all hold with
        `most`. ``attrs["theory"]`` has, for each need whose closed form reaches its limit or
        `most`, the largest value with which the form keeps it; None: not even with `least`.

    Raises
    ------
    ScenarioError
        There is no such setting or metric, a value is none of the setting's, an argument is out of
        range, or a metric has no value in some run, such as a latency if nothing arrives.

    Notes
    -----
    Only values that bisection asks for are tried: needs that break and hold again are not seen.

    Examples
    --------
    >>> board = Scenario(
    ...     updates={"rate_per_s": 0.5},
    ...     transport="websocket",
    ...     horizon_s=60,
    ...     server={"send_s": 1e-3},
    ... )
    >>> needs = {"latency_p95_s": 0.2, "utilisation": 0.8}
    >>> found = find_limit(board, "clients", needs, least=50, most=2000, replications=3)
    >>> 100 < found.attrs["limit"] < 250, found.attrs["breaks"]
    (True, ('latency_p95_s',))
    >>> found.attrs["theory"]  # of utilisation, and of no quantile of a broadcast
    {'utilisation': 1597}
    """
    _check_asked(scenario, over, options)
    if not isinstance(needs, Mapping) or not needs:
        rule = 'must be a mapping of metrics to their limits, such as {"latency_p95_s": 2}'
        raise ScenarioError("needs", needs, rule)
    for metric, below in needs.items():
        _check_metric("needs", metric)
        _check_number(f"needs.{metric}", below)
    for name, value in (("least", least), ("most", most), ("closeness", closeness)):
        _check_number(name, value)
    if not 0 < least < math.inf:
        raise ScenarioError("least", least, "must be in (0, inf)")
    if not least <= most < math.inf:
        raise ScenarioError("most", most, f"must be in [{least:g}, inf)")
    if not _CLOSEST <= closeness <= 1.0:
        raise ScenarioError("closeness", closeness, f"must be in [{_CLOSEST:g}, 1]")
    _check_value(scenario, over, most)
    tried: dict[float, dict[str, Any]] = {}

    def holds(value: float) -> bool:
        if value not in tried:
            table = sweep(scenario, {over: [value]}, replications=replications, **options)
            expected = _expected(scenario, over, value)
            tried[value] = _judged(table, over, value, needs, expected)
        return not tried[value]["breaks"]

    is_whole = _is_whole(scenario, over, least)
    if is_whole and least == int(least) and most == int(most):
        least, most = int(least), int(most)

    def middle(held: float, broken: float) -> float | None:
        if broken <= held * (1.0 + closeness):
            return None
        return _middle_of_whole(held, broken) if is_whole else math.sqrt(held * broken)

    limit, broken = _boundary(holds, least, most, middle)
    table = _limits(tried, limit, () if broken is None else tuple(tried[broken]["breaks"]))
    table.attrs["theory"] = _limits_by_theory(scenario, over, needs, (least, most), is_whole)
    return table


def _limits_by_theory(
    scenario: Scenario,
    over: str,
    needs: Mapping[str, float],
    ends: tuple[float, float],
    is_whole: bool,
) -> dict[str, float | None]:
    """Return the largest value of a setting with which the closed form of each need keeps it."""

    def middle(held: float, broken: float) -> float | None:
        if is_whole:
            return _middle_of_whole(held, broken)
        return None if broken <= held * (1.0 + _CLOSEST / 10.0) else math.sqrt(held * broken)

    found: dict[str, float | None] = {}
    for metric, limit in needs.items():

        def keeps(value: float, metric: str = metric, limit: float = limit) -> bool:
            return _by_theory(_expected(scenario, over, value), metric) < limit

        def has_form(value: float, metric: str = metric) -> bool:
            return not math.isnan(_by_theory(_expected(scenario, over, value), metric))

        if has_form(ends[0]):
            held, broken = _boundary(keeps, *ends, middle)
            if broken is None or has_form(broken):  # or else the form ends before the limit
                found[metric] = held
    return found


def _expected(scenario: Scenario, over: str, value: float) -> Metrics:
    """Return the closed forms with one value of a setting; none where it makes no scenario."""
    try:
        return metrics_by_theory(scenario.replace({over: value}))
    except ScenarioError:
        return Metrics()


def _by_theory(expected: Metrics, metric: str) -> float:
    return float(getattr(expected, metric, math.nan))


def _judged(
    table: pd.DataFrame, over: str, value: float, needs: Mapping[str, float], expected: Metrics
) -> dict[str, Any]:
    """What came of the runs with one value: the row of a table of `find_limit`."""
    row: dict[str, Any] = {over: value}
    breaks = []
    for metric, limit in needs.items():
        found = table[table["quantity"] == metric]
        _check_values(f"needs.{metric}", limit, found, f"{over} = {value}")
        row[metric], row[f"{metric}_high"] = found["mean"].iloc[0], found["high"].iloc[0]
        row[f"{metric}_theory"] = _by_theory(expected, metric)
        if not row[f"{metric}_high"] < limit:
            breaks.append(metric)
    return {**row, "breaks": breaks, "warnings": table["warnings"].iloc[0]}


def _limits(
    tried: Mapping[float, dict[str, Any]], limit: float | None, breaks: tuple[str, ...]
) -> pd.DataFrame:
    import pandas as pd

    rows = [
        {**tried[value], "breaks": ", ".join(tried[value]["breaks"])} for value in sorted(tried)
    ]
    table = pd.DataFrame(rows)
    table.attrs = {"limit": limit, "breaks": breaks}
    return table


def _check_asked(scenario: Any, over: Any, options: Mapping[str, Any]) -> None:
    if not isinstance(scenario, Scenario):
        raise ScenarioError("scenario", scenario, scenario_rule(scenario))
    if not isinstance(over, str):
        raise ScenarioError("over", over, 'must be the path of one setting, such as "clients"')
    for name in options:
        if name not in _OPTIONS:
            rule = f"must be among {', '.join(_OPTIONS)}{hint(name, _OPTIONS)}"
            raise ScenarioError("options", name, rule)


def _check_metric(place: str, metric: Any) -> None:
    if metric in QUANTITIES:
        return
    rule = f"must be a column of metrics.table{hint(metric, QUANTITIES, METRIC_ALIASES)}"
    if nearest(metric, [*QUANTITIES, "memory_bytes"], METRIC_ALIASES) == "memory_bytes":
        rule = "must be a column of metrics.table; metrics.by_node(run) has the memory"
    raise ScenarioError(place, metric, rule)


def _check_number(place: str, value: Any) -> None:
    is_number = isinstance(value, numbers.Real) and not isinstance(value, bool)
    if not is_number or not abs(value) <= sys.float_info.max:
        raise ScenarioError(place, value, "must be a finite number")


def _check_values(place: str, given: Any, rows: pd.DataFrame, when: str) -> None:
    if rows["mean"].isna().any():
        rule = f"must have a value in every run: with {when} it has none in some"
        raise ScenarioError(place, given, rule)


def _is_whole(scenario: Any, over: str, value: float) -> bool:
    """Say whether a setting is a whole number: whether one between two is refused."""
    try:
        scenario.replace({over: value})
        scenario.replace({over: int(value) + 0.5})
    except ScenarioError as error:
        return error.path == over
    return False


def _check_value(scenario: Scenario, over: str, value: float) -> None:
    """Refuse a largest number that is none of the setting's values, before anything is run."""
    try:
        scenario.replace({over: value})
    except ScenarioError as error:
        if error.path == over:  # what else is wrong with so many may not matter to the answer
            raise


def _boundary(
    goes_on: Callable[[Any], bool],
    least: Any,
    most: Any,
    middle: Callable[[Any, Any], Any],
) -> tuple[Any, Any]:
    """Return the last value with which it goes on, and the first with which it does not.

    Values double from `least` to `most`; then `middle` gives the one to try between two, or None if
    they are close enough. None stands for no such value.
    """
    last, value = None, least
    while goes_on(value):
        if value == most:
            return value, None
        last, value = value, min(2 * value, most)
    first = value
    while last is not None:
        between = middle(last, first)
        if between is None:
            break
        last, first = (between, first) if goes_on(between) else (last, between)
    return last, first


def _middle_of_whole(low: Any, high: Any) -> Any:
    """Return the whole number in the middle, None between neighbours."""
    return (low + high) // 2 if high - low > 1 else None


def _table(tried: dict[int, pd.DataFrame], over: str, answer: int | None) -> pd.DataFrame:
    import pandas as pd

    columns = [over, "mean", "low", "high", "is_below", "warnings"]
    rows = pd.concat([tried[number] for number in sorted(tried)], ignore_index=True)[columns]
    rows.attrs = {"fewest": answer}
    return rows
