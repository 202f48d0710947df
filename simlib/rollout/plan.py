"""A rollout plan: who is enrolled when, how tabs learn of it, what is checked, and the rollback.

A plan is frozen and strict, as a scenario is. It is read from TOML and written to TOML;
`rollout.formats` reads and writes the formats of other tools.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self

import pydantic
from pydantic import Field

from simlib.core.assignment import FlagRules, Propagation
from simlib.core.measures import MEASURES, METRICS
from simlib.core.protocol import TRANSPORT_NAMES, Transport
from simlib.errors import ScenarioError
from simlib.renamed import warn
from simlib.rollout import exchange
from simlib.rollout.tally import Limits
from simlib.scenario.changes import copied, read_changes
from simlib.scenario.documents import LANGUAGES
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
    no_data: Literal["pass", "fail", "hold"] = "hold"
    """The result of a check with fewer observations, or with none of what is measured, as of the
    wait for a WebSocket where none has opened since the last check: it passes, it fails (as Flagger
    has it), or it holds the rollout, so that the stage lasts longer."""

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
    >>> Plan(flag={"propagation": "session"}, stages=[{"percent": 50, "bake_s": 30}])
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
    kill_s: NotNegative | None = None
    """When the kill switch is used, seconds from the start of the run; absent: never."""

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
            if stage.bake_s < self.check_every_s:
                rule = f"must be >= check_every_s ({self.check_every_s:g})"
                raise FieldError(f"{path}.bake_s", stage.bake_s, rule)
            before = stage.percent
        if self.rollback.sockets != "kept" and self.control.transport == self.treatment.transport:
            same = "the same" if self.control == self.treatment else "one transport"
            rule = f"must be kept: both cohorts get {same}, so nobody's socket is to be closed"
            raise FieldError("rollback.sockets", self.rollback.sockets, rule)
        for number, guardrail in enumerate(self.guardrails):
            if guardrail.compares and self.stages[0].percent >= 100.0:
                rule = "must be one that needs no control cohort: the first stage enrols everybody"
                raise FieldError(f"guardrails.{number}.metric", guardrail.metric, rule)
            whole = self.decision.analysis == "background"
            longest_s = self.length_s if whole else max(stage.bake_s for stage in self.stages)
            if guardrail.delay_s >= longest_s:
                what = "the plan's length" if whole else "the longest bake_s"
                rule = f"must be < {what} ({longest_s:g}): it would never be checked"
                raise FieldError(f"guardrails.{number}.delay_s", guardrail.delay_s, rule)
        return self

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
            The meaning of the file's metrics: one of `METRICS` for each name, or a pair of that and
            the factor to its unit, such as ``{"request-duration": ("latency_p99_s", 0.001)}`` for
            milliseconds. The names in `METRICS` stand for themselves.
        gate_s : float or str, optional
            How long an approval takes that the file demands, seconds.
        last_s : float or str, optional
            Length of the last stage, seconds, if the file does not say it; absent: one interval
            between checks.
        name : str, optional
            The plan to read, if the file holds several; the plan's name, if the file has none.
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
        given = exchange.ImportOptions(metrics, gate_s, last_s, name)
        if name is not None:
            settings["name"] = name
        suffix = Path(path).suffix.lower() if isinstance(path, str | Path) else ""
        if suffix not in LANGUAGES:
            others = {"metrics": metrics, "gate_s": gate_s, "last_s": last_s, **settings}
            for name, value in others.items():
                if value is not None:
                    rule = "has no meaning for a TOML file, which says everything: use replace"
                    raise ScenarioError(name, value, rule)
            path, values = read_toml(path, "plan")
        else:
            path = Path(path)
            values = exchange.read(path, given, settings)
        try:
            return cls(**values)
        except ScenarioError as error:
            raise in_file(error, path) from None

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
        for path, value in read_changes(changes, named).items():
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
        return type(self)(**values)


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
