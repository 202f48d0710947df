"""What a team would weigh: a row a candidate, as changes to its scenario.

A candidate is one row of `CANDIDATES`: the first is always the scenario as it is. Every transport
has a row: one that nobody has written a row for gets one of its name, with its usual settings.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

from simlib import theory
from simlib.analysis.closed_forms import metrics_by_theory
from simlib.core.protocol import TRANSPORT_NAMES
from simlib.errors import ScenarioError, shown
from simlib.rollout.plan import Plan
from simlib.scenario import Scenario
from simlib.verdict.needs import Needs

TODAY = "today"
_USUAL_GZIP_RATIO = 0.3
_HALF_BUSY = 2.0
_SHORTEST_SPREAD_S = 0.5
_SHARES = {"latency_p50_s": 0.5, "latency_p95_s": 0.95, "latency_max_s": 1.0}
"""Of which share of the changes a limit of staleness is. If polls take no time, the limit is the
same share of the interval of polling that keeps it."""
_CHANCE = 1.5
"""As many standard errors of a run's quantile are left for chance: half a 95 % interval of five
runs, nearly."""
_MOST_TIMES = 10.0
"""A limit that is kept by no polls less than so many times as frequent is one of round trips."""
_SLOW_SPREADS = 3.0
LONG_PAUSES = 5.0
"""As many mean lengths a user's longest drag takes, or nearly."""
_COMMON = (
    "clients",
    "sessions",
    "tabs_per_user",
    "ramp_s",
    "horizon_s",
    "warm_up_s",
    "cool_down_s",
)
_SIZES = {"delta_bytes", "snapshot_bytes"}


class Candidate(NamedTuple):
    """Something that a team may do.

    Attributes
    ----------
    name : str
        In tables and changes.
    label : str
        In sentences and figures; has no numbers, so that every number there is a result.
    changes : mapping of str to object
        As `Scenario.replace` takes them. A value that is a function is called with the scenario
        and the needs.
    sentence : str
        What it is.
    percent : float, optional
        Users who get it, %: a rollout that is held there, in which all others poll. None: all do.
    """

    name: str
    label: str
    changes: Mapping[str, Any]
    sentence: str
    percent: float | None = None

    def applied_to(self, scenario: Scenario, needs: Needs) -> Scenario:
        """Return a scenario with the changes made, as the needs ask for them."""
        return scenario.replace(self._settled(scenario, needs))

    def fixed(self, scenario: Scenario, needs: Needs) -> Candidate:
        """Return the candidate with the settings that it has now, whatever else is asked for."""
        changes = self._settled(scenario, needs)
        return self._replace(label=f"{self.label}{_BY_OTHER_LIMITS}", changes=changes)

    def _settled(self, scenario: Scenario, needs: Needs) -> dict[str, Any]:
        return {
            path: value(scenario, needs) if callable(value) else value
            for path, value in self.changes.items()
        }


def _times(path: str, factor: float) -> Callable[[Scenario, Needs], float]:
    section, name = path.split(".")
    return lambda scenario, _: float(getattr(getattr(scenario, section), name)) * factor


def _usual_gzip_ratio(scenario: Scenario, _: Needs) -> float:
    return min(_USUAL_GZIP_RATIO, scenario.wire.gzip_ratio)


def _etag(scenario: Scenario, _: Needs) -> str:
    return "content" if scenario.polling.etag == "off" else scenario.polling.etag


def _allowed_s(scenario: Scenario, needs: Needs) -> float:
    """Return the greatest readable interval of polling that keeps the limits of staleness, seconds.

    Raises
    ------
    ScenarioError
        There is no such limit, or none that polls can keep.
    """
    limits = {name: needs.limits[name] for name in _SHARES if name in needs.limits}
    if not limits:
        rule = f"must be given, or another limit of staleness: {', '.join(_SHARES)}"
        raise ScenarioError("needs.latency_p95_s", None, rule)
    name, most_s = min(
        ((one, limit / _SHARES[one]) for one, limit in limits.items()), key=lambda two: two[1]
    )
    counted_s = scenario.horizon_s - scenario.warm_up_s - scenario.cool_down_s
    interval_s = most_s = _readable(min(most_s, counted_s))
    while interval_s > most_s / _MOST_TIMES:
        late_s = _polled_s(scenario.replace({**_POLLED, "polling.interval_s": interval_s}))
        if all(late_s[one] <= limit for one, limit in limits.items()):
            return interval_s
        interval_s = _readable(interval_s * (1.0 - 1e-6))
    rule = "must be more than a round trip and the server take, for polls to keep it"
    raise ScenarioError(f"needs.{name}", limits[name], rule)


def _polled_s(scenario: Scenario) -> dict[str, float]:
    """Return the staleness of polls, by its closed form, or as if nothing but polls went on.

    Quantiles are as high as they may be by chance: clients poll at times that are uniform over an
    interval, of which the share q is known to sqrt(q (1 - q) / clients).
    """
    polling, network, drag = scenario.polling, scenario.network, scenario.drag
    rtt_s, quantiles = network.median_rtt_s(), network.rtt_quantiles
    slow_s = quantiles[-1][1] if quantiles else rtt_s * math.exp(_SLOW_SPREADS * network.rtt_spread)
    usual, slowest = (
        theory.staleness_jittered(
            polling.interval_s, polling.jitter_frac, each_s + scenario.server.poll_s, each_s / 2.0
        )
        for each_s in (rtt_s, slow_s)
    )
    pause_s = LONG_PAUSES * drag.length_s if drag and polling.pause_while_dragging else 0.0
    clients = float(scenario.clients)
    if scenario.sessions is not None:
        clients += scenario.sessions.expected(scenario.horizon_s)
    found, by_chance_s = metrics_by_theory(scenario), _CHANCE * polling.interval_s
    late_s = {"latency_max_s": float(slowest.quantile(1.0)) + pause_s}
    for name in ("latency_p50_s", "latency_p95_s"):
        share = _SHARES[name]
        quantile_s = np.fmax(usual.quantile(share), getattr(found, name))
        error = math.sqrt(share * (1.0 - share) / max(clients, 1.0))
        late_s[name] = float(quantile_s) + by_chance_s * error
    return late_s


def _fallback_s(scenario: Scenario, needs: Needs) -> float:
    """Return how often those poll who are pushed to and have fallen back, seconds.

    Usually it is the board's own interval. A limit of staleness is one of all clients together, and
    those behind bad proxies are few enough to be late: polling as often as it allows would cost
    their bytes for nothing. Where they are more than a limit leaves room for, they poll as often as
    the limits ask for, if that is more often, which is more load. A restart alone never asks for
    it: staleness is that of the calm run.
    """
    own_s, away = scenario.polling.interval_s, needs.trouble.bad_proxy_frac or 0.0
    is_kept = all(away + share < 1.0 for name, share in _SHARES.items() if name in needs.limits)
    if away == 0.0 or is_kept:
        return own_s
    try:
        return min(own_s, _allowed_s(scenario, needs))
    except ScenarioError:  # there are no polls that keep the limits
        return own_s


def _readable(value: float) -> float:
    """Return the greatest number that is not above another and easy to read.

    Examples
    --------
    >>> [_readable(value) for value in (47.4, 28.4, 1.38, 0.947, 5.0)]
    [45.0, 25.0, 1.3, 0.9, 5.0]
    """
    decade = math.floor(math.log10(value))
    digits = value / 10.0**decade
    steps = 10 if digits < 2.0 else 2
    return float(f"{math.floor(digits * steps + 1e-9) / steps * 10.0**decade:.6g}")


def _half_busy_s(scenario: Scenario, _: Needs) -> float:
    """Return the window over which fetches of all clients keep the workers half busy, seconds.

    It is no longer than the interval of polling: beyond that, polling would be fresher.
    """
    workers = scenario.server.workers * scenario.server.nodes
    busy_s = scenario.clients * scenario.server.poll_s / workers
    window_s = max(_SHORTEST_SPREAD_S, float(f"{_HALF_BUSY * busy_s:.2g}"))
    return min(window_s, scenario.polling.interval_s)


_POLLED = {"transport": "polling"}
_PUSHED = {"transport": "websocket", "websocket.push": "delta"}
_FALLBACK = {"after_failures": 5, "return_s": 60.0, "return_factor": 1.0}
_PERCENT = "percent"
_BY_OTHER_LIMITS = ", by the limits before"
_LONGEST_NAME = 100
"""Of a plan."""

_ROWS = (
    Candidate(TODAY, "as it is today", {}, "The scenario as it is given."),
    Candidate(
        "poll",
        "polling as set",
        _POLLED,
        "Polling with the scenario's own settings.",
    ),
    Candidate(
        "poll_etag",
        "polling with ETag",
        {**_POLLED, "polling.etag": "content"},
        "Conditional requests: a board that has not changed is answered 304 without a body.",
    ),
    Candidate(
        "poll_version",
        "polling with versions",
        {**_POLLED, "polling.etag": "version"},
        "The same, and the server compares a version before it reads the board.",
    ),
    Candidate(
        "poll_cached",
        "polling of a shared copy",
        {**_POLLED, "server.cache_s": _times("polling.interval_s", 0.1)},
        "The server answers from a copy that it makes anew ten times an interval, for everybody.",
    ),
    Candidate(
        "poll_compressed",
        "compressed polling",
        {**_POLLED, "wire.gzip_ratio": _usual_gzip_ratio},
        f"Answers are compressed to {_USUAL_GZIP_RATIO:.0%} of their size, or as far as they are "
        "if that is less: an assumption. "
        "DevTools, Network, shows both sizes. What compressing costs the server is not counted.",
    ),
    Candidate(
        "poll_longer",
        "polling half as often",
        {**_POLLED, "polling.interval_s": _times("polling.interval_s", 2.0)},
        "Polling with twice the interval.",
    ),
    Candidate(
        "poll_shorter",
        "polling three times as often",
        {**_POLLED, "polling.interval_s": _times("polling.interval_s", 1.0 / 3.0)},
        "Polling with a third of the interval.",
    ),
    Candidate(
        "poll_allowed",
        "polling as seldom as allowed",
        {**_POLLED, "polling.etag": _etag, "polling.interval_s": _allowed_s},
        "Polling with ETag, and the greatest readable interval that keeps the limits of staleness "
        "that the needs have, by closed forms: more often than today's where they ask for it. It "
        "is no longer than the time whose changes count.",
    ),
    Candidate(
        "poll_adaptive",
        "polling more often after changes",
        {
            **_POLLED,
            "polling.active_interval_s": _times("polling.interval_s", 1.0 / 3.0),
            "polling.active_for_s": _times("polling.interval_s", 2.0),
        },
        "A third of the interval for a while after the client has seen a change, or a drop.",
    ),
    Candidate(
        "notify",
        "notify and fetch",
        {"transport": "notify", "notify.spread_s": 0.0},
        "A WebSocket says that something has changed, and every client fetches at once.",
    ),
    Candidate(
        "notify_spread",
        "notify and fetch spread out",
        {"transport": "notify", "notify.spread_s": _half_busy_s},
        "The same, and clients fetch at random times in a window that leaves the server half idle, "
        "or in an interval of polling if that is shorter.",
    ),
    Candidate(
        "sse_notify",
        "notify by stream and fetch",
        {"transport": "sse_notify", "notify.spread_s": 0.0},
        "A stream of server-sent events says that something has changed; every client fetches.",
    ),
    Candidate(
        "push",
        "push of deltas",
        _PUSHED,
        "A WebSocket carries each change.",
    ),
    Candidate(
        "push_fallback",
        "push that may poll",
        {**_PUSHED, "fallback": _FALLBACK, "polling.interval_s": _fallback_s},
        "The same; a client that fails to connect five times polls, and tries again every minute. "
        "It polls at the board's interval, or, where more are behind bad proxies than limits of "
        "staleness leave room for, as often as these ask for (`polling.interval_s`).",
    ),
    Candidate(
        "push_snapshots",
        "push of snapshots",
        {"transport": "websocket", "websocket.push": "snapshot"},
        "A WebSocket carries the whole board at each change.",
    ),
    Candidate(
        "push_half",
        "push for half of the users",
        {**_PUSHED, "fallback": _FALLBACK},  # all who poll have one interval: the others' own
        "Push that may poll, rolled out to 50 % of the users and held there; the others poll.",
        percent=50.0,
    ),
    Candidate(
        "sse_fallback",
        "streams that may poll",
        {
            "transport": "sse",
            "websocket.push": "delta",
            "sse.retries_http_errors": True,
            "sse.retries_ended": True,
            "fallback": _FALLBACK,
        },
        "A stream of server-sent events carries each change, to a client that tries again where "
        "the browser's EventSource gives up, and waits for no answer longer than for a WebSocket; "
        "one that fails five times polls meanwhile.",
    ),
    Candidate(
        "sse",
        "server-sent events",
        {"transport": "sse", "websocket.push": "delta"},
        "The same to the browser's own EventSource, which gives up at an error of HTTP.",
    ),
    Candidate(
        "long_polling",
        "long polling",
        {"transport": "long_polling", "websocket.push": "delta"},
        "The server holds each request until something changes, and answers with what is new.",
    ),
)


def _with_every_transport(rows: tuple[Candidate, ...]) -> dict[str, Candidate]:
    """Return the rows by name, with one for each transport that none of them is about."""
    known = {row.changes.get("transport") for row in rows}
    more = [
        Candidate(
            name,
            name.replace("_", " "),
            {"transport": name},
            f"The transport {name}, with its settings as they are.",
        )
        for name in TRANSPORT_NAMES
        if name not in known
    ]
    return {row.name: row for row in (*rows, *more)}


CANDIDATES = _with_every_transport(_ROWS)
"""The candidates by name, those that are made most easily first: of equals that one is taken."""


class Case(NamedTuple):
    """A candidate, and the scenario that it makes of the one that is given.

    With a percentage, it is the scenario of those who get the candidate.
    """

    candidate: Candidate
    scenario: Scenario
    made_of: Candidate | None = None
    """The candidate before its settings were fixed, if they are: see `under`."""

    @property
    def name(self) -> str:
        """The candidate's name."""
        return self.candidate.name

    @property
    def label(self) -> str:
        """What sentences call it."""
        return self.candidate.label

    def under(self, scenario: Scenario, before: Needs, needs: Needs) -> Case:
        """Return the case where needs change from those that it was made for, with its settings.

        Where the new needs would make another scenario of it, or none, its label says so.
        """
        row = self.made_of or self.candidate
        try:
            is_same = row.applied_to(scenario, needs) == self.scenario
        except ScenarioError:
            is_same = False
        if is_same:
            return Case(row, self.scenario)
        return self if self.made_of else Case(row.fixed(scenario, before), self.scenario, row)

    @property
    def plan(self) -> Plan | None:
        """The rollout that is held at the candidate's percentage; None: everybody gets it."""
        if self.candidate.percent is None:
            return None
        horizon_s = self.scenario.horizon_s
        return Plan(
            name=self.name[:_LONGEST_NAME],
            check_every_s=horizon_s,
            stages=({"percent": self.candidate.percent, "bake_s": horizon_s},),
            control={"transport": "polling"},
            treatment={"transport": self.scenario.transport},
            bucketing={"rule": "unleash"},
            flag={"propagation": "session"},
        )


def cases_of(
    scenario: Scenario, needs: Needs, given: Any = None
) -> tuple[dict[str, Case], dict[str, str]]:
    """Return the candidates of a scenario, and those that were left out, with the reason.

    Parameters
    ----------
    scenario : Scenario
    needs : Needs
        Some candidates are made for its limits.
    given : mapping of str to mapping, or sequence of str, optional
        A reader's own candidates: names and changes; or names of `CANDIDATES`. Absent: all of
        those. The scenario as it is is always the first.

    Raises
    ------
    ScenarioError
        A name is unknown, or changes that the caller gives make no scenario.
    """
    cases = {TODAY: Case(CANDIDATES[TODAY], scenario)}
    left_out: dict[str, str] = {}
    for row in _rows(given):
        try:
            changed = row.applied_to(scenario, needs)
        except ScenarioError as error:
            if isinstance(given, Mapping):
                path = f"candidates[{shown(row.name)}].{error.path}"
                raise ScenarioError(path, error.value, error.rule) from None
            left_out[row.name] = f"is none of this scenario: {error.path}: {error.rule}"
            continue
        if isinstance(given, Mapping):
            _check_common(row.name, scenario, changed)
        if row.percent is not None and changed.transport == "polling":
            left_out[row.name] = "is polling for everybody"
            continue
        same = [
            case
            for case in cases.values()
            if (case.scenario, case.candidate.percent) == (changed, row.percent)
        ]
        if same:
            left_out[row.name] = f"is the same as {same[0].label}"
        else:
            cases[row.name] = Case(row, changed)
    return cases, left_out


def _check_common(name: str, scenario: Scenario, changed: Scenario) -> None:
    """Refuse a candidate that is another board: all have the same clients, changes and times."""
    rule = "must be as it is today, for all are judged on the same clients, changes and times"
    for path in _COMMON:
        if getattr(changed, path) != getattr(scenario, path):
            raise ScenarioError(f"candidates[{shown(name)}].{path}", getattr(changed, path), rule)
    before, after = (one.updates.model_dump(exclude=_SIZES) for one in (scenario, changed))
    for path, value in after.items():
        if value != before[path]:
            raise ScenarioError(f"candidates[{shown(name)}].updates.{path}", value, rule)


def _rows(given: Any) -> list[Candidate]:
    if given is None:
        return [row for name, row in CANDIDATES.items() if name != TODAY]
    if isinstance(given, Mapping):
        return [_own(name, changes) for name, changes in given.items()]
    if isinstance(given, str) or not isinstance(given, list | tuple):
        rule = "must be a mapping of names to changes, or a list of names"
        raise ScenarioError("candidates", given, rule)
    for name in given:
        if name not in CANDIDATES:
            raise ScenarioError("candidates", name, f"must be among {', '.join(CANDIDATES)}")
    return [CANDIDATES[name] for name in given if name != TODAY]


def _own(name: Any, changes: Any) -> Candidate:
    """Return the row of a candidate that a reader gives; a name of the table keeps its label."""
    if not isinstance(name, str) or not name:
        raise ScenarioError("candidates", name, "must have names that are texts, and not empty")
    if name in (TODAY, CANDIDATES[TODAY].label):
        rule = f"must have another name than {TODAY}, which the scenario as it is has"
        raise ScenarioError("candidates", name, rule)
    if not isinstance(changes, Mapping):
        rule = "must be a mapping of paths to values"
        raise ScenarioError(f"candidates[{shown(name)}]", changes, rule)
    changes = dict(changes)
    percent = changes.pop(_PERCENT, None)
    if percent is not None and (type(percent) not in (int, float) or not 0.0 < percent < 100.0):
        rule = "must be a number of percent, > 0 and < 100: of the users who get it"
        raise ScenarioError(f"candidates[{shown(name)}].{_PERCENT}", percent, rule)
    return Candidate(name, name, changes, "One of the caller's own.", percent)
