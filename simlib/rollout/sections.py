"""The sections of a rollout plan: frozen and strict, as those of a scenario are."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal, Self

import pydantic
from pydantic import Field

from simlib.core.measures import MEASURES, METRICS
from simlib.core.protocol import TRANSPORT_NAMES
from simlib.errors import ScenarioError
from simlib.renamed import warn
from simlib.scenario.changes import copied
from simlib.scenario.fields import (
    FROM_LIST,
    FieldError,
    Fraction,
    NotNegative,
    Positive,
    Section,
    belongs_to,
    fits_its_kind,
)
from simlib.scenario.model import Reconnect, Scenario

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
    of the others is decided anew, so that more and more of them are enrolled while a stage lasts,
    if the control cohort polls: whoever holds a connection makes no requests.
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


DEFAULT_STAGES = tuple(Stage(percent=percent, bake_s=600.0) for percent in (10, 25, 50, 100))


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
    """The span of time that a check looks back on, seconds; absent: since the check before it.
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
    >>> import simlib as sl
    >>> plan = sl.Plan(flag={"propagation": "session"}, treatment=faster)
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
