"""What candidates are judged by: a row a measure, and how its amounts are shown.

A new measure is its row in `JUDGED`, the field of its limit in `Needs`, and the line in
`verdict.facts` that computes it.
"""

from __future__ import annotations

import math
from typing import Literal, NamedTuple

from simlib.run import three_digits

Kind = Literal["time", "bytes", "share", "count", "money"]
ConditionName = Literal["calm", "rough", "rollout"]


class Judged(NamedTuple):
    """A measure that candidates are judged by; less is better.

    Attributes
    ----------
    name : str
        As in `Needs`, with the unit.
    label : str
        In words.
    kind : str
        What it is an amount of: how it is shown.
    run : {"calm", "rough", "rollout"}
        Which run it is of: without a restart, with one, or while the candidate is rolled out and
        back. The team's share of bad proxies is there in all three.
    """

    name: str
    label: str
    kind: Kind
    run: ConditionName = "calm"


_ROWS = (
    Judged("latency_p50_s", "median staleness", "time"),
    Judged("latency_p95_s", "95 % staleness", "time"),
    Judged("latency_max_s", "worst staleness", "time"),
    Judged("bytes_per_h", "bytes a client and hour", "bytes"),
    Judged("money_per_month", "money a month", "money"),
    Judged("traffic_money_per_month", "money a month for traffic", "money"),
    Judged("servers_money_per_month", "money a month for servers", "money"),
    Judged("utilisation", "server busy", "share"),
    Judged("memory_bytes", "memory of sockets a node", "bytes"),
    Judged("nodes", "servers needed", "count"),
    Judged("without_push_frac", "clients without a stream", "share", "rough"),
    Judged("missed_frac", "changes missed", "share", "rough"),
    Judged("back_s", "back after a restart", "time", "rough"),
    Judged("fell_back_frac", "sent to polling by a restart", "share", "rough"),
    Judged("pushed_again_s", "pushed to again after a restart", "time", "rough"),
    Judged("harmed_frac", "users harmed by the rollout", "share", "rollout"),
    Judged("roll_back_s", "time to roll back", "time", "rollout"),
)
JUDGED = {row.name: row for row in _ROWS}
"""The measures, by name."""


def shown(value: float, kind: Kind) -> str:
    """Return an amount for a reader, with its unit; a mean of things is as many as that takes.

    Examples
    --------
    >>> shown(0.0235, "time"), shown(28.44, "time"), shown(880_000.0, "bytes")
    ('23.5 ms', '28.4 s', '880 kB')
    >>> shown(0.0147, "share"), shown(4.2, "count"), shown(math.inf, "time")
    ('1.47 %', '5', 'never')
    """
    if math.isnan(value):
        return "no value"
    if math.isinf(value):
        return "never" if kind == "time" else "no limit"
    if kind == "time":
        return f"{three_digits(value * 1e3)} ms" if abs(value) < 1.0 else f"{three_digits(value)} s"
    if kind == "bytes":
        for unit, factor in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
            if abs(value) >= factor:
                return f"{three_digits(value / factor)} {unit}"
        return f"{three_digits(value)} B"
    if kind == "count":
        return f"{math.ceil(round(value, 6)):,}"  # rounding errors make no thing of their own
    return f"{three_digits(value * 100.0)} %" if kind == "share" else three_digits(value)
