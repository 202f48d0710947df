"""How many clients the engines simulate within some processor time."""

from __future__ import annotations

import numpy as np
import pandas as pd

from simlib.errors import ScenarioError
from simlib.run import check_table


def capacity(costs: pd.DataFrame, within_s: float) -> pd.DataFrame:
    """Return how many clients each engine simulates for an hour within some processor time.

    Between two measured sizes, the cost is interpolated as a power of the number of clients; it
    never falls.

    Parameters
    ----------
    costs : pandas.DataFrame
        A row per measurement: ``workload``, ``engine``, ``clients``, ``horizon_s`` and ``cpu_s``,
        as ``data/measured/engines.json`` has them.
    within_s : float
        Processor time, seconds, > 0.

    Returns
    -------
    pandas.DataFrame
        ``workload``, ``engine`` and ``clients``: infinite if the largest measured size takes less
        time, NaN if the smallest takes more.

    Raises
    ------
    ScenarioError
        The table has no rows, a column is missing or does not hold text or numbers above 0 in
        every row, or `within_s` is not above 0.

    Examples
    --------
    >>> costs = pd.DataFrame(
    ...     {
    ...         "workload": "pollers",
    ...         "engine": "simpy",
    ...         "clients": [100, 10_000],
    ...         "horizon_s": 3600.0,
    ...         "cpu_s": [1.0, 100.0],
    ...     }
    ... )
    >>> capacity(costs, 10.0)["clients"].round(6).tolist()
    [1000.0]
    """
    positive = ("clients", "horizon_s", "cpu_s")
    check_table("costs", costs, texts=("workload", "engine"), positive=positive)
    is_real = isinstance(within_s, int | float | np.number) and not isinstance(within_s, bool)
    if not is_real or not within_s > 0.0:
        raise ScenarioError("within_s", within_s, "must be > 0")
    rows = []
    for (workload, engine), group in costs.groupby(["workload", "engine"], sort=False):
        sizes = group.sort_values("clients")
        hour_s = np.log(np.maximum.accumulate(sizes["cpu_s"] / sizes["horizon_s"] * 3600.0))
        clients = np.log(sizes["clients"])
        size = np.interp(np.log(within_s), hour_s, clients, left=np.nan, right=np.inf)
        rows.append((workload, engine, float(np.exp(size))))
    return pd.DataFrame(rows, columns=["workload", "engine", "clients"])
