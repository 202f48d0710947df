"""What would change a verdict: break-evens, a tornado of assumptions, and Sobol indices.

Each asks the decision again with something changed: a setting of the scenario by its path, or a
field of the needs by ``needs.`` and its path. All are computed when they are called.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from simlib import theory
from simlib.analysis.closed_forms import metrics_by_theory
from simlib.core.protocol import SOCKET_TRANSPORTS
from simlib.errors import ScenarioError
from simlib.scenario import Scenario
from simlib.scenario.suggestions import METRIC_ALIASES, hint
from simlib.verdict.assumptions import (
    NEEDS,
    all_changed,
    as_it_is,
    as_number,
    changed,
    in_words,
    is_whole_number,
    ranges_of,
    skipped_of,
    switches_of,
    value_of,
)
from simlib.verdict.candidates import TODAY, Case
from simlib.verdict.decision import Asked, Decision, interval_of
from simlib.verdict.facts import values_of
from simlib.verdict.judging import Point, in_full, judged
from simlib.verdict.measures import JUDGED
from simlib.verdict.needs import Needs
from simlib.verdict.runs import behind_proxies

if TYPE_CHECKING:
    import pandas as pd

_RANGE = 64.0
_CURVE_POINTS = 41
_MOST_STEPS = 60


class _Pair(NamedTuple):
    """Two candidates, the measure by which they are weighed, and what is varied."""

    decision: Decision
    one: str
    other: str
    measure: str
    over: str

    @property
    def names(self) -> tuple[str, str]:
        return self.one, self.other


def _check_decision(decision: Any) -> None:
    if not isinstance(decision, Decision):
        raise ScenarioError("decision", decision, "must be a Decision, as decide returns it")


def _check_measure(decision: Decision, measure: Any) -> None:
    known = decision.values[TODAY]
    if isinstance(measure, str) and measure in known:
        return
    rule = f"must be among {', '.join(known)}{hint(measure, known, METRIC_ALIASES)}"
    if isinstance(measure, str) and measure in JUDGED and JUDGED[measure].kind == "money":
        rule = "must be among what is judged: give the needs prices"
    elif isinstance(measure, str) and measure in JUDGED:
        rule = f"must be among what is judged: give the needs a limit of {measure}"
    raise ScenarioError("measure", measure, rule)


def _point(decision: Decision, asked: Asked, names: Sequence[str]) -> Point:
    """Return what judges some candidates again, in runs as long as those of all of them."""
    cases = {}
    for name in dict.fromkeys(names):
        candidate = decision.cases[name].candidate
        cases[name] = Case(candidate, candidate.applied_to(asked.scenario, asked.needs))
    beside = []
    for name in decision.cases.keys() - cases.keys():
        with suppress(ScenarioError):  # one that is not asked for may be none of this scenario
            beside.append(decision.cases[name].candidate.applied_to(asked.scenario, asked.needs))
    return Point(asked, cases, {}, tuple(beside))


# -- break-even ------------------------------------------------------------------------------------


def break_even(
    decision: Decision,
    over: str = "",
    *,
    measure: str | None = None,
    one: str | None = None,
    other: str | None = None,
    least: float | None = None,
    most: float | None = None,
    closeness: float = 0.01,
) -> pd.DataFrame:
    """Return where two candidates cross on a measure, as one assumption changes.

    Parameters
    ----------
    decision : Decision
    over : str
        The path of a setting that is a number, such as ``"updates.rate_per_s"`` or ``"clients"``;
        or ``needs.`` and a limit, such as ``"needs.latency_p95_s"``: then it is where the verdict
        changes as the limit is loosened or tightened, and `measure` and the candidates are not
        asked for.
    measure : str, optional
        One of `verdict.measures.JUDGED`; absent: what candidates are ranked by.
    one, other : str, optional
        Candidates; absent: the best and its rival.
    least, most : float, optional
        Where it is looked for, > 0; absent: from a 64th to 64 times as much as it is, as far as
        scenarios go.
    closeness : float, optional
        How close a simulated answer is, as a share of it, in (0, 1].

    Returns
    -------
    pandas.DataFrame
        A row per crossing, the nearest to today's value first: ``over``, ``measure``, ``value``,
        ``low`` and ``high`` (of a simulated one: where the paired difference's interval has 0),
        ``today``, ``by`` (closed form, simulation or table), ``below`` and
        ``above``: the candidate that is better there. ``attrs["curves"]`` has the points that were
        computed: a column per candidate, over ``over``.

    Raises
    ------
    ScenarioError
        An argument is out of range, or a candidate has no value of the measure.

    Notes
    -----
    Closed forms (`analysis.closed_forms`) are solved wherever both candidates have one at today's
    value, for all crossings as far as both forms go, which may be less than the range: no crossing
    is known beyond ``attrs["curves"]``. Else the paired difference of runs is bisected: from
    today's value in steps of a factor of two to the nearest change of sign on either side.

    Where a limit of staleness is loosened or tightened, the runs are those that there are: the
    candidate that polls as seldom as allowed keeps the interval of the limit as it is.
    """
    _check_decision(decision)
    today = value_of(decision.asked, over)
    if over.startswith(NEEDS) and over.removeprefix(NEEDS) in JUDGED:
        return _by_table(decision, over, today)
    best = decision.best or decision.closest
    pair = _Pair(
        decision,
        _candidate(decision, "one", best if one is None else one),
        _candidate(decision, "other", decision.rival if other is None else other),
        decision.asked.needs.ranked_by if measure is None else measure,
        over,
    )
    _check_measure(decision, pair.measure)
    if pair.one == pair.other:
        raise ScenarioError("other", pair.other, "must be another candidate than one")
    if type(closeness) not in (int, float) or not 0.0 < closeness <= 1.0:
        raise ScenarioError("closeness", closeness, "must be a number in (0, 1]")
    low, high = _looked_for(decision.asked, over, least, most)
    difference = _expected_difference(pair)
    if math.isfinite(difference(today)):
        return _by_closed_form(pair, difference, (low, today, high))
    return _by_simulation(pair, (low, today, high), closeness)


def _looked_for(asked: Asked, over: str, least: Any, most: Any) -> tuple[float, float]:
    """Return the range in which crossings are looked for; today's value lies in it."""
    today, is_whole = value_of(asked, over), is_whole_number(asked, over)
    low, high = today / _RANGE, today * _RANGE
    ends = (
        least if least is not None else max(1.0, float(round(low))) if is_whole else low,
        most if most is not None else high,
    )
    is_number = all(type(end) in (int, float) for end in ends)
    if not is_number or not 0.0 < ends[0] <= today <= ends[1] < math.inf:
        rule = f"must be numbers > 0 on either side of {today:g}, as {over} is"
        raise ScenarioError("least, most", ends, rule)
    if is_whole and any(end != round(end) for end in ends):
        raise ScenarioError("least, most", ends, f"must be whole numbers, as {over} is one")
    return ends


def _candidate(decision: Decision, name: str, given: Any) -> str:
    known = decision.cases
    if not isinstance(given, str) or given not in known:
        raise ScenarioError(name, given, f"must be among {', '.join(known)}{hint(given, known)}")
    return given


def expected(scenario: Scenario, needs: Needs, *, is_today: bool = False) -> dict[str, float]:
    """Return the measures of a scenario for which there are closed forms; NaN: none.

    There are none of clients some of whom are behind bad proxies.
    """
    metrics = metrics_by_theory(behind_proxies(scenario, needs.trouble))
    has_form = math.isfinite(metrics.up_bytes_per_h)
    has_sockets = scenario.transport in SOCKET_TRANSPORTS
    held = scenario.clients * scenario.server.connection_bytes if has_sockets else 0.0
    is_one = scenario.server.nodes == 1 or not has_sockets  # or else one has more by chance
    facts = {
        "latency_p50_s": metrics.latency_p50_s,
        "latency_p95_s": metrics.latency_p95_s,
        "up_bytes_per_h": metrics.up_bytes_per_h,
        "down_bytes_per_h": metrics.down_bytes_per_h,
        "utilisation": metrics.busiest_utilisation,
        "memory_bytes": held if has_form else math.nan,
        "node_memory_bytes": held if has_form and is_one else math.nan,
        "present": float(scenario.clients) if has_form else math.nan,
    }
    arrays = {name: np.array([value]) for name, value in facts.items()}
    found = values_of(arrays, scenario, needs, is_today=is_today)
    return {name: float(value[0]) for name, value in found.items()}


def _expected_case(case: Case, needs: Needs, measure: str) -> float:
    """Return a measure of a candidate by its closed form; NaN: there is none, as of two cohorts."""
    if case.plan is not None:
        return math.nan
    is_today = case.name == TODAY
    return expected(case.scenario, needs, is_today=is_today).get(measure, math.nan)


def _expected_of(pair: _Pair, value: float) -> tuple[float, float]:
    """Return the measure of both by closed forms; NaN where there is none, or no scenario."""
    try:
        asked = changed(pair.decision.asked, pair.over, value)
        cases = _point(pair.decision, asked, pair.names).cases.values()
        found = [_expected_case(one, asked.needs, pair.measure) for one in cases]
    except ScenarioError:
        return math.nan, math.nan
    return found[0], found[1]


def _expected_difference(pair: _Pair) -> Callable[[float], float]:
    def difference(value: float) -> float:
        one, other = _expected_of(pair, value)
        return one - other

    return difference


def _by_closed_form(
    pair: _Pair, difference: Callable[[float], float], ends: tuple[float, float, float]
) -> pd.DataFrame:
    import pandas as pd
    from scipy import optimize

    low, today, high = ends
    grid = np.geomspace(low, high, _CURVE_POINTS)
    is_whole = is_whole_number(pair.decision.asked, pair.over)
    if is_whole:
        grid = np.unique(grid.round())
    points = [(value, *_expected_of(pair, value)) for value in grid.tolist()]
    curves = pd.DataFrame(points, columns=[pair.over, *pair.names]).dropna(ignore_index=True)
    signs = np.sign((curves[pair.one] - curves[pair.other]).to_numpy())
    rows = []
    values = curves[pair.over].tolist()
    for place in np.flatnonzero(signs[:-1] * signs[1:] < 0.0):
        start, end = values[place], values[place + 1]
        if is_whole:
            value = float(_first_whole(difference, int(start), int(end)))
        else:
            value = float(optimize.brentq(difference, start, end, xtol=1e-12, rtol=1e-9))
        below, above = pair.names if signs[place] < 0.0 else pair.names[::-1]
        rows.append(_row(pair, (value, value, value), today, "closed form", below, above))
    return _crossings(pair, rows, curves, today)


def _first_whole(difference: Callable[[float], float], start: int, end: int) -> int:
    """Return the first whole number on the other side."""
    sign = math.copysign(1.0, difference(start))
    while end - start > 1:
        middle = (start + end) // 2
        start, end = (middle, end) if difference(middle) * sign > 0.0 else (start, middle)
    return end


def _row(
    pair: _Pair, at: tuple[float, float, float], today: float, by: str, below: str, above: str
) -> dict[str, Any]:
    head = {"over": pair.over, "measure": pair.measure}
    return {
        **head,
        **dict(zip(("value", "low", "high"), at, strict=True)),
        "today": today,
        "by": by,
        "below": below,
        "above": above,
    }


def _crossings(
    pair: _Pair, rows: list[dict[str, Any]], curves: pd.DataFrame, today: float
) -> pd.DataFrame:
    import pandas as pd

    columns = ["over", "measure", "value", "low", "high", "today", "by", "below", "above"]
    rows = sorted(rows, key=lambda row: abs(math.log(row["value"] / today)))
    table = pd.DataFrame(rows, columns=columns)
    table.attrs = {"over": pair.over, "measure": pair.measure, "curves": curves, "today": today}
    table.attrs |= _known_as(pair.decision, pair.names)
    met = [*pair.names, pair.decision.best, *table["below"], *table["above"]]
    named = [name for name in dict.fromkeys(met) if name in pair.decision.cases]
    table.attrs["names"] = {name: pair.decision.cases[name].label for name in named}
    table.attrs["missed"] = {
        name: JUDGED[missed[0]].label for name in named if (missed := pair.decision.fails(name))
    }
    table.attrs["verdict"] = pair.decision.best or "none"
    return table


def _known_as(decision: Decision, names: Sequence[str]) -> dict[Hashable, Any]:
    """Return the labels and transports of candidates, for figures and sentences."""
    cases = {name: decision.cases[name] for name in dict.fromkeys(names) if name in decision.cases}
    return {
        "labels": {name: case.label for name, case in cases.items()},
        "transports": {name: case.scenario.transport for name, case in cases.items()},
    }


def _by_simulation(pair: _Pair, ends: tuple[float, float, float], closeness: float) -> pd.DataFrame:
    import pandas as pd

    low, today, high = ends
    tried: dict[float, tuple[float, float, float, float]] = {}

    def differs(value: float) -> float:
        if value not in tried:
            tried[value] = _simulated(pair, value)
        return tried[value][0]

    rows = []
    sign = np.sign(differs(today))
    for end, factor in ((low, 0.5), (high, 2.0)):
        held = today
        while sign and held != end:
            value = max(end, held * factor) if factor < 1.0 else min(end, held * factor)
            if is_whole_number(pair.decision.asked, pair.over):
                value = float(round(value))
            if value == held or not _is_scenario(pair, value):
                break
            if np.sign(differs(value)) == -sign:
                rows.append(_bisected(pair, differs, tried, (held, value), closeness))
                break
            held = value
    points = [(value, *found[2:]) for value, found in sorted(tried.items())]
    curves = pd.DataFrame(points, columns=[pair.over, *pair.names])
    return _crossings(pair, rows, curves, today)


def _is_scenario(pair: _Pair, value: float) -> bool:
    try:
        _point(pair.decision, changed(pair.decision.asked, pair.over, value), pair.names)
    except ScenarioError:
        return False
    return True


def _simulated(pair: _Pair, value: float) -> tuple[float, float, float, float]:
    """Return the mean difference of a measure, half its interval, and both means."""
    asked = changed(pair.decision.asked, pair.over, value)
    is_calm = JUDGED[pair.measure].run == "calm"
    point = _point(pair.decision, asked, pair.names)._replace(is_whole=True)
    (found,) = judged([point], "break-even", is_calm=is_calm)
    one, other = (found.values[name][pair.measure] for name in pair.names)
    mean, low, high = interval_of(one - other, asked.confidence)
    if not math.isfinite(mean):
        rule = f"must be one that both candidates have: at {pair.over} = {value:g} one has none"
        raise ScenarioError("measure", pair.measure, rule)
    return mean, (high - low) / 2.0, float(one.mean()), float(other.mean())


def _bisected(
    pair: _Pair,
    differs: Callable[[float], float],
    tried: Mapping[float, tuple[float, float, float, float]],
    between: tuple[float, float],
    closeness: float,
) -> dict[str, Any]:
    """Return the row of a crossing between two values at which the signs differ."""
    start, end = sorted(between)
    sign, today = np.sign(differs(start)), value_of(pair.decision.asked, pair.over)
    for _ in range(_MOST_STEPS):
        middle = math.sqrt(start * end)
        if is_whole_number(pair.decision.asked, pair.over):
            middle = float(round(middle))
        if end <= start * (1.0 + closeness) or middle in (start, end):
            break
        start, end = (middle, end) if np.sign(differs(middle)) == sign else (start, middle)
    (left, noise_left, *_), (right, noise_right, *_) = tried[start], tried[end]
    slope = (right - left) / (end - start)
    value = start - left / slope if slope else end
    half = max(noise_left, noise_right) / abs(slope) if slope else math.inf
    below, above = pair.names if sign < 0.0 else pair.names[::-1]
    return _row(pair, (value, value - half, value + half), today, "simulation", below, above)


def _by_table(decision: Decision, over: str, today: float) -> pd.DataFrame:
    """Return at which limits of a need the verdict changes, by runs that are there, or left out."""
    import pandas as pd

    need = over.removeprefix(NEEDS)
    decision = in_full(decision)
    if decision.asked.needs.nodes is not None and need in ("utilisation", "memory_bytes"):
        rule = "must be another need: with nodes it is what one node bears, and changes the table"
        raise ScenarioError("over", over, rule)
    bounds = decision.table.xs(need, level="measure")["high"]
    # The interval of a share may reach beyond all of it, which is no limit.
    most = 1.0 if JUDGED[need].kind == "share" else np.finfo(float).max
    limits = sorted({float(bound) for bound in bounds if 0.0 < bound <= most} | {today})
    verdicts = [(limit, _with_limit(decision, need, limit).best or "none") for limit in limits]
    pair = _Pair(decision, "", "", need, over)
    first = "none"
    if (bounds <= 0.0).any():  # what takes nothing of a measure keeps every limit of it
        first = _with_limit(decision, need, limits[0] / 2.0).best or "none"
    rows = [
        _row(pair, (limit, limit, limit), today, "table", before, after)
        for (_, before), (limit, after) in zip([(0.0, first), *verdicts], verdicts, strict=False)
        if before != after
    ]
    curves = pd.DataFrame(verdicts, columns=[over, "best"])
    return _crossings(pair, rows, curves, today)


def _with_limit(decision: Decision, need: str, limit: float) -> Decision:
    return decision.with_needs(decision.asked.needs.replace({need: limit}))


# -- tornado ---------------------------------------------------------------------------------------


def tornado(
    decision: Decision, assumptions: Mapping[str, tuple[float, float]] | None = None
) -> pd.DataFrame:
    """Move each assumption from low to high, one at a time, and return what becomes of the verdict.

    Parameters
    ----------
    decision : Decision
    assumptions : mapping of str to (float, float), optional
        Paths, as in `break_even`, and the least and the greatest value that each may have; of a
        switch ``(False, True)``. Absent: those of `ASSUMPTIONS` that the scenario and the needs
        have, from half to double, or to as it is where that could not be run; whole numbers
        stay whole. Half and double of 0 are no test: what is 0 is left out, unless its range is
        given. Beside them those of `SWITCHES` that matter to today's, the best or its rival.

    Returns
    -------
    pandas.DataFrame
        A row per assumption, the one to measure first on top: ``over``, ``low``, ``today``,
        ``high``, ``at_low`` and ``at_high`` (by how much the rival exceeds the best in the deciding
        measure), their intervals (``at_low_low`` and so on), ``swing`` (the difference of the two),
        ``best_at_low`` and ``best_at_high`` (which of today's, the best and its rival is to be
        taken there) and ``flips``: whether that differs from the verdict. Those that flip it come
        first, then those with the widest swing. Of a switch that is off ``low`` is 0, and ``high``
        is 1 or its number when it is on; ``switches`` of ``attrs`` has both in words. ``attrs``
        also have ``measure``, ``verdict`` (what is to
        be taken as it is, or none), ``best`` (the same, or what comes closest), ``rival``,
        ``today`` (by how much the rival exceeds the best as it is), ``first`` and ``skipped`` (the
        usual assumptions that are 0 or not set, and so were left out).

    Raises
    ------
    ScenarioError
        An assumption or a range is not valid; before anything is run.
    """
    import pandas as pd

    _check_decision(decision)
    asked, best, rival = decision.asked, decision.best or decision.closest, decision.rival
    names = (TODAY, best, rival)
    weighed = [decision.cases[name].scenario for name in names]
    switches = switches_of(asked, weighed, assumptions)
    ranges = {**ranges_of(asked, assumptions, switches), **switches}
    ends = [(over, value) for over, pair in ranges.items() for value in pair]
    anew = [each for each in ends if not _is_known(decision, *each, names)]
    points = [_point(decision, changed(asked, over, value), names) for over, value in anew]
    found = dict(zip(anew, judged(points, "tornado") if points else [], strict=True))
    pair = _Pair(decision, best, rival, asked.needs.ranked_by, "")
    rows = [
        _swing(pair._replace(over=over), of, [found.get((over, end), decision) for end in of])
        for over, of in ranges.items()
    ]
    table = pd.DataFrame(rows).sort_values(
        ["flips", "swing"], ascending=False, kind="stable", ignore_index=True
    )
    today, *_ = _lead(pair, decision)
    table.attrs = {"measure": pair.measure, "best": best, "rival": rival, "today": today}
    table.attrs |= {"first": str(table["over"].iloc[0]), "verdict": decision.best or "none"}
    table.attrs["skipped"] = skipped_of(ranges, assumptions)
    words = {over: tuple(map(in_words, pair)) for over, pair in switches.items()}
    table.attrs |= {"switches": words, **_known_as(decision, names)}
    return table


def _is_known(decision: Decision, over: str, value: Any, names: Sequence[str]) -> bool:
    """Say whether a decision is itself what comes of a value: it is as it is, and all was run."""
    is_all = not any(decision.lacks(name) for name in names)
    return is_all and bool(value == as_it_is(decision.asked, over))


def _lead(pair: _Pair, found: Decision) -> tuple[float, float, float]:
    """Return by how much the rival exceeds the best, with its interval."""
    best, rival = (found.values[name][pair.measure] for name in pair.names)
    return interval_of(rival - best, found.asked.confidence)


def _swing(pair: _Pair, ends: tuple[Any, Any], found: Sequence[Decision]) -> dict[str, Any]:
    """Return the row of an assumption in a tornado, by what was found at its two ends."""
    verdict = pair.decision.best or "none"
    today = as_it_is(pair.decision.asked, pair.over)
    row: dict[str, Any] = {"over": pair.over, "low": as_number(ends[0])}
    row |= {"today": as_number(today), "high": as_number(ends[1])}
    for name, one in zip(("at_low", "at_high"), found, strict=True):
        row |= dict(zip((name, f"{name}_low", f"{name}_high"), _lead(pair, one), strict=True))
    row["swing"] = abs(row["at_high"] - row["at_low"])
    for name, one in zip(("best_at_low", "best_at_high"), found, strict=True):
        row[name] = one.best or "none"
    return row | {"flips": not row["best_at_low"] == row["best_at_high"] == verdict}


# -- Sobol -----------------------------------------------------------------------------------------


def sobol(
    decision: Decision,
    assumptions: Mapping[str, tuple[float, float]] | None = None,
    *,
    samples: int = 64,
    measure: str | None = None,
    confidence: float = 0.95,
    is_simulated: bool = False,
) -> pd.DataFrame:
    """Return Sobol indices: which assumptions the lead of the best over its rival depends on.

    Parameters
    ----------
    decision : Decision
    assumptions : mapping of str to (float, float), optional
        As in `tornado`; each value is as likely as another on a log scale.
    samples : int, optional
        A power of 2, >= 4; there are as many times (assumptions + 2) points.
    measure : str, optional
        One of `verdict.measures.JUDGED`; absent: what candidates are ranked by.
    confidence : float, optional
        Of the intervals, in (0, 1).
    is_simulated : bool, optional
        Whether every point is simulated, one replication each. If not, that is done only where a
        point has no closed form.

    Returns
    -------
    pandas.DataFrame
        A row per assumption, the one that explains most on top: ``over``, ``low``, ``high``,
        ``first`` (the share of the lead's variance that it explains alone), ``total`` (that which
        would remain if all others were known) and their intervals by bootstrap, ``first_low`` and
        so on. ``attrs`` have ``measure``, ``by``, ``points``, ``first`` and ``skipped``.

    Raises
    ------
    ScenarioError
        An argument is out of range.

    References
    ----------
    Saltelli, A. et al. (2010). Variance based sensitivity analysis of model output. Computer
    Physics Communications 181, 259-270. (As computed by SALib.)
    """
    import pandas as pd
    from SALib.analyze import sobol as analysis
    from SALib.sample import sobol as sampling

    _check_decision(decision)
    if type(samples) is not int or samples < 4 or samples & (samples - 1):
        raise ScenarioError("samples", samples, "must be a power of 2, >= 4")
    asked = decision.asked
    measure = asked.needs.ranked_by if measure is None else measure
    _check_measure(decision, measure)
    theory.mean_interval([0.0, 1.0], confidence)  # refuses what is no confidence
    ranges = ranges_of(asked, assumptions)
    problem = {"num_vars": len(ranges), "names": list(ranges), "bounds": [[0.0, 1.0]] * len(ranges)}
    unit = sampling.sample(problem, samples, calc_second_order=False, seed=asked.seed)
    lows, highs = np.array(list(ranges.values())).T
    names = decision.best or decision.closest, decision.rival
    rows = lows * (highs / lows) ** unit
    points = [
        _point(decision, all_changed(asked, dict(zip(ranges, row, strict=True))), names)
        for row in rows.tolist()
    ]
    leads, by = _leads(points, measure, is_simulated)
    if np.ptp(leads) == 0.0:
        rule = "must be among them one on which the lead depends"
        raise ScenarioError("assumptions", list(ranges), rule)
    found = analysis.analyze(
        problem, leads, calc_second_order=False, conf_level=confidence, seed=asked.seed
    )
    columns: dict[str, Any] = {"over": list(ranges), "low": lows, "high": highs}
    for name, key in (("first", "S1"), ("total", "ST")):
        columns[name], half = found[key], found[f"{key}_conf"]
        columns |= {f"{name}_low": found[key] - half, f"{name}_high": found[key] + half}
    table = pd.DataFrame(columns).sort_values("total", ascending=False, ignore_index=True)
    table.attrs = {"measure": measure, "by": by, "points": len(points)}
    table.attrs["first"] = str(table["over"].iloc[0])
    table.attrs["skipped"] = skipped_of(ranges, assumptions)
    return table


def _leads(points: list[Point], measure: str, is_simulated: bool) -> tuple[Any, str]:
    """Return by how much the rival exceeds the best at each point, and what says so."""
    if not is_simulated:
        leads = []
        for point in points:
            best, rival = (
                _expected_case(case, point.asked.needs, measure) for case in point.cases.values()
            )
            leads.append(rival - best)
        if np.isfinite(leads).all():
            return np.array(leads), "closed form"
    once = [point._replace(asked=point.asked._replace(replications=1)) for point in points]
    found = judged(once, "sobol", is_calm=JUDGED[measure].run == "calm")
    leads = []
    for one in found:
        best, rival = (one.values[name][measure][0] for name in one.cases)
        leads.append(float(rival - best))
    if not np.isfinite(leads).all():
        rule = "must be one that both candidates have at every point"
        raise ScenarioError("measure", measure, rule)
    return np.array(leads), "simulation"
