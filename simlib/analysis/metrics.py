"""Tables of runs to tables of figures that a person reads; nothing here knows an engine.

The six metrics that a migration watches, each with its unit and denominator:

=============================== ====================================================
``connection_count``            open connections, mean over time
``average_latency_s``           publish to apply, mean over delivered changes, s
``reconnection_rate_per_h``     connections made again, per client-hour of presence
``message_rate_per_s``          polls and pushed messages, per second
``error_rate_per_h``            failed polls and lost or refused connections, per
                                client-hour of presence
``fallback_to_polling_frac``    clients that fell back to polling, per WebSocket session
=============================== ====================================================
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from simlib import theory
from simlib.core.measures import GUIDE_METRICS
from simlib.core.record import Count
from simlib.core.wire import Message, message_sizes
from simlib.errors import ScenarioError
from simlib.renamed import renamed
from simlib.run import Ledger, Run, check_runs, check_table
from simlib.scenario import Scenario

_KEYS = ["transport", "cohort"]
_ROW_S = 10.0
_SUMS = (
    *("connected_s", "present_s", "width_s", "sessions", "latency_sum_s"),
    *("delivered", "reconnects", "polls", "messages", "errors", "fallbacks"),
)
_WHOLE = ("latency_sum_s", "delivered")
_SUMMED = [*(what.name.lower() for what in Count), "latency_sum_s", "width_s"]
_MEANS = {
    "connected_s": "connection_count",
    "present_s": "present_count",
    "busy_s": "utilisation",
}
QUANTILES = {"latency_p50_s": 0.5, "latency_p95_s": 0.95, "latency_p99_s": 0.99}


def guide_metrics(table: pd.DataFrame) -> pd.DataFrame:
    """Return the six metrics of rows of a timeline, or of groups of them.

    Parameters
    ----------
    table : pandas.DataFrame
        Rows of ``run.frame("timeline")``, with their columns summed or as they are:
        the counts, ``latency_sum_s``, ``width_s``, ``present_s``, ``connected_s`` and ``sessions``
        (that began).

    Returns
    -------
    pandas.DataFrame
        The six columns, rows as given.

    Raises
    ------
    ScenarioError
        A column is missing, or does not hold what it should in every row.
    """
    check_table("table", table, texts=("transport",), numbers=_SUMS)
    columns = {name: _ratio(*parts) for name, parts in ratio_parts(table).items()}
    websocket = table["transport"] == "websocket"
    columns["fallback_to_polling_frac"] = columns["fallback_to_polling_frac"].where(websocket)
    return pd.DataFrame(columns)


def ratio_parts(sums: Any) -> dict[str, tuple[Any, Any]]:
    """Return each of the six metrics as what is divided by what: their only definition.

    Parameters
    ----------
    sums : pandas.DataFrame or mapping of str to number
        As for `guide_metrics`.

    Examples
    --------
    >>> sums = dict.fromkeys(_SUMS, 1.0) | {"errors": 6, "present_s": 1800.0}
    >>> ratio_parts(sums)["error_rate_per_h"]
    (6, 0.5)
    """
    present_h = sums["present_s"] / 3600.0
    return {
        "connection_count": (sums["connected_s"], sums["width_s"]),
        "average_latency_s": (sums["latency_sum_s"], sums["delivered"]),
        "reconnection_rate_per_h": (sums["reconnects"], present_h),
        "message_rate_per_s": (sums["polls"] + sums["messages"], sums["width_s"]),
        "error_rate_per_h": (sums["errors"], present_h),
        "fallback_to_polling_frac": (sums["fallbacks"], sums["sessions"]),
    }


def _ratio(above: pd.Series, below: pd.Series) -> pd.Series:
    return (above / below).where(below > 0)


def _with_seconds(run: Run, timeline: pd.DataFrame) -> pd.DataFrame:
    return timeline.assign(
        connected_s=timeline["connection_count"] * timeline["width_s"],
        present_s=timeline["present_count"] * timeline["width_s"],
        busy_s=timeline["utilisation"] * timeline["width_s"],
        sessions=_began(run, timeline),
    )


def _began(run: Run, timeline: pd.DataFrame) -> pd.Series:
    """How many sessions, or stays in a cohort, began in each row."""
    bin_s, place = run.scenario.bin_s, timeline.groupby("cohort").cumcount()
    began, began_s = run.frame("clients"), "start_s"
    if run.has_cohorts:
        began, began_s = run.frame("exposures"), "from_s"
    starts = (began[began_s] / bin_s).astype(int).clip(upper=place.max())
    counts = began.groupby([starts, "cohort"]).size()
    keys = pd.MultiIndex.from_arrays([place, timeline["cohort"]])
    return pd.Series(counts.reindex(keys, fill_value=0).to_numpy(), timeline.index)


def over_time(run: Run, *, width_s: float | None = None) -> pd.DataFrame:
    """Return the six metrics, bandwidth and utilisation over time.

    Parameters
    ----------
    run : Run
    width_s : float, optional
        Width of the rows, a whole number of the run's bins; default: the one nearest to 10 s.

    Raises
    ------
    ScenarioError
        The width is not a whole number of bins.

    Returns
    -------
    pandas.DataFrame
        ``t_s``, ``transport``, ``cohort``, the six metrics, ``up_bytes_per_s`` and
        ``down_bytes_per_s`` per present client, ``utilisation``.
    """
    check_runs([run])
    bin_s = run.scenario.bin_s
    per_row = max(1, round(_ROW_S / bin_s)) if width_s is None else _per_row(width_s, bin_s)
    table = _with_seconds(run, run.frame("timeline"))
    row = table.groupby("cohort").cumcount() // per_row
    rows = table.groupby([row, *_KEYS], sort=False)
    sums = rows.sum(numeric_only=True).reset_index(_KEYS).reset_index(drop=True)
    return pd.DataFrame(
        {
            "t_s": rows["t_s"].first().to_numpy(),
            **{key: sums[key] for key in _KEYS},
            **guide_metrics(sums),
            "up_bytes_per_s": _ratio(sums["up_bytes"], sums["present_s"]),
            "down_bytes_per_s": _ratio(sums["down_bytes"], sums["present_s"]),
            "utilisation": _ratio(sums["busy_s"], sums["width_s"]),
        }
    )


def _per_row(width_s: Any, bin_s: float) -> int:
    is_number = isinstance(width_s, int | float) and not isinstance(width_s, bool)
    bins = width_s / bin_s if is_number else np.nan
    if not (1 <= bins < np.inf and abs(bins - round(bins)) < 1e-6):
        raise ScenarioError(
            "width_s", width_s, f"must be a multiple of the run's bin_s ({bin_s:g})"
        )
    return round(bins)


def summary(*runs: Run) -> pd.DataFrame:
    """Return the table to read first.

    Parameters
    ----------
    *runs : Run
        Simulated or measured.

    Returns
    -------
    pandas.DataFrame
        A row per run, transport and cohort: ``source`` (engine or live), ``clients``, the six
        metrics, latency quantiles and maximum in seconds, the ledger, ``up_bytes_per_h`` and
        ``down_bytes_per_h`` per client-hour of presence, ``utilisation``. Rates are taken after
        the warm-up. Of a rollout, ``clients`` and the ledger are of those who ended in the cohort.
    """
    check_runs(runs)
    return summary_of([row for run in runs for row in totals(run)])


def totals(run: Run) -> list[dict[str, Any]]:
    """Return what the summary of a run is made of, in a millisecond: what a sweep keeps of it.

    Parameters
    ----------
    run : Run

    Returns
    -------
    list of dict
        A row per transport and cohort: sums of the timeline after the warm-up, latency quantiles
        and the ledger; `summary_of` makes a table of any number of them.

    Examples
    --------
    >>> from simlib.engines import simulate
    >>> run = simulate(Scenario(updates={"rate_per_s": 0.1}, clients=5, horizon_s=60))
    >>> [row["clients"] for row in totals(run)]
    [5]
    """
    check_runs([run])
    timeline, latency = run.columns("timeline"), run.columns("latency")
    t_s, width_s = timeline["t_s"], timeline["width_s"]
    # A single wide bin may hold the warm-up and all the rest: then it is all there is.
    counted = t_s >= min(run.scenario.warm_up_s, t_s[-1])
    rows = []
    for transport, cohort in dict.fromkeys(
        zip(timeline["transport"], timeline["cohort"], strict=True)
    ):
        of_cohort = (timeline["transport"] == transport) & (timeline["cohort"] == cohort)
        mine = counted & of_cohort
        high_s = latency["high_s"]
        if run.has_cohorts:
            high_s = high_s[latency["cohort"] == cohort]
        quantiles = run.latency_quantiles(list(QUANTILES.values()), cohort=cohort)
        whole_s, delivered = (timeline[name][of_cohort].sum() for name in _WHOLE)
        about = {
            "source": run.provenance["engine"],
            "clients": int((run.columns("clients")["cohort"] == cohort).sum()),
            "sessions": _sessions(run, cohort),
            **dict(zip(QUANTILES, quantiles, strict=True)),
            "latency_max_s": high_s.max() if len(high_s) else np.nan,
            "whole_latency_s": whole_s / delivered if delivered else np.nan,
            "ledger": run.ledger_of(cohort),
        }
        sums = {name: timeline[name][mine].sum() for name in _SUMMED}
        seconds = {
            name: (timeline[column][mine] * width_s[mine]).sum() for name, column in _MEANS.items()
        }
        rows.append({"transport": transport, "cohort": cohort, **about, **sums, **seconds})
    return rows


def _sessions(run: Run, cohort: str) -> int:
    of = run.columns("exposures" if run.has_cohorts else "clients")
    return int((of["cohort"] == cohort).sum())


def summary_of(rows: Sequence[dict[str, Any]]) -> pd.DataFrame:
    """Return the summary, see `summary`, of what `totals` returned of any number of runs."""
    sums = pd.DataFrame(list(rows))
    ledgers = pd.DataFrame([Ledger(*row["ledger"]) for row in rows])
    metrics = guide_metrics(sums)
    metrics["average_latency_s"] = sums["whole_latency_s"]
    figures = {
        "up_bytes_per_h": _ratio(sums["up_bytes"], sums["present_s"] / 3600.0),
        "down_bytes_per_h": _ratio(sums["down_bytes"], sums["present_s"] / 3600.0),
        "utilisation": _ratio(sums["busy_s"], sums["width_s"]),
    }
    latencies = sums[[*QUANTILES, "latency_max_s"]]
    columns = [sums[["source", *_KEYS, "clients"]], metrics, latencies, ledgers]
    return pd.concat([*columns, pd.DataFrame(figures)], axis=1)


def ecdf(run: Run) -> pd.DataFrame:
    """Return the distribution of latency: ``latency_s`` ascending and ``share`` delivered by then.

    Parameters
    ----------
    run : Run

    Returns
    -------
    pandas.DataFrame
        A row per latency bucket that holds something.
    """
    check_runs([run])
    counts = run.frame("latency").groupby("high_s")["count"].sum()
    share = counts.cumsum() / max(1, counts.sum())
    return pd.DataFrame({"latency_s": counts.index.to_numpy(), "share": share.to_numpy()})


_TAIL = (0.5, 0.99, 0.9999, 0.999999)


def tail(*runs: Run) -> pd.DataFrame:
    """Return how long the slowest changes took: latency quantiles down to one in a million.

    Parameters
    ----------
    *runs : Run

    Returns
    -------
    pandas.DataFrame
        A row per run: ``clients``, ``delivered``, and a column per quantile, seconds; NaN where
        fewer than ten deliveries lie beyond it, too few to say.

    Examples
    --------
    >>> from simlib.engines import simulate
    >>> run = simulate(Scenario(updates={"rate_per_s": 0.5}, clients=5, horizon_s=300))
    >>> tail(run).isna().to_numpy().tolist()
    [[False, False, False, True, True, True]]
    """
    check_runs(runs)
    rows = []
    for run in runs:
        delivered = run.ledger.delivered
        beyond = delivered * (1.0 - np.array(_TAIL))
        latency_s = np.where(beyond >= 10.0, run.latency_quantiles(list(_TAIL)), np.nan)
        rows.append((len(run.columns("clients")["start_s"]), delivered, *latency_s))
    return pd.DataFrame(
        rows, columns=["clients", "delivered", *(f"p{q * 100:.8g}_s" for q in _TAIL)]
    )


QUANTITIES = (
    *GUIDE_METRICS,
    *QUANTILES,
    "latency_max_s",
    *Ledger._fields,
    "up_bytes_per_h",
    "down_bytes_per_h",
    "utilisation",
)
"""The figures of a summary, in its order."""

_TOLERANCE_FRAC = {
    "polling": {"latency_p50_s": 0.03, "latency_p95_s": 0.02, "latency_p99_s": 0.01},
    "websocket": {"latency_p50_s": 0.3, "latency_p95_s": 0.3, "latency_p99_s": 0.3},
}
_TOLERANCE_S = {"polling": 0.0, "websocket": 0.5e-3}
_COMPARED = (
    "latency_p50_s",
    "latency_p95_s",
    "latency_p99_s",
    "average_latency_s",
    "delivered",
    "up_bytes_per_h",
    "down_bytes_per_h",
    "message_rate_per_s",
    "utilisation",
)


def compare(predicted: Run, measured: Run) -> pd.DataFrame:
    """Return predicted beside measured, the error of the prediction and a verdict.

    Parameters
    ----------
    predicted, measured : Run
        Of the same scenario and seed; the measured one from `measure`.

    Returns
    -------
    pandas.DataFrame
        A row per quantity: ``quantity``, ``predicted``, ``measured``, ``error`` (predicted -
        measured), ``error_frac`` (relative to measured), ``allowed`` (largest absolute error, for
        the quantities that have a bar) and ``verdict``: ``within`` or ``outside`` the bar, or
        ``inconclusive`` where it is outside but other programs kept the machine busy.
    """
    check_runs([predicted, measured])
    for name in ("scenario_hash", "seed", "replication"):
        both = [run.provenance[name] for run in (predicted, measured)]
        if both[0] != both[1]:
            rule = f"must have the same {name}: simulate(measured.scenario, seed=...)"
            raise ScenarioError("predicted, measured", both, rule)
    left, right = summary(predicted).iloc[0], summary(measured).iloc[0]
    table = pd.DataFrame(
        {
            "quantity": list(_COMPARED),
            "predicted": [float(left[name]) for name in _COMPARED],
            "measured": [float(right[name]) for name in _COMPARED],
        }
    )
    table["error"] = table["predicted"] - table["measured"]
    table["error_frac"] = _ratio(table["error"], table["measured"])
    transport = measured.scenario.transport
    scale = float(measured.provenance.get("time_scale", 1.0))
    relative = table["quantity"].map(_TOLERANCE_FRAC[transport]) * table["measured"]
    table["allowed"] = relative.clip(lower=_TOLERANCE_S[transport] * scale)
    outside = "outside" if measured.provenance.get("quiet", True) else "inconclusive"
    verdict = np.where(table["error"].abs() <= table["allowed"], "within", outside)
    table["verdict"] = np.where(table["allowed"].isna(), "", verdict)
    return table


def intervals(runs: Sequence[Run], *, confidence: float = 0.95) -> pd.DataFrame:
    """Return the summary of replications: means with confidence intervals.

    Parameters
    ----------
    runs : sequence of Run
        Independent replications, of one or more transports.
    confidence : float, optional
        In (0, 1).

    Returns
    -------
    pandas.DataFrame
        A row per transport and quantity: ``transport``, ``quantity``, ``mean``, ``low``,
        ``high`` (Student t over the replications) and ``replications``.
    """
    check_runs(runs)
    _check_replications(runs)
    table = summary(*runs)
    rows = []
    for transport, group in table.groupby("transport", sort=False):
        for name in group.select_dtypes("number").columns.drop("clients"):
            values = group[name].to_numpy(dtype=float)
            if np.isfinite(values).all():
                interval = theory.mean_interval(values, confidence)
            else:
                interval = (np.nan, np.nan, np.nan)  # has no meaning for this transport
            rows.append((transport, name, *interval, len(values)))
    columns = ["transport", "quantity", "mean", "low", "high", "replications"]
    return pd.DataFrame(rows, columns=columns)


def _check_replications(runs: Sequence[Run]) -> None:
    """Independent replications: one scenario and source for each transport, no run twice."""
    kinds: dict[str, tuple[str, str]] = {}
    seen = set()
    for run in runs:
        transport, about = run.scenario.transport, run.provenance
        kind = (about["scenario_hash"], about["engine"])
        if kinds.setdefault(transport, kind) != kind:
            raise ScenarioError("runs", run, "must be of one scenario and source per transport")
        if (transport, about["seed"], about["replication"]) in seen:
            raise ScenarioError("runs", run, "must be independent: this replication came before")
        seen.add((transport, about["seed"], about["replication"]))


_HEADLINE = {
    "latency_p50_s": ("half of the changes seen within", "s", 1.0),
    "latency_p95_s": ("95 % seen within", "s", 1.0),
    "latency_p99_s": ("99 % seen within", "s", 1.0),
    "latency_max_s": ("slowest", "s", 1.0),
    "down_bytes_per_h": ("down, per client", "kB/h", 1e-3),
    "up_bytes_per_h": ("up, per client", "kB/h", 1e-3),
    "utilisation": ("server busy", "%", 100.0),
    "lost": ("changes lost", "", 1.0),
}


def headline(runs: Sequence[Run]) -> pd.DataFrame:
    """Return the few figures that decide, rounded, one column per transport, with intervals.

    Parameters
    ----------
    runs : sequence of Run
        Replications of both transports.

    Returns
    -------
    pandas.DataFrame
        Rows named in words with their unit; cells such as ``"14.1 [13.9, 14.3]"``.
    """
    table = intervals(runs)
    transports = list(dict.fromkeys(run.scenario.transport for run in runs))
    cells = {
        transport: [
            _cell(table[(table["transport"] == transport) & (table["quantity"] == name)], factor)
            for name, (_, _, factor) in _HEADLINE.items()
        ]
        for transport in transports
    }
    names = [f"{words} ({unit})" if unit else words for words, unit, _ in _HEADLINE.values()]
    return pd.DataFrame(cells, index=pd.Index(names, name="figure"))


def _cell(row: pd.DataFrame, factor: float) -> str:
    mean, low, high = (
        _three_digits(float(row[name].iloc[0]) * factor) for name in ("mean", "low", "high")
    )
    return mean if low == high else f"{mean} [{low}, {high}]"


def _three_digits(value: float) -> str:
    if value == 0.0 or not np.isfinite(value):
        return f"{value:g}"
    digits = 2 - int(np.floor(np.log10(abs(value))))
    return f"{round(value, digits):,.{max(0, digits)}f}"


def bytes_by_rate(scenario: Scenario, rates_per_s: Sequence[float]) -> pd.DataFrame:
    """Return what a client costs in bytes at different rates of change, by closed forms.

    Parameters
    ----------
    scenario : Scenario
        Its wire, poll interval, heartbeat and round-trip time; Poisson changes to everybody.
    rates_per_s : sequence of float
        Changes per second in the whole system, > 0.

    Returns
    -------
    pandas.DataFrame
        ``rate_per_s``, ``transport`` ("polling", "polling with ETag", "websocket"),
        ``bytes_per_h`` (up and down, one client, a connection that stays). Its ``attrs`` have
        ``crossover_per_s``: above that rate push costs more than polling without ETag, and
        ``crossover_etag_per_s``: the same with ETag.
    """
    if not isinstance(scenario, Scenario):
        raise ScenarioError("scenario", scenario, "must be a Scenario")
    costs = _exchange_bytes(scenario)
    period_s = scenario.polling.interval_s + scenario.network.rtt_s + scenario.server.poll_s
    try:
        rates = np.asarray(rates_per_s, dtype=float)
    except (TypeError, ValueError):
        raise ScenarioError("rates_per_s", rates_per_s, "must be numbers > 0") from None
    if rates.ndim != 1 or not (np.isfinite(rates) & (rates > 0)).all():
        raise ScenarioError("rates_per_s", rates_per_s, "must be a list of numbers > 0")
    lines = {
        "polling": theory.polling_bytes_per_s(rates, period_s, costs["poll"]),
        "polling with ETag": theory.polling_bytes_per_s(
            rates, period_s, costs["changed"], costs["unchanged"]
        ),
        "websocket": theory.push_bytes_per_s(
            rates, costs["push"], costs["heartbeat_period_s"], costs["heartbeat"]
        ),
    }
    table = pd.concat(
        [
            pd.DataFrame(
                {
                    "rate_per_s": rates,
                    "transport": name,
                    "bytes_per_h": np.broadcast_to(line, rates.shape) * 3600.0,
                }
            )
            for name, line in lines.items()
        ],
        ignore_index=True,
    )
    beats = {
        "heartbeat_period_s": costs["heartbeat_period_s"],
        "heartbeat_bytes": costs["heartbeat"],
    }
    table.attrs["crossover_per_s"] = theory.crossover_rate_per_s(
        period_s, costs["poll"], costs["push"], **beats
    )
    table.attrs["crossover_etag_per_s"] = theory.crossover_rate_per_s(
        period_s, costs["changed"], costs["push"], costs["unchanged"], **beats
    )
    return table


def _exchange_bytes(scenario: Scenario) -> dict[str, float]:
    """Bytes up and down of one exchange of each kind, on a connection that is already open."""

    def both(sizes: NDArray[np.int64], *messages: Message) -> float:
        return float(sum(sizes[message].sum() for message in messages))

    plain = message_sizes(scenario.replace({"polling.etag": False}).wire_spec())
    etag = message_sizes(scenario.replace({"polling.etag": True}).wire_spec())
    beats = {
        "server": (Message.PING_DOWN, Message.PONG_UP),
        "client": (Message.PING_UP, Message.PONG_DOWN),
        "none": (),
    }[scenario.heartbeat.direction]
    period_s = scenario.heartbeat.interval_s + scenario.network.rtt_s if beats else np.inf
    return {
        "poll": both(plain, Message.POLL_REQUEST, Message.POLL_RESPONSE),
        "changed": both(etag, Message.POLL_CONDITIONAL, Message.POLL_RESPONSE),
        "unchanged": both(etag, Message.POLL_CONDITIONAL, Message.NOT_MODIFIED),
        "push": both(plain, Message.PUSH),
        "heartbeat": both(plain, *beats),
        "heartbeat_period_s": period_s,
    }


def capacity(costs: pd.DataFrame, within_s: float) -> pd.DataFrame:
    """Return how many clients each engine simulates for an hour within some processor time.

    Between the sizes that were measured, the cost is taken to grow as a power of their number, and
    never to fall.

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
        ``workload``, ``engine`` and ``clients``; infinite where the largest size that was measured
        takes less, NaN where the smallest takes more.

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


__getattr__ = renamed(globals(), {"six": "guide_metrics", "reach": "capacity"})
