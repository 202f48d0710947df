"""The rollout controller: it observes a run, checks the guardrails and sets the next percentage.

A `RolloutController` stands between a plan and an engine. It sees what a team's monitoring would
see, for the control cohort (users who are not enrolled) and for the treatment cohort (users who
are): counts since the last look, present clients and open connections at that time, and a histogram
of latencies.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from simlib.analysis import bucketing
from simlib.core.assignment import CONTROL, TREATMENT, FlagRules, user_of
from simlib.core.client_state import Rules
from simlib.core.measures import MEASURES, METRICS, QUANTILES, WAIT_QUANTILES, evaluate, ratio
from simlib.core.protocol import has_socket, holds
from simlib.core.record import TICK_S, Count, MetricsSnapshot, Wait, bucket_edges_s
from simlib.rollout import significance
from simlib.rollout.cohorts import cohort_scenarios
from simlib.rollout.looks import Finding, check_rows, cohort_rows
from simlib.rollout.plan import Plan
from simlib.rollout.sections import Guardrail
from simlib.rollout.tally import Check, Verdict, argo, flagger, new_tally, next_stage
from simlib.run import quantiles_of
from simlib.scenario import Scenario, Workload
from simlib.scenario.workload import rules_of

_COUNTS = tuple(what.name.lower() for what in Count)
_NO_DATA = {
    "pass": Check.PASS,
    "fail": Check.FAIL,
    "inconclusive": Check.INCONCLUSIVE,
    "hold": Check.NO_DATA,
}
_SAME_S = 1e-6
"""Times that differ by less are one: they are sums of the plan's times."""
_LATE_FRAC = 0.1
"""A look on a real clock is late by less than this part of the time between two."""


EVENTS = (
    "started",
    "passed",
    "failed",
    "inconclusive",
    "rolled_back",
    "killed",
    "paused",
    "done",
)
"""The events of a rollout: a stage starts; a check passes, fails or has no verdict; the percentage
falls by a rollback or by the kill switch; the rollout waits for a person; its last stage ends."""


class Reading(NamedTuple):
    """One cohort's metrics between two looks, and the sample size of each.

    Attributes
    ----------
    values : dict of str to float
        By the names of `measures.METRICS`; NaN where the denominator is 0.
    samples : dict of str to int
        Deliveries for latencies, whole seconds of presence for all others.
    """

    values: dict[str, float]
    samples: dict[str, int]


def read(
    before: MetricsSnapshot,
    now: MetricsSnapshot,
    cohort: int,
    scenario: Scenario,
    transports: tuple[int, int],
    present_s: float | None = None,
) -> Reading:
    """Return a cohort's metrics between two looks.

    Parameters
    ----------
    before, now : MetricsSnapshot
    cohort : int
        `CONTROL` or `TREATMENT`.
    scenario : Scenario
        Gives the number of workers and the memory of a connection.
    transports : tuple of int
        The `Transport` of each cohort: WebSockets and requests that are held take memory.
    present_s : float, optional
        Client-seconds of presence, where there were looks between the two.
    """
    length_s = now.t - before.t
    counts = now.counts[cohort] - before.counts[cohort]
    if present_s is None:
        present_s = float(_present_s(before, now)[cohort])
    # Clients may fall back and return between two checks, so this is what a monitor's gauge is on
    # average that is scraped often: a share of client-seconds, weighted by time.
    exposed_s = now.exposed_s[cohort] - before.exposed_s[cohort]
    fallback_s = min(now.fallen_s[cohort] - before.fallen_s[cohort], exposed_s)
    ticks = now.latency_ticks[cohort] - before.latency_ticks[cohort]
    histogram = now.histogram[cohort] - before.histogram[cohort]
    edges_s = bucket_edges_s()
    levels = np.array(list(QUANTILES.values()))
    quantiles = quantiles_of(edges_s[:-1], edges_s[1:], histogram, levels)
    wait_ticks = now.wait_ticks[:, cohort] - before.wait_ticks[:, cohort]
    waits = now.wait_histogram[:, cohort] - before.wait_histogram[:, cohort]
    is_kept = np.array([has_socket(each) or holds(each) for each in transports])
    busy_s = now.busy_s - before.busy_s
    sockets = int(now.connected[is_kept].sum())
    sums = {
        **dict(zip(_COUNTS, counts.astype(np.float64).tolist(), strict=True)),
        "width_s": length_s,
        "present_s": present_s,
        "requests": float(counts[Count.POLLS] + counts[Count.ATTEMPTS]),
        "connected_s": now.connected[cohort] * length_s,
        "fallback_s": fallback_s,
        "latency_sum_s": ticks * TICK_S,
        "poll_response_sum_s": wait_ticks[Wait.POLL] * TICK_S,
        "connection_wait_sum_s": wait_ticks[Wait.CONNECTION] * TICK_S,
        "busy_s": float(busy_s.sum()),
        "worker_s": length_s * scenario.server.nodes * scenario.server.workers,
        "memory_bytes": sockets * scenario.server.connection_bytes + now.buffered_bytes,
        "busiest_utilisation": ratio(busy_s.max(), length_s * scenario.server.workers),
        **dict(zip(QUANTILES, quantiles, strict=True)),
        **{
            name: quantiles_of(edges_s[:-1], edges_s[1:], waits[what], np.array([level]))[0]
            for name, (what, level) in WAIT_QUANTILES.items()
        },
    }
    values = {name: float(evaluate(MEASURES[name], sums)) for name in METRICS}
    share = MEASURES["fallback_to_polling_frac"]
    values[share.name] = float(evaluate(share, {**sums, "present_s": exposed_s}))
    deliveries, seconds = int(counts[Count.DELIVERED]), int(present_s)
    samples = {
        name: deliveries if MEASURES[name].sample == "deliveries" else seconds for name in METRICS
    }
    return Reading(values, samples)


def _present_s(before: MetricsSnapshot, now: MetricsSnapshot) -> NDArray[np.float64]:
    """Return each cohort's client-seconds of presence between two looks.

    The trapezoidal rule: these numbers of clients change little between two looks.
    """
    return np.asarray((before.present + now.present) / 2.0 * (now.t - before.t))


class _Past:
    """What was seen at looks and between them, as far as windows look back."""

    def __init__(self, plan: Plan) -> None:
        given = (rail.window_s or rail.every_s for rail in plan.guardrails)
        windows = {window_s for window_s in given if window_s is not None}
        self._longest_s, every_s = max(windows, default=0.0), plan.check_every_s
        self._every_s = every_s
        rests = (window % every_s for window in windows)
        self._before_s = sorted(
            (rest for rest in rests if min(rest, every_s - rest) > _SAME_S), reverse=True
        )
        """How long before a look something is seen at which a window begins."""
        self._kept: list[tuple[MetricsSnapshot, NDArray[np.float64]]] = []

    def due_s(self, look_s: float) -> float:
        """Return when to see before a look, seconds; infinite if not at all.

        What is seen as often as guardrails are checked, during gates, too, is where windows begin.
        """
        if self._longest_s == 0.0:
            return math.inf
        after_s = self._kept[-1][0].t if self._kept else 0.0
        times_s = [look_s - before for before in self._before_s]
        if self._kept and after_s + self._every_s < look_s - _SAME_S:
            times_s.append(after_s + self._every_s)
        return min((t for t in times_s if t > after_s + _SAME_S), default=math.inf)

    def keep(self, snapshot: MetricsSnapshot) -> None:
        """Keep what is seen now, and forget what no window reaches any more."""
        if self._longest_s == 0.0:
            return
        present_s = np.zeros(len(snapshot.present))
        if self._kept:
            before, so_far_s = self._kept[-1]
            present_s = so_far_s + _present_s(before, snapshot)
        self._kept.append((snapshot, present_s))
        start = self._start_of(self._longest_s)
        del self._kept[:start]

    def back(self, window_s: float) -> tuple[MetricsSnapshot, NDArray[np.float64]]:
        """Return where a window begins that ends now, and each cohort's client-seconds in it."""
        (before, so_far_s), (_, present_s) = self._kept[self._start_of(window_s)], self._kept[-1]
        return before, present_s - so_far_s

    def _start_of(self, window_s: float) -> int:
        """Return the number of what was seen nearest to a window's start: real clocks are late."""
        from_s = self._kept[-1][0].t - window_s
        return min(range(len(self._kept)), key=lambda n: abs(self._kept[n][0].t - from_s))


def buckets_of(
    plan: Plan, clients: int, seed: int, replication: int, tabs_per_user: int = 1
) -> NDArray[np.float64]:
    """Return the buckets of a run's clients under a plan's deciders, shape (clients,).

    Parameters
    ----------
    plan : Plan
    clients : int
    seed, replication : int
    tabs_per_user : int, optional
        How many clients in a row belong to one user, and so have one bucket.
    """
    settings = plan.bucketing
    if clients == 0:
        return np.zeros(0)
    users = -(-clients // tabs_per_user)
    ids: Sequence[str]
    if settings.ids_file is None:
        ids = bucketing.Users(settings.ids, users, seed, replication)
    else:
        ids = bucketing.read_user_ids(settings.ids_file)[:users]
    deciders = [bucketing.buckets(settings.rule, ids, flag=settings.flag)]
    for name, rule, percent in (
        ("experiment", "growthbook_experiment", settings.experiment_percent),
        ("server", "unleash", settings.server_percent),
    ):
        if percent is not None:
            others = bucketing.buckets(rule, ids, flag=f"{settings.flag}-{name}")
            deciders.append(bucketing.fixed_assignment(others, percent))
    how = "and" if settings.deciders == "ramp" else settings.deciders
    of_users = np.resize(bucketing.combine(how, *deciders), users)
    return np.asarray(of_users[user_of(np.arange(clients), tabs_per_user)])


class RolloutController:
    """Carries a plan out on one run, and keeps its history.

    Parameters
    ----------
    plan : Plan
    scenario : Scenario
    seed, replication : int
        Of the run.
    explains : bool, optional
        Whether it keeps what its decisions can be explained by. It takes as long again as deciding
        does, which many short trials would notice.

    Attributes
    ----------
    flag : FlagRules
    history : list of dict
        A row for each look: ``t_s``, ``stage``, ``percent`` (from then on), ``event`` (one of
        `EVENTS`), ``failed`` (failed looks so far), and the treatment cohort's metrics since the
        previous look.
    checks, looks : list of dict
        Rows of `looks.check_rows` and of `looks.cohort_rows`; none if it does not explain.
    """

    def __init__(
        self,
        plan: Plan,
        scenario: Scenario,
        seed: int,
        replication: int,
        *,
        explains: bool = True,
    ) -> None:
        self.plan = plan
        self.scenario = scenario
        self.flag: FlagRules = plan.flag_rules
        self.history: list[dict[str, Any]] = []
        self.checks: list[dict[str, Any]] = []
        self.looks: list[dict[str, Any]] = []
        self._explains = explains
        self._address = seed, replication
        self._before: MetricsSnapshot | None = None
        self._stage = 0
        self._percent = 0.0
        self._waits = True
        self._began_s, self._counted_from_s = 0.0, math.inf
        self._tally = new_tally(len(plan.guardrails))
        self._rollback_steps: list[float] = []
        self._first: MetricsSnapshot | None = None
        self._seen: list[tuple[Reading, Reading]] = []
        self._past = _Past(plan)
        self._measured = [0] * len(plan.guardrails)
        self._next_s = [math.inf] * len(plan.guardrails)
        self._watched_until_s = math.inf
        decision = plan.decision
        self._is_counted = decision.rule == "argo" and decision.analysis != "background"
        """Whether a stage lasts until it has been measured often enough."""
        control = cohort_scenarios(plan, scenario)[0]
        drifts = plan.bucketing.sticks == "enrolled" and control.transport == "polling"
        self._request_every_s = control.polling.interval_s if drifts else math.inf
        self._due_s = plan.start_s + plan.stages[0].gate_s
        self._kill_s = math.inf if plan.kill_s is None else plan.kill_s

    def buckets(self, workload: Workload) -> NDArray[np.float64]:
        """Return the clients' buckets, shape (clients,)."""
        clients, tabs = len(workload.start_s), self.scenario.tabs_per_user
        return buckets_of(self.plan, clients, *self._address, tabs_per_user=tabs)

    def cohort_rules(self, scenario: Scenario, workload: Workload) -> tuple[Rules, Rules]:
        """Return what the clients of the control and of the treatment cohort obey."""
        control, treatment = cohort_scenarios(self.plan, scenario)
        return rules_of(control, workload), rules_of(treatment, workload)

    def due_s(self) -> float:
        """Return the time of the next look, seconds; infinite if there is none."""
        seen_s = math.inf
        if not self._rollback_steps and math.isfinite(self._due_s):
            seen_s = self._past.due_s(self._due_s)
        return min(self._due_s, self._kill_s, seen_s)

    def observe(self, snapshot: MetricsSnapshot) -> float | None:
        """Look at the run, and return the new percentage, or None if it stays."""
        self._past.keep(snapshot)
        if snapshot.t >= self._kill_s:
            # At -inf percent no user is enrolled; at 0 %, some hashes still enrol users.
            self._kill_s, self._rollback_steps = math.inf, [-math.inf]
            return self._roll_back_a_step(snapshot, "killed")
        if self._rollback_steps:
            return self._roll_back_a_step(snapshot, "rolled_back")
        if snapshot.t < self._due_s - _SAME_S:
            return None  # seen for a window that begins now
        if self._waits:
            return self._begin(snapshot)
        return self._check(snapshot)

    def _begin(self, snapshot: MetricsSnapshot) -> float:
        """Start a stage, and return the percentage that is in force."""
        stage, now = self.plan.stages[self._stage], snapshot.t
        self._drift(now, max(self._stage - 1, 0))
        if math.isinf(self._request_every_s):
            self._percent = stage.percent
        self._began_s, self._waits = now, False
        is_whole = self.plan.decision.analysis == "background"
        if not is_whole or (self._counted_from_s == math.inf and stage.watch_s > 0.0):
            self._tally = next_stage(self._tally)
            self._counted_from_s = now + stage.watched_from_s
            self._next_s = [self._counted_from_s + self._first_s(n) for n in self._numbers]
        self._measured = [0] * len(self.plan.guardrails)
        self._watched_until_s = now + stage.watched_from_s + stage.watch_s
        if self._is_counted and any(map(self._planned, self._numbers)):
            self._watched_until_s = math.inf  # until all is measured
        self._due_s = self._next_look_s(now)
        self._first = self._first or snapshot
        self._note(snapshot, "started")
        return self._ahead(now)

    def _ahead(self, now: float) -> float:
        """Return the percentage until the next look: where it drifts, that of half-way there."""
        if math.isinf(self._request_every_s):
            return self._percent
        return self._drifted(self._percent, (self._due_s - now) / 2.0, self._stage)

    def _drifted(self, percent: float, length_s: float, stage: int) -> float:
        """Return what a percentage has become after a time in which every request is decided."""
        requests = length_s / self._request_every_s
        left_frac: float = (1.0 - self.plan.stages[stage].percent / 100.0) ** requests
        return 100.0 - (100.0 - percent) * left_frac

    def _drift(self, now: float, stage: int) -> None:
        """Enrol those who have since the last look made a request that was decided so."""
        if math.isinf(self._request_every_s) or self._before is None:
            return
        self._percent = self._drifted(self._percent, now - self._before.t, stage)

    # -- when what is checked ----------------------------------------------------------------------

    @property
    def _watched_from_s(self) -> float:
        return self._began_s + self.plan.stages[self._stage].watched_from_s

    @property
    def _ends_s(self) -> float:
        """When the stage ends if nothing holds it up: as late as its measurements were."""
        stage = self.plan.stages[self._stage]
        late_s = self._watched_until_s - (self._watched_from_s + stage.watch_s)
        return self._began_s + stage.bake_s + max(0.0, late_s)

    def _next_look_s(self, now: float) -> float:
        """Return when to look again, seconds."""
        next_s, from_s = now + self.plan.check_every_s, self._watched_from_s
        if now < from_s - _SAME_S:
            return min(next_s, from_s)
        late_s = _LATE_FRAC * self.plan.check_every_s
        is_watched = self.plan.guardrails and next_s <= self._watched_until_s + late_s
        is_open = self.plan.stages[self._stage].watched_s is None and not self._is_counted
        if is_watched or (self.plan.guardrails and is_open) or now >= self._ends_s:
            return next_s
        return min(next_s, self._ends_s)

    @property
    def _numbers(self) -> range:
        return range(len(self.plan.guardrails))

    def _every_s(self, guardrail: Guardrail) -> float:
        return guardrail.every_s or self.plan.check_every_s

    def _first_s(self, number: int) -> float:
        """Return when a guardrail is first checked, seconds from when checks count."""
        guardrail = self.plan.guardrails[number]
        return max(guardrail.delay_s, self._every_s(guardrail))

    def _planned(self, number: int) -> int:
        """Return how often a guardrail is to be measured in the stage, by Argo's rule."""
        guardrail, stage = self.plan.guardrails[number], self.plan.stages[self._stage]
        every_s = self._every_s(guardrail)
        times = math.floor((stage.watch_s - guardrail.delay_s) / every_s + 1e-9)
        # A delay that is no multiple leaves room for one look more than it leaves intervals.
        return max(times, int(self._first_s(number) <= stage.watch_s))

    def _is_due(self, number: int, now: float) -> bool:
        """Say whether it is a guardrail's turn to be checked."""
        guardrail, from_s = self.plan.guardrails[number], self._watched_from_s
        if not from_s + _SAME_S < now:
            return False
        stage = self.plan.stages[self._stage]
        is_open = stage.watched_s is None and not self._is_counted
        if not is_open and now > self._watched_until_s + _LATE_FRAC * self.plan.check_every_s:
            return False
        if self._is_counted and self._measured[number] >= self._planned(number):
            return False
        if guardrail.every_s is None:
            return True
        if now < self._next_s[number] - _LATE_FRAC * self.plan.check_every_s:
            return False
        while self._next_s[number] <= now + _LATE_FRAC * self.plan.check_every_s:
            self._next_s[number] += guardrail.every_s
        return True

    def _check(self, snapshot: MetricsSnapshot) -> float | None:
        """Check the guardrails, and act on the verdict."""
        assert self._before is not None
        self._drift(snapshot.t, self._stage)
        guardrails = self.plan.guardrails
        treatment, control = self._read(snapshot, TREATMENT), Reading({}, {})
        is_compared = any(guardrail.compares for guardrail in guardrails)
        needs_control = is_compared or (self._explains and bool(guardrails))
        if needs_control:
            control = self._read(snapshot, CONTROL)
        if is_compared:
            self._seen.append((control, treatment))
        pairs = [
            self._read_back(snapshot, window_s, needs_control=needs_control)
            if (window_s := each.window_s or each.every_s)
            else (control, treatment)
            for each in guardrails
        ]
        findings = [self._found(number, *pair, snapshot) for number, pair in enumerate(pairs)]
        checks = [finding.check for finding in findings]
        self._note_measured(findings, snapshot.t)
        if self.plan.decision.rule == "argo":
            self._tally, verdict = argo(self._tally, self.plan.guardrail_limits, checks)
        else:
            checks += [Check.FAIL] * len(self.plan.failing)
            self._tally, verdict = flagger(self._tally, self.plan.limits, checks)
        if self._explains:
            values = [(of_control.values, treated.values) for of_control, treated in pairs]
            self.checks += check_rows(snapshot.t, guardrails, findings, values, self._tally)
        stayed = self._act(verdict, snapshot, treatment, has_failed=Check.FAIL in checks)
        drifts = math.isfinite(self._request_every_s) and math.isfinite(self._due_s)
        return self._ahead(snapshot.t) if stayed is None and drifts else stayed

    def _note_measured(self, findings: Sequence[Finding], now: float) -> None:
        """Count what was measured: errors are not, so that a stage lasts longer for them."""
        for number, finding in enumerate(findings):
            is_none = finding.check in (Check.NOT_DUE, Check.NO_DATA)
            self._measured[number] += not is_none and finding.found != "suspended"
        if math.isinf(self._watched_until_s):
            wanted = (self._planned(number) for number in range(len(findings)))
            if all(got >= most for got, most in zip(self._measured, wanted, strict=True)):
                self._watched_until_s = now

    def _read_back(
        self, snapshot: MetricsSnapshot, window_s: float, *, needs_control: bool
    ) -> tuple[Reading, Reading]:
        """Return what a window that ends now holds of the control and the treatment cohort."""
        before, present_s = self._past.back(window_s)
        about = self.scenario, self.flag.transports
        control = Reading({}, {})
        if needs_control:
            control = read(before, snapshot, CONTROL, *about, float(present_s[CONTROL]))
        return control, read(before, snapshot, TREATMENT, *about, float(present_s[TREATMENT]))

    def _act(
        self, verdict: Verdict, snapshot: MetricsSnapshot, treatment: Reading, *, has_failed: bool
    ) -> float | None:
        """Do what follows from a verdict, and return the new percentage, or None if it stays."""
        self._due_s = self._next_look_s(snapshot.t)
        if verdict == Verdict.GO_BACK:
            percents = self.plan.rollback.percents
            self._rollback_steps = [percent for percent in percents if percent < self._percent]
            self._rollback_steps = self._rollback_steps or [min(self._percent, percents[-1])]
            return self._roll_back_a_step(snapshot, "rolled_back")
        if verdict == Verdict.STOP:
            self._due_s = math.inf
            self._note(snapshot, "paused", treatment)
            return None
        if verdict == Verdict.HOLD:
            self._note(snapshot, "failed" if has_failed else "inconclusive", treatment)
            return None
        if snapshot.t < self._ends_s - _SAME_S:
            self._note(snapshot, "passed", treatment)
            return None
        if self._stage + 1 == len(self.plan.stages):
            self._due_s = math.inf
            self._note(snapshot, "done", treatment)
            return None
        self._note(snapshot, "passed", treatment)
        self._stage += 1
        self._waits = True
        self._due_s = snapshot.t + self.plan.stages[self._stage].gate_s
        return None

    def _read(self, snapshot: MetricsSnapshot, cohort: int) -> Reading:
        assert self._before is not None
        return read(self._before, snapshot, cohort, self.scenario, self.flag.transports)

    def _found(
        self, number: int, control: Reading, treatment: Reading, snapshot: MetricsSnapshot
    ) -> Finding:
        """Return what came of checking one guardrail now."""
        guardrail = self.plan.guardrails[number]
        if not self._is_due(number, snapshot.t):
            return Finding("suspended", Check.NOT_DUE)
        if guardrail.compares and self._percent >= 100.0 and snapshot.present[CONTROL] == 0:
            return Finding("no control", Check.PASS)
        if snapshot.t < self._counted_from_s + guardrail.delay_s:
            return Finding("suspended", Check.PASS)
        if not guardrail.is_evaluated:
            return Finding("not evaluated", Check.NO_DATA)
        if guardrail.judge is None:
            finding = find(guardrail, control, treatment)
            is_nan = math.isnan(treatment.values[guardrail.metric])
            if (
                is_nan
                and guardrail.no_number is not None
                and self._has_had(guardrail.metric, snapshot)
            ):
                return finding._replace(found="no number", check=_NO_DATA[guardrail.no_number])
            return finding
        return self._judge(guardrail, snapshot)

    def _has_had(self, metric: str, snapshot: MetricsSnapshot) -> bool:
        """Say whether the enrolled users' metric has had a value since the rollout began."""
        assert self._first is not None
        so_far = read(self._first, snapshot, TREATMENT, self.scenario, self.flag.transports)
        return not math.isnan(so_far.values[metric])

    def _judge(self, guardrail: Guardrail, snapshot: MetricsSnapshot) -> Finding:
        """Return what a significance test says of all that was observed since the start."""
        name, is_worse = guardrail.metric, {"higher": "high", "lower": "low"}[guardrail.worse]
        margin = guardrail.margin if guardrail.worse == "higher" else -guardrail.margin
        if guardrail.judge == "mann_whitney":
            pairs = np.array([[one.values[name] for one in pair] for pair in self._seen])
            pairs = pairs[np.isfinite(pairs).all(axis=1)]
            sample, least = float(len(pairs)), max(2, guardrail.min_sample)
            if sample < least:
                return _too_little(guardrail, sample=sample)
            said = significance.mann_whitney(pairs[:, CONTROL] + margin, pairs[:, TREATMENT])
        else:
            samples = [self._sample(name, cohort, snapshot) for cohort in (CONTROL, TREATMENT)]
            sample = min(one.n for one in samples)
            if sample < guardrail.min_sample:
                return _too_little(guardrail, sample=sample)
            difference = significance.sequential_test(*samples)
            if MEASURES[name].sequential == "events":
                margin /= MEASURES[name].per  # samples of rates are per second
            low, high = difference.low - margin, difference.high - margin
            said = "high" if low > 0.0 else "low" if high < 0.0 else "pass"
        if said == is_worse:
            return Finding("worse", Check.FAIL, sample=sample)
        return Finding("not worse", Check.PASS, sample=sample)

    def _sample(self, name: str, cohort: int, snapshot: MetricsSnapshot) -> significance.Sample:
        """Return all observations of a cohort since the rollout began."""
        assert self._first is not None
        measure = MEASURES[name]
        if measure.sequential == "observations":
            held = snapshot.histogram[cohort] - self._first.histogram[cohort]
            edges_s = bucket_edges_s()
            middles_s, n = (edges_s[:-1] + edges_s[1:]) / 2.0, float(held.sum())
            mean_s = float(middles_s @ held / n) if n else 0.0
            variance = float(((middles_s - mean_s) ** 2) @ held / n) if n else 0.0
            return significance.Sample(n, mean_s, variance)
        counted = snapshot.counts[cohort] - self._first.counts[cohort]
        events = sum(int(counted[Count[term.upper()]]) for term in measure.numerator)
        seconds = float(sum(pair[cohort].samples[name] for pair in self._seen))
        rate = events / seconds if seconds else 0.0
        return significance.Sample(seconds, rate, rate)  # Poisson: the variance equals the rate

    def _roll_back_a_step(self, snapshot: MetricsSnapshot, event: str) -> float:
        """Set the next percentage of the rollback, and return it."""
        self._percent = self._rollback_steps.pop(0)
        self._due_s = math.inf
        if self._rollback_steps:
            assert self.plan.rollback.every_s is not None
            self._due_s = snapshot.t + self.plan.rollback.every_s
        self._note(snapshot, event)
        return self._percent

    def _note(self, snapshot: MetricsSnapshot, event: str, seen: Reading | None = None) -> None:
        """Add a row to the history, and keep the snapshot for the next look."""
        if seen is None and self._before is not None and snapshot.t > self._before.t:
            seen = self._read(snapshot, TREATMENT)
        self.history.append(
            {
                "t_s": snapshot.t,
                "stage": self._stage,
                "percent": max(self._percent, 0.0),
                "event": event,
                "failed": self._tally.failed,
                **(seen.values if seen is not None else {}),
            }
        )
        if self._explains and (self._before is None or snapshot.t > self._before.t):
            self.looks += cohort_rows(self._before, snapshot)
        self._before = snapshot


def check(guardrail: Guardrail, control: Reading, treatment: Reading) -> Check:
    """Return the result of checking a guardrail against two cohorts' metrics.

    Parameters
    ----------
    guardrail : Guardrail
    control, treatment : Reading

    Examples
    --------
    >>> rail = Guardrail(metric="latency_p95_s", below=5.0, min_sample=10)
    >>> seen = [Reading({"latency_p95_s": 9.0}, {"latency_p95_s": n}) for n in (9, 10)]
    >>> [check(rail, reading, reading).name for reading in seen]
    ['NO_DATA', 'FAIL']
    """
    return find(guardrail, control, treatment).check


def find(guardrail: Guardrail, control: Reading, treatment: Reading) -> Finding:
    """Return what comes of comparing a guardrail's metric with its limit; as `check`.

    Examples
    --------
    >>> rail = Guardrail(metric="latency_p50_s", times_control=2.0)
    >>> control, treatment = (Reading({"latency_p50_s": s}, {"latency_p50_s": 7}) for s in (3, 7.0))
    >>> found = find(rail, control, treatment)
    >>> found.found, found.limit, found.sample
    ('beyond', 6.0, 7)
    """
    name = guardrail.metric
    value, sample = treatment.values[name], treatment.samples[name]
    (limit, is_upper), beyond = guardrail.limit, guardrail.beyond
    if guardrail.times_control is not None:
        of_control = control.values[name]
        limit, beyond = limit * of_control, beyond * of_control
        sample = min(sample, control.samples[name])
    if sample < guardrail.min_sample or math.isnan(value) or math.isnan(limit):
        return _too_little(guardrail, limit, sample)
    if value > beyond if is_upper else value < beyond:
        return Finding("beyond", Check.FAIL, limit, sample)
    is_past = value > limit if is_upper else value < limit
    if is_past:
        return Finding("between", Check.INCONCLUSIVE, limit, sample)
    return Finding("within", Check.PASS, limit, sample)


def _too_little(guardrail: Guardrail, limit: float = math.nan, sample: float = 0.0) -> Finding:
    return Finding("too little data", _NO_DATA[guardrail.no_data], limit, sample)
