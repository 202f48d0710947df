"""How much is enough: the fewest nodes, workers or the like for a metric below a limit.

Whole numbers are tried by doubling and then by bisection, each with the same replications, so that
all of them have the same changes, sessions and user activity.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from simlib.errors import ScenarioError
from simlib.experiment import check_count, sweep
from simlib.run import QUANTITIES
from simlib.scenario import Scenario
from simlib.scenario.suggestions import METRIC_ALIASES, hint, nearest

if TYPE_CHECKING:
    import pandas as pd


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
    check_count("least", least, 1)
    check_count("most", most, least)
    if not isinstance(over, str):
        raise ScenarioError("over", over, "must be the path of one setting")
    if metric not in QUANTITIES:
        rule = f"must be a column of metrics.table{hint(metric, QUANTITIES, METRIC_ALIASES)}"
        if nearest(metric, [*QUANTITIES, "memory_bytes"], METRIC_ALIASES) == "memory_bytes":
            rule = "must be a column of metrics.table; metrics.by_node(run) has the memory"
        raise ScenarioError("metric", metric, rule)
    if isinstance(below, bool) or not isinstance(below, int | float) or below != below:
        raise ScenarioError("below", below, "must be a number")
    _check_most(scenario, over, most)
    tried: dict[int, pd.DataFrame] = {}

    def is_enough(number: int) -> bool:
        if number not in tried:
            table = sweep(scenario, {over: [number]}, replications=replications, **options)
            row = table[table["quantity"] == metric]
            if row["mean"].isna().any():
                rule = f"must have a value in every run: with {over} = {number} it has none in some"
                raise ScenarioError("metric", metric, rule)
            tried[number] = row.assign(is_below=row["high"] < below)
        return bool(tried[number]["is_below"].all())

    answer = _first(is_enough, least, most)
    return _table(tried, over, answer)


def _check_most(scenario: Any, over: str, most: int) -> None:
    """Refuse a largest number that is none of the setting's values, before anything is run."""
    if isinstance(scenario, Scenario):  # or else `sweep` refuses it
        try:
            scenario.replace({over: most})
        except ScenarioError as error:
            if error.path == over:  # what else is wrong with so many may not matter to the answer
                raise


def _first(is_enough: Any, least: int, most: int) -> int | None:
    """Return the first number that is enough, by doubling and bisection."""
    short, number = least - 1, least
    while not is_enough(number):
        if number == most:
            return None
        short, number = number, min(2 * number, most)
    while number - short > 1:
        middle = (short + number) // 2
        short, number = (short, middle) if is_enough(middle) else (middle, number)
    return number


def _table(tried: dict[int, pd.DataFrame], over: str, answer: int | None) -> pd.DataFrame:
    import pandas as pd

    columns = [over, "mean", "low", "high", "is_below", "warnings"]
    rows = pd.concat([tried[number] for number in sorted(tried)], ignore_index=True)[columns]
    rows.attrs = {"fewest": answer}
    return rows
