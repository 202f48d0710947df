"""A rollout plan: who is enrolled when, how tabs learn of it, what is checked, and the rollback.

A plan is frozen and strict, as a scenario is. It is read from TOML and written to TOML;
`rollout.formats` reads and writes the formats of other tools.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Self

import pydantic
from pydantic import Field

from simlib.core.assignment import FlagRules, Propagation
from simlib.core.measures import MEASURES, METRICS
from simlib.core.protocol import TRANSPORT_NAMES, Transport
from simlib.errors import ScenarioError, shown
from simlib.renamed import warn
from simlib.rollout import exchange
from simlib.rollout.tally import Limits
from simlib.scenario.changes import copied, read_changes
from simlib.scenario.documents import LANGUAGES, Said
from simlib.scenario.fields import (
    FROM_LIST,
    FieldError,
    Fraction,
    NotNegative,
    Positive,
    Section,
    belongs_to,
    example_path,
    fits_its_kind,
    present_path,
    read_toml,
    scenario_error,
)
from simlib.scenario.formats import writer
from simlib.scenario.model import Reconnect, Scenario
from simlib.scenario.places import in_file

if TYPE_CHECKING:
    import pandas as pd

# In the repository a link to data/plans, in a wheel the files themselves.
_EXAMPLES = Path(__file__).parent / "examples"

Percentage = Annotated[float, Field(ge=0, le=100)]


class Stage(Section):
    """A stage of a rollout: a percentage, and how long the guardrails are checked at it."""

    percent: Percentage
    """Users who are enrolled, %.
    Elsewhere: setWeight (Argo Rollouts); stepWeights (Flagger)."""
    bake_s: Positive
    """How long the stage lasts when all is well, seconds.
    Elsewhere: pause.duration (Argo Rollouts)."""
    gate_s: NotNegative = 0.0
    """How long somebody takes to approve it before it begins, seconds."""
    watched_from_s: NotNegative = 0.0
    """From when after its start the guardrails are checked, seconds."""
    watched_s: NotNegative | None = None
    """For how long they are checked then, seconds; 0: not at all; absent: until the stage ends."""

    @pydantic.model_validator(mode="after")
    def _is_watched_while_it_lasts(self) -> Self:
        from_s, for_s = self.watched_from_s, self.watched_s
        if from_s > self.bake_s:
            rule = f"must be <= bake_s ({self.bake_s:g})"
            raise FieldError("watched_from_s", from_s, rule)
        if for_s is not None and from_s + for_s > self.bake_s:
            rule = f"must be <= what is left of bake_s ({self.bake_s - from_s:g})"
            raise FieldError("watched_s", for_s, rule)
        return self

    @property
    def watch_s(self) -> float:
        """For how long the guardrails are checked, seconds."""
        return self.bake_s - self.watched_from_s if self.watched_s is None else self.watched_s


class Bucketing(Section):
    """Who is enrolled: see `core.bucketing`."""

    rule: Literal[
        "guide",
        "guide_unwrapped",
        "java_abs",
        "floor_mod",
        "unleash",
        "growthbook",
        "growthbook_v1",
        "growthbook_experiment",
        "launchdarkly",
        "flipt",
        "flipt_variant",
    ] = "floor_mod"
    """The rule that computes a user's bucket from the user's id."""
    flag: Annotated[str, Field(min_length=1, max_length=100)] = "realtime-websocket"
    """The flag's name, which is a part of what most rules hash."""
    ids: Literal["uuid4", "email", "number", "file"] = "uuid4"
    """What the users' ids look like, or that they are in a file."""
    ids_file: Annotated[str, Field(min_length=1)] | None = None
    """A text file with one id per line. Clients take the ids in that order, each one as many times
    as a user has tabs; at the end the list starts again, so that a user has further clients."""
    experiment_percent: Percentage | None = None
    """Users in the treatment group of an A/B experiment, %, which is one of the deciders; absent:
    there is no experiment."""
    server_percent: Percentage | None = None
    """Users for whom a flag on the server is on, %, which is one of the deciders; absent: there is
    no such flag."""
    sticks: Literal["users", "enrolled"] = "users"
    """Who keeps a decision: everybody, as with a hash or with cookies for both versions (users); or
    only who is enrolled, as with a cookie for the new version alone (enrolled). Then each request
    of the others is decided anew, so that more and more of them are enrolled while a stage lasts.
    Elsewhere: sessionAffinity without primaryCookieName (Flagger)."""
    deciders: Literal["ramp", "and", "or"] = "ramp"
    """Who is enrolled: users whom the ramp enrols (ramp), whom all deciders enrol (and), or whom at
    least one decider enrols (or)."""

    @pydantic.model_validator(mode="after")
    def _fits_together(self) -> Self:
        fits_its_kind(self, "ids", {"file": ("ids_file",)})
        one, other = others = ("experiment_percent", "server_percent")
        fits_its_kind(self, "deciders", {}, {"and": others, "or": others})
        if self.deciders != "ramp" and getattr(self, one) is None and getattr(self, other) is None:
            rule = f'must be given, or {other}, when deciders is "{self.deciders}"'
            raise FieldError(one, None, rule)
        return self


class Flag(Section):
    """How the percentage reaches a tab: see `core.assignment`."""

    propagation: Literal["session", "build", "polled", "pushed"] = "polled"
    """When a tab learns of a new percentage: at the start of its next session (session, and build,
    where the page has to be built and deployed first), when it next polls the flag (polled), or at
    once over its open socket (pushed)."""
    every_s: Positive | None = None
    """Time between two polls of the flag, seconds.
    Elsewhere: refreshInterval (unleash-proxy-client); pollInterval (LaunchDarkly, Node.js
    server)."""
    delay_s: NotNegative = 0.0
    """Time from a change of the percentage until a tab can read it, seconds; for a build, the time
    that build and deployment take."""
    cached_frac: Fraction = 1.0
    """Fraction of sessions that have loaded the flag when their page is mounted. The others stay in
    the control cohort, if tabs read the flag only at the start of a session."""
    jitter_s: NotNegative = 0.0
    """The longest time that a tab waits before it acts on a new percentage, seconds; uniform."""

    renamed_fields: ClassVar[Mapping[str, str]] = {"reach": "propagation"}

    @property
    def reach(self) -> str:
        """Was renamed to `propagation`."""
        warn("Flag.reach", "Flag.propagation")
        return self.propagation

    @pydantic.model_validator(mode="after")
    def _fits_its_propagation(self) -> Self:
        of_open_tabs, at_start = ("jitter_s",), ("cached_frac",)
        may_have = {"polled": of_open_tabs, "pushed": of_open_tabs}
        may_have |= {"session": at_start, "build": at_start}
        fits_its_kind(self, "propagation", {"polled": ("every_s",)}, may_have)
        if self.propagation == "build" and self.delay_s == 0.0:
            raise FieldError("delay_s", 0.0, 'must be > 0 when propagation is "build"')
        return self


class Rollback(Section):
    """How the percentage falls when a guardrail or a person demands it."""

    percents: Annotated[tuple[Percentage, ...], Field(min_length=1, max_length=100), FROM_LIST] = (
        0.0,
    )
    """The percentages of the rollback, in descending order."""
    every_s: Positive | None = None
    """Time between two of these percentages, seconds."""
    sockets: Literal["kept", "closed", "drained"] = "kept"
    """What the server does with the sockets of users who are no longer enrolled: it leaves them to
    the tabs (kept), closes them at once (closed), or closes them one by one over the window
    (drained)."""
    window_s: Positive | None = None
    """Length of the window of a drain, seconds."""

    @pydantic.model_validator(mode="after")
    def _fits_together(self) -> Self:
        for before, after in zip(self.percents, self.percents[1:], strict=False):
            if after >= before:
                raise FieldError("percents", list(self.percents), "must fall from each to the next")
        if (len(self.percents) > 1) != (self.every_s is not None):
            if self.every_s is None:
                raise FieldError(
                    "every_s", None, "must be given when there is more than one percentage"
                )
            raise FieldError("every_s", self.every_s, "has no meaning with one percentage")
        fits_its_kind(self, "sockets", {"drained": ("window_s",)})
        return self


_DEFAULT_STAGES = tuple(Stage(percent=percent, bake_s=600.0) for percent in (10, 25, 50, 100))


class Decision(Section):
    """How checks decide about the rollout: see `rollout.tally`."""

    rule: Literal["flagger", "argo"] = "flagger"
    """``flagger`` counts the failed checks of the whole rollout; ``argo``, as an analysis of Argo
    Rollouts does, those of each guardrail in each stage."""
    failures: Annotated[int, Field(ge=-1, le=100_000)] = 5
    """flagger: the number of failed checks after which the next check rolls back. argo: the
    ``failureLimit``, the number of failed checks that are tolerated; -1: unlimited.
    Elsewhere: threshold (Flagger); failureLimit (Argo Rollouts)."""
    inconclusive: Annotated[int, Field(ge=0, le=100_000)] | None = None
    """Inconclusive checks that are tolerated before the rollout pauses; absent: 0 (argo only).
    Elsewhere: inconclusiveLimit (Argo Rollouts)."""
    errors: Annotated[int, Field(ge=0, le=100_000)] | None = None
    """Consecutive checks without data that are tolerated; absent: 4 (argo only).
    Elsewhere: consecutiveErrorLimit (Argo Rollouts)."""
    analysis: Literal["step", "background"] | None = None
    """Whether checks are counted anew in each stage (step), or over the whole rollout, as by an
    analysis in the background; absent: step (argo only)."""

    @pydantic.model_validator(mode="after")
    def _fits_its_rule(self) -> Self:
        fits_its_kind(self, "rule", {}, {"argo": ("inconclusive", "errors", "analysis")})
        if self.rule == "flagger" and self.failures < 1:
            raise FieldError("failures", self.failures, 'must be >= 1 when rule is "flagger"')
        return self


class Guardrail(Section):
    """A metric that is checked, and the condition that it must meet."""

    metric: Literal[METRICS]  # type: ignore[valid-type]
    """The metric, measured for the enrolled users; utilisation and memory for the server."""
    below: float | None = None
    """The check fails when the value is more than this.
    Elsewhere: thresholdRange.max (Flagger)."""
    above: float | None = None
    """The check fails when the value is less than this.
    Elsewhere: thresholdRange.min (Flagger)."""
    times_control: Annotated[float, Field(gt=0, le=1e6)] | None = None
    """A factor: the check fails when the value is more than the control cohort's times this (less,
    if the factor is below 1). At 100 %, once the control cohort is empty, the check passes."""
    window_s: Positive | None = None
    """The span of time that a check looks back on, seconds; absent: since the check before.
    Elsewhere: interval of a metric (Flagger); the range of a query (Prometheus)."""
    every_s: Positive | None = None
    """Time between two of its checks, seconds, a multiple of check_every_s; absent: that itself."""
    fails_beyond: float | None = None
    """A second limit, in the unit of the first: the check is inconclusive between the two, and
    fails beyond this one. Absent: it fails beyond the first."""
    delay_s: NotNegative = 0.0
    """Time from the start of a stage, or of an analysis in the background, to the first check,
    seconds."""
    judge: Literal["mann_whitney", "sequential"] | None = None
    """The significance test that compares the enrolled users with the control cohort: Kayenta's
    rank test over the checks so far, or a sequential test over all observations, which stays valid
    however often it is repeated. The check fails when the enrolled users are worse."""
    worse: Literal["higher", "lower"] = "higher"
    """Whether higher or lower values are worse, for a judge."""
    margin: Annotated[float, Field(ge=0)] = 0.0
    """A judge's margin, in the metric's unit: the check fails only if the enrolled users are worse
    by more than this (a non-inferiority test)."""
    min_sample: Annotated[int, Field(ge=1, le=10**9)] = 1
    """The least number of observations for a verdict: deliveries for latencies, checks for a rank
    test, and seconds of presence for everything else."""
    no_data: Literal["pass", "fail", "inconclusive", "hold"] = "hold"
    """The result of a check with fewer observations, or with none of what is measured, as of the
    wait for a WebSocket where none has opened since the last check: it passes, it fails (as Flagger
    has it), or it holds the rollout, so that the stage lasts longer."""
    no_number: Literal["pass", "fail", "inconclusive", "hold"] | None = None
    """The result of a check of what has had a value before, and has none now: a quotient with no
    requests, or a quantile without observations, which Prometheus gives as NaN. Absent: as
    no_data."""
    is_evaluated: bool = True
    """Whether its condition can be evaluated at all; if not, each check is one without data, as
    with a condition that does not fit what the provider returns (Argo Rollouts)."""
    failures: Annotated[int, Field(ge=-1, le=100_000)] | None = None
    """Its own limit in place of the decision's (argo only)."""
    inconclusive: Annotated[int, Field(ge=0, le=100_000)] | None = None
    """Its own limit in place of the decision's (argo only)."""
    errors: Annotated[int, Field(ge=0, le=100_000)] | None = None
    """Its own limit in place of the decision's (argo only)."""

    @pydantic.model_validator(mode="after")
    def _asks_one_thing(self) -> Self:
        asked = [
            name
            for name in ("below", "above", "times_control", "judge")
            if getattr(self, name) is not None
        ]
        if len(asked) != 1:
            rule = "must be one of below, above, times_control and judge"
            raise FieldError("below" if not asked else asked[1], asked or None, rule)
        for name in ("below", "above", "margin"):
            value = getattr(self, name)
            if MEASURES[self.metric].is_share and value is not None and value > 1:
                rule = f"must be <= 1, as {self.metric} is a share"
                hint = f": {value / 100:g} for {value:g} %" if value >= 2 else ""
                raise FieldError(name, value, f"{rule}{hint}")
        if MEASURES[self.metric].scope == "server" and asked[0] in ("times_control", "judge"):
            rule = f"must be below or above: {self.metric} is the server's, no cohort has its own"
            raise FieldError(asked[0], getattr(self, asked[0]), rule)
        belongs_to(self, "margin", "judge")
        if self.judge is not None and self.window_s is not None:
            rule = "has no meaning for a judge, which looks at all that was seen"
            raise FieldError("window_s", self.window_s, rule)
        if self.judge == "sequential" and MEASURES[self.metric].sequential is None:
            counted = sorted(name for name in METRICS if MEASURES[name].sequential)
            rule = f"must be mann_whitney, or the metric one of {', '.join(counted)}"
            raise FieldError("judge", self.judge, rule)
        if self.fails_beyond is not None:
            if self.judge is not None:
                raise FieldError("fails_beyond", self.fails_beyond, "has no meaning for a judge")
            limit, is_upper = self.limit
            if not (self.fails_beyond > limit if is_upper else self.fails_beyond < limit):
                rule = f"must be {'>' if is_upper else '<'} {asked[0]} ({limit:g})"
                raise FieldError("fails_beyond", self.fails_beyond, rule)
        return self

    @property
    def limit(self) -> tuple[float, bool]:
        """The threshold or factor, and whether values above it fail."""
        if self.below is not None:
            return self.below, True
        if self.above is not None:
            return self.above, False
        assert self.times_control is not None
        return self.times_control, self.times_control >= 1.0

    @property
    def beyond(self) -> float:
        """The limit beyond which a check fails: `fails_beyond` if given, or else `limit`."""
        return self.limit[0] if self.fails_beyond is None else self.fails_beyond

    @property
    def compares(self) -> bool:
        """Whether it compares with the control cohort."""
        return self.times_control is not None or self.judge is not None


_OF_RECONNECT = {f"reconnect.{name}": name for name in Reconnect.model_fields}


def _whole_section(given: Any) -> Any:
    """Give ``reconnect`` as one section if all its settings are given, as `library` gives them.

    A section leaves out what is absent, as a file has to.
    """
    if not isinstance(given, dict) or not _OF_RECONNECT.keys() <= given.keys():
        return given
    section = {name: given[path] for path, name in _OF_RECONNECT.items() if given[path] is not None}
    others = {path: value for path, value in given.items() if path not in _OF_RECONNECT}
    return {**others, "reconnect": section}


def _plain(changes: dict[str, Any]) -> dict[str, Any]:
    """Copy the changes, or refuse what a file could not say."""
    plain = {}
    for path, value in changes.items():
        try:
            plain[path] = copied(path, value, only_plain=True)
        except ScenarioError as error:
            raise FieldError(f'"{path}"', error.value, error.rule) from None
    return plain


class Variant(Section):
    """The settings that one cohort gets: the scenario with a transport and changes of its own.

    The changes may be a client library's defaults, as `library` returns them.

    Examples
    --------
    >>> faster = {"transport": "polling", "changes": {"polling.interval_s": 10}}
    >>> plan = Plan(flag={"propagation": "session"}, treatment=faster)
    >>> plan.replace({"treatment.changes.polling.interval_s": "5 s"}).treatment.changes
    {'polling.interval_s': '5 s'}
    """

    transport: Literal[TRANSPORT_NAMES]  # type: ignore[valid-type]
    """How changes reach its clients."""
    changes: Annotated[
        dict[str, Any],
        pydantic.BeforeValidator(_whole_section),
        pydantic.AfterValidator(_plain),
    ] = Field(default_factory=dict)
    """Settings of the scenario that its clients have otherwise: dotted paths and their values, as
    `Scenario.replace` takes them. In TOML a path is one key, in quotation marks:
    ``"polling.interval_s" = 10``. They are checked when the plan meets a scenario. Only what is in
    ``polling``, ``websocket``, ``notify``, ``sse``, ``long_polling``, ``heartbeat``, ``reconnect``
    and ``fallback`` may differ from it, but for `polling.etag` and `websocket.push`."""

    @pydantic.model_validator(mode="before")
    @classmethod
    def _has_settings_in_its_changes(cls, given: Any) -> Any:
        for path in given if isinstance(given, dict) else ():
            section = path.partition(".")[0] if isinstance(path, str) else ""
            if section in Scenario.model_fields and section not in cls.model_fields:
                rule = f'must be given in its changes, as {{"changes": {{"{path}": ...}}}}'
                raise FieldError(path, given[path], rule)
        return given

    @pydantic.model_validator(mode="after")
    def _has_one_transport(self) -> Self:
        if "transport" in self.changes:
            rule = "must be given as the transport of the variant"
            raise FieldError('changes."transport"', self.changes["transport"], rule)
        return self

    @pydantic.model_serializer(mode="wrap")
    def _without_empty_changes(self, handler: Any) -> dict[str, Any]:
        values: dict[str, Any] = handler(self)
        return {name: value for name, value in values.items() if name != "changes" or value}

    def __hash__(self) -> int:
        return hash((self.transport, *sorted(self.changes)))


def _transport(variant: Variant) -> int:
    return int(Transport[variant.transport.upper()])


class Plan(Section):
    """A rollout plan: its stages, and everything that decides about them.

    Examples
    --------
    >>> plan = Plan(flag={"propagation": "polled", "every_s": "1 min"})
    >>> [stage.percent for stage in plan.stages], plan.length_s
    ([10.0, 25.0, 50.0, 100.0], 2400.0)
    >>> rail = {"metric": "latency_p95_s", "below": 2.0}
    >>> stages = [{"percent": 50, "bake_s": 30}]
    >>> Plan(flag={"propagation": "session"}, stages=stages, guardrails=[rail])
    Traceback (most recent call last):
        ...
    simlib.errors.ScenarioError: stages.0.bake_s: must be >= check_every_s (60), got 30.0
    """

    name: Annotated[str, Field(min_length=1, max_length=100)] = "plan"
    """A name for tables and titles."""
    start_s: NotNegative = 0.0
    """When the first stage begins, or the gate before it, seconds from the start of the run."""
    check_every_s: Positive = 60.0
    """Time between two checks of the guardrails, seconds.
    Elsewhere: interval (Flagger, Argo Rollouts)."""
    stages: Annotated[tuple[Stage, ...], Field(min_length=1, max_length=100), FROM_LIST] = (
        _DEFAULT_STAGES
    )
    """The stages in order; the percentage never falls from one to the next."""
    control: Annotated[Variant, Field(examples=[{"transport": "polling"}])] = Variant(
        transport="polling"
    )
    """What users get who are not enrolled."""
    treatment: Annotated[Variant, Field(examples=[{"transport": "websocket"}])] = Variant(
        transport="websocket"
    )
    """What users get who are enrolled."""
    bucketing: Bucketing = Bucketing()
    flag: Annotated[Flag, Field(examples=[exchange.A_FLAG])]
    rollback: Rollback = Rollback()
    decision: Decision = Decision()
    guardrails: Annotated[tuple[Guardrail, ...], Field(max_length=32), FROM_LIST] = ()
    """The guardrails. Without any, each stage ends after its `bake_s`, whatever happens."""
    failing: Annotated[tuple[str, ...], Field(max_length=32), FROM_LIST] = ()
    """Names of checks outside of the rehearsal, such as webhooks, that fail at every look."""
    kill_s: NotNegative | None = None
    """When the kill switch is used, seconds from the start of the run; absent: never."""

    _explained: tuple[Said, ...] = ()

    def __init__(self, /, **values: Any) -> None:
        try:
            super().__init__(**values)
        except pydantic.ValidationError as error:
            raise scenario_error(error, type(self)) from None

    @pydantic.model_validator(mode="after")
    def _holds_together(self) -> Self:
        before = 0.0
        for number, stage in enumerate(self.stages):
            path = f"stages.{number}"
            if stage.percent < before:
                rule = f"must be >= the stage's before ({before:g}): a percentage falls by rollback"
                raise FieldError(f"{path}.percent", stage.percent, rule)
            if self.guardrails and 0.0 < stage.watch_s < self.check_every_s:
                name = "bake_s" if stage.watched_s is None else "watched_s"
                rule = f"must be >= check_every_s ({self.check_every_s:g})"
                raise FieldError(f"{path}.{name}", getattr(stage, name), rule)
            before = stage.percent
        if self.rollback.sockets != "kept" and self.control.transport == self.treatment.transport:
            same = "the same" if self.control == self.treatment else "one transport"
            rule = f"must be kept: both cohorts get {same}, so nobody's socket is to be closed"
            raise FieldError("rollback.sockets", self.rollback.sockets, rule)
        for number, guardrail in enumerate(self.guardrails):
            if guardrail.compares and self.stages[0].percent >= 100.0:
                rule = "must be one that needs no control cohort: the first stage enrols everybody"
                raise FieldError(f"guardrails.{number}.metric", guardrail.metric, rule)
            self._check_times(guardrail, f"guardrails.{number}")
        if self.failing and self.decision.rule != "flagger":
            rule = 'must be none when decision.rule is "argo", which calls no webhooks'
            raise FieldError("failing", list(self.failing), rule)
        return self

    def _check_times(self, guardrail: Guardrail, path: str) -> None:
        """Check a guardrail's times and limits beside those of the plan."""
        whole = self.decision.analysis == "background"
        longest_s = self.length_s if whole else max(stage.watch_s for stage in self.stages)
        if guardrail.delay_s >= longest_s > 0.0:
            what = "the plan's length" if whole else "the longest that a stage is watched"
            rule = f"must be < {what} ({longest_s:g}): it would never be checked"
            raise FieldError(f"{path}.delay_s", guardrail.delay_s, rule)
        if guardrail.every_s is not None and not _is_multiple(
            guardrail.every_s, self.check_every_s
        ):
            rule = f"must be a multiple of check_every_s ({self.check_every_s:g})"
            raise FieldError(f"{path}.every_s", guardrail.every_s, rule)
        if guardrail.window_s is not None and guardrail.window_s > self.length_s:
            rule = f"must be <= the plan's length ({self.length_s:g})"
            raise FieldError(f"{path}.window_s", guardrail.window_s, rule)
        for name in ("failures", "inconclusive", "errors"):
            if getattr(guardrail, name) is not None and self.decision.rule != "argo":
                rule = 'has no meaning unless decision.rule is "argo"'
                raise FieldError(f"{path}.{name}", getattr(guardrail, name), rule)

    @property
    def length_s(self) -> float:
        """How long the stages and their gates take if no check holds them up, seconds."""
        return sum(stage.gate_s + stage.bake_s for stage in self.stages)

    @property
    def limits(self) -> Limits:
        """The failed, inconclusive and empty checks that are tolerated."""
        decision = self.decision
        failures = math.inf if decision.failures < 0 else decision.failures
        errors = 4 if decision.errors is None else decision.errors
        return Limits(failures, decision.inconclusive or 0, errors)

    @property
    def guardrail_limits(self) -> tuple[Limits, ...]:
        """The same of each guardrail, as Argo counts them."""
        return tuple(_own(rail, self.limits) for rail in self.guardrails)

    @property
    def flag_rules(self) -> FlagRules:
        """The part of the plan that the engines need."""
        by_name = {"polled": Propagation.POLLED, "pushed": Propagation.PUSHED}
        return FlagRules(
            propagation=int(by_name.get(self.flag.propagation, Propagation.SESSION)),
            every_s=self.flag.every_s or 0.0,
            delay_s=self.flag.delay_s,
            cached_frac=self.flag.cached_frac,
            closes=self.rollback.sockets != "kept",
            window_s=self.rollback.window_s or 0.0,
            jitter_s=self.flag.jitter_s,
            transports=(_transport(self.control), _transport(self.treatment)),
        )

    @classmethod
    def load(
        cls,
        path: str | Path,
        *,
        metrics: Mapping[str, Any] | None = None,
        gate_s: float | str | None = None,
        last_s: float | str | None = None,
        name: str | None = None,
        webhooks: str | Mapping[str, str] | None = None,
        **settings: Any,
    ) -> Plan:
        """Read a plan from a file: TOML, or a format of another tool.

        A file that ends in ``.yaml``, ``.yml`` or ``.json`` is in one of the formats of
        `rollout.formats.FORMATS`, and is recognised by its content. The docstring of that format's
        module, such as `rollout.formats.flagger`, lists what is ignored and what is refused. Any
        other file is TOML and describes the whole plan.

        Parameters
        ----------
        path : str or Path
        metrics : mapping, optional
            The meaning of the file's metrics: one of `METRICS` for each name; a pair of that and
            the factor to its unit, such as ``{"request-duration": ("latency_p99_s", 0.001)}`` for
            milliseconds; a triple with what is added then, such as ``("errors_per_request", -0.01,
            1)`` for a success rate in per cent; or None, to leave it out. The names in `METRICS`
            stand for themselves.
        gate_s : float or str, optional
            How long an approval takes that the file demands, seconds.
        last_s : float or str, optional
            Length of the last stage, seconds, if the file does not say it; absent: one interval
            between checks.
        name : str, optional
            The plan to read, if the file holds several; the plan's name, if the file has none.
        webhooks : str or mapping, optional
            What the file's webhooks answer, as a rehearsal calls nobody's service: ``"pass"``,
            ``"fail"`` or ``"wait"`` (for `gate_s`), for all or by their names or types.
        **settings
            Fields that the file cannot express. ``flag`` is always needed; ``bucketing``,
            ``rollback``, ``start_s`` and ``kill_s`` have the defaults of a plan. If the file has no
            guardrails, ``check_every_s`` and ``decision`` may be given too.

        Raises
        ------
        ScenarioError
            The file is missing or cannot be read, contains something that a plan cannot express, or
            lacks something that the caller has to give.

        Examples
        --------
        >>> flag = {"propagation": "polled", "every_s": 60}
        >>> plan = Plan.load("data/plans/flagger_canary.yaml", flag=flag)
        >>> [stage.percent for stage in plan.stages], plan.decision.failures
        ([10.0, 25.0, 50.0, 100.0], 5)
        """
        given = exchange.ImportOptions(metrics, gate_s, last_s, name, webhooks)
        if name is not None:
            settings["name"] = name
        suffix = Path(path).suffix.lower() if isinstance(path, str | Path) else ""
        if suffix not in LANGUAGES:
            others = {"metrics": metrics, "gate_s": gate_s, "last_s": last_s}
            others |= {"webhooks": webhooks, **settings}
            for name, value in others.items():
                if value is not None:
                    rule = "has no meaning for a TOML file, which says everything: use replace"
                    raise ScenarioError(name, value, rule)
            path, values = read_toml(path, "plan")
            explained: list[Said] = []
        else:
            path = Path(path)
            values, explained = exchange.read(path, given, settings)
        try:
            plan = cls(**values)
        except ScenarioError as error:
            raise in_file(error, path) from None
        if explained:
            by_caller = _said_by_caller(settings, "given beside the file")
            plan._explained = (*explained, *by_caller)
        return plan

    @classmethod
    def example(cls, name: str) -> Plan:
        """Return a plan that comes with the package, to start from.

        Parameters
        ----------
        name : str
            ``"guide_as_written"``: the migration guide's rollout, by a percentage in a constant of
            the build, which nothing measured stops. ``"guide_as_it_should_be"``: the same stages,
            with a flag that open tabs read again, and guardrails that act.

        Raises
        ------
        ScenarioError
            There is no such example; the error lists those that there are.

        Examples
        --------
        >>> plan = Plan.example("guide_as_it_should_be")
        >>> [stage.percent for stage in plan.stages], plan.length_s
        ([10.0, 25.0, 50.0, 100.0], 7200.0)
        """
        return cls.load(example_path(_EXAMPLES, name))

    def explain(self) -> pd.DataFrame:
        """Return what became of each line of the file that it was read from.

        Returns
        -------
        pandas.DataFrame
            A row for each key of the file, in its order, and then for each setting of the caller:
            ``where`` (its path), ``given`` (its value), ``became`` (settings of the plan, or
            ignored), ``why`` (why, or what the tool itself does beyond that). Of a plan that was
            not read from another tool's file: a row for each setting, and what it means.

        Examples
        --------
        >>> flag = {"propagation": "polled", "every_s": 60}
        >>> plan = Plan.load("data/plans/flagger_canary.yaml", flag=flag)
        >>> plan.explain().set_index("where")["became"]["spec.analysis.threshold"]
        'decision.failures = 5'
        """
        import pandas as pd

        rows = self._explained or tuple(_meanings(self))
        table = pd.DataFrame(rows, columns=["where", "given", "became", "why"], dtype=object)
        return table.assign(given=[shown(value) for value in table["given"]])

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Plan) and self.model_dump() == other.model_dump()

    def __hash__(self) -> int:
        return hash((self.name, self.stages, self.guardrails, self.flag))

    def dump(self, format: str = "toml") -> str:  # noqa: A002  (what it is)
        """Return the plan as a file's text.

        Parameters
        ----------
        format : str
            ``toml``, or a name in `rollout.formats.FORMATS`. TOML describes the whole plan. The
            other formats leave out the fields that the caller of `Plan.load` gives (``flag`` and
            those that the format's ``write`` lists). Either way `Plan.load`, with these fields,
            returns an equal plan.

        Raises
        ------
        ScenarioError
            The format is unknown, or cannot express a field of the plan, which the error names.

        Examples
        --------
        >>> plan = Plan(flag={"propagation": "pushed"}, kill_s=60.0)
        >>> plan.dump("flagger")
        Traceback (most recent call last):
            ...
        simlib.errors.ScenarioError: kill_s: must be None: the format can say nothing else, got 60.0
        """
        if format != "toml":
            return writer(format, "plan")(self)
        import tomli_w

        return tomli_w.dumps(self.model_dump(mode="json", exclude_none=True))

    def replace(self, changes: Mapping[str, Any] | None = None, /, **named: Any) -> Plan:
        """Return this plan with some fields changed.

        Parameters
        ----------
        changes : mapping of str to object, optional
            Dotted paths and their new values, such as ``{"rollback.sockets": "closed"}``. Items of
            a list are numbered from 0; ``*`` means all of them. None removes an optional field.
            What follows ``treatment.changes.`` is one path of the scenario.
        **named
            The same for fields of the top level.

        Raises
        ------
        ScenarioError
            A path does not exist, or the new plan is not valid.

        Examples
        --------
        >>> plan = Plan(flag={"propagation": "session"}).replace({"stages.*.bake_s": "1 h"})
        >>> plan.replace({"stages.3.bake_s": "1 min"}).length_s
        10860.0
        """
        values = self.model_dump(mode="json", exclude_none=True)
        asked = read_changes(changes, named)
        for path, value in asked.items():
            # The keys of a variant's changes are dotted paths themselves.
            cohort, is_inside, key = path.partition(".changes.")
            if is_inside:
                *sections, name = cohort, "changes", key
            else:
                *sections, name = present_path(Plan, path).split(".")
            places: list[Any] = [values]
            for section in sections:
                places = [into for place in places for into in _inside(place, section, path)]
            for place in places:
                if not isinstance(place, dict):
                    raise ScenarioError(path, value, "must be a field of a section")
                if value is None:
                    place.pop(name, None)
                else:
                    place[name] = value
        plan = type(self)(**values)
        if self._explained:
            plan._explained = (*self._explained, *_said_by_caller(asked, "changed by replace"))
        return plan


def _said_by_caller(settings: Mapping[str, Any], why: str) -> list[Said]:
    """Say what a caller has given, beside a file or later."""
    return [Said(name, value, name, why) for name, value in settings.items()]


def _meanings(plan: Plan) -> Iterator[Said]:
    """Say what each setting of a plan means that differs from its default."""

    def below(section: Section, path: str) -> Iterator[Said]:
        fields = type(section).model_fields
        for name in section.model_dump(exclude_defaults=True, exclude_none=True):
            value, at = getattr(section, name), f"{path}.{name}" if path else name
            parts = value if isinstance(value, tuple) else (value,)
            if all(isinstance(part, Section) for part in parts) and parts:
                for number, part in enumerate(parts):
                    yield from below(part, at if part is value else f"{at}.{number}")
                continue
            meaning = (fields[name].description or "").partition("Elsewhere")[0]
            yield Said(at, value, f"{at} = {value}", " ".join(meaning.split()))

    yield from below(plan, "")


def _own(rail: Guardrail, common: Limits) -> Limits:
    """Return a guardrail's own limits, and the common ones where it has none."""
    failures = common.failures if rail.failures is None else rail.failures
    return Limits(
        math.inf if failures < 0 else failures,
        common.inconclusive if rail.inconclusive is None else rail.inconclusive,
        common.errors if rail.errors is None else rail.errors,
    )


def _is_multiple(of: float, step: float) -> bool:
    """Say whether a time is a whole number of steps."""
    return round(of / step) >= 1 and math.isclose(of, round(of / step) * step, rel_tol=1e-9)


def _inside(place: Any, section: str, path: str) -> list[Any]:
    """Return the mappings to which one part of a dotted path leads."""
    if isinstance(place, dict):
        return [place.setdefault(section, {})]
    if not isinstance(place, list):
        raise ScenarioError(path, section, "must be a field of a section")
    if section == "*":
        return list(place)
    if not section.isdecimal() or len(section) > 9 or int(section) >= len(place):
        raise ScenarioError(path, section, f"must be a number below {len(place)}, or *")
    return [place[int(section)]]
