"""Why a rollout went as it did: sentences for each look, and the points at which it turned.

Each number of a sentence stands in a cell of the rollout's own tables, or in its plan, and the
sentence says where: `Reason.cells` has them in the order of the text.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np

from simlib.core.measures import MEASURES, Measure
from simlib.errors import ScenarioError
from simlib.scenario.suggestions import hint

if TYPE_CHECKING:
    import pandas as pd

    from simlib.rollout.plan import Plan
    from simlib.rollout.sections import Guardrail

BREAKPOINTS = (
    "first fault",
    "first check without verdict",
    "first stage that moved",
    "first failed check",
    "first rollback",
    "end",
)
"""The first of the scenario's faults that begins after the first look (what was there before is no
turn); the first check that had too little data or was between two limits;
the first stage in which a guarded metric moved: whose median over the looks differs from that of
the stage before by more than a tenth of the limit; the first check that failed; the first look that
rolled back, or the kill switch; and the last look."""

MOVED_FRAC = 0.1
"""A metric has moved if it has by more than this part of its limit (for a judge, of control's)."""

Kind = Literal["time", "percent", "stage", "length", "count", "seconds", "value"]


class Cell(NamedTuple):
    """Where a number of a sentence stands.

    Attributes
    ----------
    table : {"history", "checks", "looks", "plan"}
    row : int
        The label of the row; of the plan, which has none, 0.
    column : str
        The column, or the path of the plan's setting.
    kind : Kind
        How it is shown, see `shown`.
    """

    table: Literal["history", "checks", "looks", "plan"]
    row: int
    column: str
    kind: Kind


class Reason(NamedTuple):
    """A sentence on a look, and the cells of its numbers in their order."""

    t_s: float
    sentence: str
    cells: tuple[Cell, ...]


class Story(NamedTuple):
    """What there is to be told of a rollout.

    Attributes
    ----------
    plan : Plan
    history, checks, looks : pandas.DataFrame
        As in `Rollout`.
    faults : sequence of (float, str)
        When each of the scenario's faults starts, seconds, and its kind.
    ended_s : float
        When the run was over, seconds.
    """

    plan: Plan
    history: pd.DataFrame
    checks: pd.DataFrame
    looks: pd.DataFrame
    faults: Sequence[tuple[float, str]]
    ended_s: float

    def value(self, cell: Cell) -> Any:
        """Return what stands in a cell."""
        if cell.table != "plan":
            return _at(getattr(self, cell.table), cell.row, cell.column)
        found: Any = self.plan
        for part in cell.column.split("."):
            found = found[int(part)] if part.isdecimal() else getattr(found, part)
        return found


def _at(table: pd.DataFrame, row: Any, column: str) -> Any:
    """Return what stands in a cell of a table, whose columns have one type each."""
    return table.at[row, column]


def shown(value: Any, kind: Kind) -> str:
    """Return a number as sentences have it.

    Examples
    --------
    >>> shown(1290.0, "time"), shown(90.0, "time"), shown(25.0, "percent"), shown(1, "stage")
    ('21.5 min', '90 s', '25 %', '2')
    >>> shown((10, 20), "length"), shown(3600, "count"), shown(0.022963, "value")
    ('2', '3,600', '0.023')
    >>> shown(float("nan"), "value")
    'n/a'
    """
    if kind == "length":
        return f"{len(value)}"
    if isinstance(value, float) and math.isnan(value):
        return "n/a"
    if kind == "time":
        return f"{value / 60.0:,.4g} min" if value >= 120.0 else f"{value:,.3g} s"
    if kind == "percent":
        return f"{value:.10g} %"
    if kind == "stage":
        return f"{value + 1}"
    if kind == "count":
        return f"{value:,.0f}"
    text = f"{float(f'{value:.3g}'):,.10g}"
    return f"{text} s" if kind == "seconds" else text


class _Sentence:
    """A sentence that is being written, and where its numbers were taken from."""

    def __init__(self, story: Story) -> None:
        self._story = story
        self._cells: list[Cell] = []

    def of(self, table: Any, row: Any, column: str, kind: Kind = "count") -> str:
        """Take a number from a cell."""
        self._cells.append(Cell(table, int(row), column, kind))
        return shown(self._story.value(self._cells[-1]), kind)

    def plan(self, path: str, kind: Kind = "count") -> str:
        """Take a number from the plan."""
        return self.of("plan", 0, path, kind)

    def number(self, table: Any, row: Any, column: str) -> float:
        """Return what a cell has, to choose words by."""
        return float(self._story.value(Cell(table, int(row), column, "count")))

    def says(self, t_s: float, text: str) -> Reason:
        """Return what was written."""
        return Reason(t_s, text, tuple(self._cells))


def reasons_of(story: Story) -> tuple[Reason, ...]:
    """Return the sentences of all looks, in their order."""
    found: list[Reason] = []
    for t_s in looks_s(story):
        found += _of_look(story, t_s)
    return tuple(found)


def looks_s(story: Story) -> list[float]:
    """Return the times of the looks, seconds, each once."""
    return [float(t_s) for t_s in story.history["t_s"].unique()]


def why(story: Story, at: float | str | None = None) -> list[str]:
    """Return the sentences of a look, or of all; see `Rollout.why`."""
    if at is None:
        return [reason.sentence for reason in reasons_of(story)]
    what = []
    if isinstance(at, str):
        at, sentence = _reached(story, at)
        what = [sentence]
    if isinstance(at, bool) or not isinstance(at, int | float) or not at >= 0.0:
        rule = "must be a time in seconds, >= 0, or the name of a breakpoint"
        raise ScenarioError("at", at, rule)
    look_s = look_before(story, float(at))
    if look_s is None:
        first = looks_s(story)[:1]
        when = f"the first look is at {shown(first[0], 'time')}" if first else "there was no look"
        return [*what, f"Nothing had been looked at yet: {when}."]
    of_look = [reason.sentence for reason in _of_look(story, look_s)]
    return [*(sentence for sentence in what if sentence not in of_look), *of_look]


def look_before(story: Story, t_s: float) -> float | None:
    """Return the time of the last look up to a time, or None if there was none."""
    return max((look for look in looks_s(story) if look <= t_s), default=None)


def _reached(story: Story, name: str) -> tuple[float, str]:
    """Return when a breakpoint was reached, and what was found there."""
    table = breakpoints_of(story)
    if name not in table.index:
        rule = f"must be one of {', '.join(BREAKPOINTS)}{hint(name, BREAKPOINTS)}"
        raise ScenarioError("at", name, rule)
    t_s = float(_at(table, name, "t_s"))
    if math.isnan(t_s):
        there = ", ".join(table.index[table["t_s"].notna()]) or "no other either"
        raise ScenarioError("at", name, f"must be one that the rollout came to: {there}")
    return t_s, str(_at(table, name, "what"))


# -- the sentences of a look --------------------------------------------------------------------


def _of_look(story: Story, t_s: float) -> list[Reason]:
    """Return what is said of the look at a time."""
    rows = story.history.index[story.history["t_s"] == t_s]
    found = [_where(story, t_s, rows[0])] if rows[0] > 0 else []
    found += _since(story, t_s)
    found += [
        _checked(story, t_s, row) for row in story.checks.index[story.checks["t_s"] == t_s].tolist()
    ]
    return found + [_decided(story, t_s, int(row)) for row in rows]


def _where(story: Story, t_s: float, row: int) -> Reason:
    """Where in the plan it was when it was looked at: before what the look has changed."""
    say = _Sentence(story)
    text = (
        f"{say.of('history', row, 't_s', 'time')}: "
        f"Stage {say.of('history', row - 1, 'stage', 'stage')} of "
        f"{say.plan('stages', 'length')}, "
        f"{say.of('history', row - 1, 'percent', 'percent')} of the users are asked for."
    )
    return say.says(t_s, text)


def _since(story: Story, t_s: float) -> Iterator[Reason]:
    """What had changed since the look before."""
    now = story.looks.index[story.looks["t_s"] == t_s].tolist()
    if len(now) < 2 or t_s == 0.0:
        return
    control, treatment = now
    say, before = _Sentence(story), treatment - 2
    since = say.of("looks", treatment, "since_s", "time")
    joined, present, connected, cut = (
        say.of("looks", treatment, name) for name in ("joined", "present", "connected", "cut")
    )
    text = (
        f"Since {since}: {joined} tabs joined treatment, {present} are open in it with {connected} "
        f"connections, {cut} were cut"
    )
    for name in ("reconnects", "errors"):
        text += f"; {say.of('looks', treatment, name)} {name}"
        text += f" (before: {say.of('looks', before, name)})" if before >= 0 else ""
    yield say.says(t_s, f"{text}.")
    say = _Sentence(story)
    text = f"A change took {say.of('looks', treatment, 'average_latency_s', 'seconds')} on average"
    if before >= 0:
        text += f" (before: {say.of('looks', before, 'average_latency_s', 'seconds')})"
    text += f", in control {say.of('looks', control, 'average_latency_s', 'seconds')}"
    delivered, of_control = (say.of("looks", row, "delivered") for row in (treatment, control))
    yield say.says(t_s, f"{text}; {delivered} and {of_control} were delivered.")


def _checked(story: Story, t_s: float, row: int) -> Reason:
    """What a check of a guardrail found, and what that counts as."""
    checks, say = story.checks, _Sentence(story)
    number, found = int(_at(checks, row, "guardrail")), str(_at(checks, row, "found"))
    rail, path = story.plan.guardrails[number], f"guardrails.{number}"
    measure = MEASURES[rail.metric]
    counts_as = _COUNTS_AS[str(_at(checks, row, "result"))]
    if found == "no control":
        return say.says(t_s, f"{measure.label} passed: nobody is left in control to compare with.")
    value = f"{measure.label} was {say.of('checks', row, 'treatment', 'value')} {_unit(measure)}"
    if measure.scope == "cohort":
        value += f", in control {say.of('checks', row, 'control', 'value')}"
    if found == "not evaluated":
        return say.says(
            t_s, f"{value}; its condition cannot be evaluated, which counts as {counts_as}."
        )
    if found == "no number":
        text = "nothing has happened that makes a number"
        return say.says(t_s, f"{value}; {text}, which counts as {counts_as}.")
    if found == "suspended":
        delay = say.plan(f"{path}.delay_s", "time")
        return say.says(t_s, f"{value}; it is not checked for {delay}, and passed.")
    if measure.scope == "server" and found != "too little data":
        return say.says(t_s, f"{value}; {_asked(say, rail, row)}: {counts_as}.")
    sample, what = say.of("checks", row, "sample"), _what_is_counted(rail)
    if found == "too little data":
        least = say.plan(f"{path}.min_sample")
        too_few = f"too little data ({sample} {what}, at least {least} are asked for)"
        return say.says(t_s, f"{value}; {too_few}, which counts as {counts_as}.")
    if rail.judge is not None:
        test = rail.judge.replace("_", " ")
        said = f"the {test} test over {sample} {what} says {found}"
        return say.says(t_s, f"{value}; {said}: {counts_as}.")
    return say.says(t_s, f"{value}, of {sample} {what}; {_asked(say, rail, row)}: {counts_as}.")


def _asked(say: _Sentence, rail: Guardrail, row: int) -> str:
    """Say what a guardrail asks for."""
    side = "at most" if rail.limit[1] else "at least"
    asked = f"{side} {say.of('checks', row, 'limit', 'value')} is asked for"
    path = f"guardrails.{int(say.number('checks', row, 'guardrail'))}"
    if rail.times_control is not None:
        asked += f" ({say.plan(f'{path}.times_control', 'value')} times control)"
    if rail.fails_beyond is not None:
        asked += f", and it fails beyond {say.plan(f'{path}.fails_beyond', 'value')}"
        asked += " times control" if rail.times_control is not None else ""
    return asked


def _unit(measure: Measure) -> str:
    """Return a unit as it follows a number."""
    return measure.unit if measure.unit in ("s", "B", "1/s") else f"({measure.unit})"


_COUNTS_AS = {
    "pass": "passed",
    "fail": "failed",
    "inconclusive": "no verdict",
    "no_data": "no verdict",
}


def _what_is_counted(rail: Guardrail) -> str:
    """Return what a guardrail's sample consists of."""
    if rail.judge == "mann_whitney":
        return "checks"
    return "deliveries" if MEASURES[rail.metric].sample == "deliveries" else "client-seconds"


def _decided(story: Story, t_s: float, row: int) -> Reason:
    """What the controller decided at a look, and why."""
    say, event = _Sentence(story), str(_at(story.history, row, "event"))
    if event == "started":
        stage = say.of("history", row, "stage", "stage")
        of = say.plan("stages", "length")
        percent = say.of("history", row, "percent", "percent")
        text = f"Decision: stage {stage} of {of} begins, {percent} of the users are asked for."
    elif event == "killed":
        percent = say.of("history", row, "percent", "percent")
        text = f"The kill switch was used: back to {percent} of the users."
    elif event == "done":
        text = (
            "Decision: done, as the last stage was over, at "
            f"{say.of('history', row, 'percent', 'percent')} of the users."
        )
    elif event == "passed":
        text = _went_on(story, say, row)
    elif event == "rolled_back":
        text = _rolled_back(story, say, row)
    elif event == "paused":
        text = f"Decision: pause until a person decides, as {_most(story, say, t_s)}."
    elif event == "failed":
        n = say.of("history", row, "failed")
        of_look = story.checks[story.checks["t_s"] == t_s]
        what = "a guardrail" if (of_look["result"] == "fail").any() else story.plan.failing[0]
        text = (
            f"Decision: hold the stage, as {what} failed; {n} {_looks(n)} failed so far, and "
            f"at {say.plan('decision.failures')} the next one rolls back."
        )
    else:
        text = "Decision: hold the stage, as a guardrail has no verdict."
    return say.says(t_s, text)


def _looks(n: str) -> str:
    return "look has" if n == "1" else "looks have"


def _went_on(story: Story, say: _Sentence, row: int) -> str:
    """Say that nothing stood in a stage's way."""
    history, t_s = story.history, _at(story.history, row, "t_s")
    of_look = story.checks[story.checks["t_s"] == t_s]
    if len(of_look) == 0:
        because = "no guardrail is checked"
    elif (of_look["result"] == "pass").all():
        because = "every guardrail passed"
    else:
        because = "no more checks than are tolerated failed or had no verdict"
    stage = int(_at(history, row, "stage"))
    is_over = t_s >= _began_s(story, stage) + story.plan.stages[stage].bake_s
    if story.plan.decision.rule == "argo":  # what was not measured has made it longer
        is_over = row + 1 < len(history) and str(_at(history, row + 1, "event")) == "started"
    if not is_over:
        return f"Decision: go on, as {because}."
    bake = say.plan(f"stages.{stage}.bake_s", "time")
    return f"Decision: end the stage after {bake}, as {because}."


def _began_s(story: Story, stage: int) -> float:
    """Return when a stage began, seconds."""
    history = story.history
    begun = history[(history["event"] == "started") & (history["stage"] == stage)]
    return float(begun["t_s"].iloc[0])


def _rolled_back(story: Story, say: _Sentence, row: int) -> str:
    """Say to which percentage it fell, and why."""
    history = story.history
    percent = say.of("history", row, "percent", "percent")
    if str(_at(history, row - 1, "event")) in ("rolled_back", "killed"):
        return f"The rollback went on, to {percent} of the users."
    if story.plan.decision.rule == "flagger":
        n = say.of("history", row, "failed")
        had = "look had" if n == "1" else "looks had"
        limit = say.plan("decision.failures")
        return (
            f"Decision: roll back to {percent}, as {n} {had} failed, and at {limit} the next one "
            "rolls back."
        )
    reason = _most(story, say, float(_at(history, row, "t_s")))
    return f"Decision: roll back to {percent}, as {reason}."


def _most(story: Story, say: _Sentence, t_s: float) -> str:
    """Say which guardrail has more results of a kind than Argo's rule tolerates."""
    of_look = story.checks[story.checks["t_s"] == t_s]
    for column, name, words in (
        ("failures", "failures", "failed checks"),
        ("without_data", "errors", "checks without data in a row"),
        ("inconclusive", "inconclusive", "checks without a verdict"),
    ):
        for row in of_look.index.tolist():
            number = int(_at(of_look, row, "guardrail"))
            most = getattr(story.plan.guardrail_limits[number], name)
            if int(_at(of_look, row, column)) > most:
                label = MEASURES[str(_at(of_look, row, "metric"))].label
                n = say.of("checks", row, column)
                tolerated = say.plan(f"guardrail_limits.{number}.{name}")
                return f"{label} had more {words} ({n}) than are tolerated ({tolerated})"
    raise AssertionError("a rollout that stopped has a reason")


# -- the points at which it turned --------------------------------------------------------------


def breakpoints_of(story: Story) -> pd.DataFrame:
    """Return a row for each of `BREAKPOINTS`; see `Rollout.breakpoints`."""
    import pandas as pd

    checks, history = story.checks, story.history
    open_checks = checks["result"].isin(["inconclusive", "no_data"])
    open_checks |= checks["found"] == "too little data"
    found = {
        "first fault": _first_fault(story),
        "first check without verdict": _first_check(story, open_checks),
        "first stage that moved": _first_moved(story),
        "first failed check": _first_check(story, checks["result"] == "fail"),
        "first rollback": _first_event(
            story, history["event"].isin(["rolled_back", "killed"]).to_numpy()
        ),
        "end": _first_event(story, history.index.to_numpy() == len(history) - 1),
    }
    rows = []
    for name in BREAKPOINTS:
        t_s, what = found[name]
        look_s = None if math.isnan(t_s) else look_before(story, t_s)
        rows.append({"t_s": t_s, "look_s": math.nan if look_s is None else look_s, "what": what})
    return pd.DataFrame(rows, index=pd.Index(BREAKPOINTS, name="breakpoint"))


_NEVER = (math.nan, "never")


def _first_fault(story: Story) -> tuple[float, str]:
    begun_s = min(looks_s(story), default=math.inf)
    faults = [fault for fault in story.faults if begun_s < fault[0] <= story.ended_s]
    if not faults:
        return _NEVER
    t_s, kind = min(faults, key=lambda fault: fault[0])
    sentence = f"A fault begins at {shown(t_s, 'time')}: {kind.replace('_', ' ')}."
    look_s = look_before(story, t_s)
    if look_s is not None and look_s < t_s:
        sentence += f" The last look before it was at {shown(look_s, 'time')}."
    return float(t_s), sentence


def _first_check(story: Story, is_one: pd.Series) -> tuple[float, str]:
    rows = story.checks.index[is_one.to_numpy(dtype=bool)]
    if len(rows) == 0:
        return _NEVER
    t_s = float(_at(story.checks, rows[0], "t_s"))
    return t_s, _checked(story, t_s, int(rows[0])).sentence


def _first_event(story: Story, is_one: Any) -> tuple[float, str]:
    rows = story.history.index[is_one]
    if len(rows) == 0:
        return _NEVER
    t_s = float(_at(story.history, rows[0], "t_s"))
    return t_s, _decided(story, t_s, int(rows[0])).sentence


def _first_moved(story: Story) -> tuple[float, str]:
    """Return the first look of the first stage in which a guarded metric has moved."""
    found: list[tuple[float, str]] = []
    for number, rail in enumerate(story.plan.guardrails):
        rows = story.checks[story.checks["guardrail"] == number]
        stages = _stages_at(story, rows["t_s"].to_numpy(float))
        values = rows["treatment"].to_numpy(float)
        by_stage = {stage: values[stages == stage] for stage in np.unique(stages).tolist()}
        for stage, before in ((stage, by_stage.get(stage - 1)) for stage in by_stage):
            if before is None or not (np.isfinite(before).any() and stage > 0):
                continue
            here = stages == stage
            scale = _scale(rail, rows[here])
            was, now = np.nanmedian(before), _median(values[here])
            if abs(now - was) > MOVED_FRAC * scale:
                has_moved = here & (np.abs(values - was) > MOVED_FRAC * scale)
                t_s = float(rows["t_s"].to_numpy(float)[has_moved][0])
                measure = MEASURES[rail.metric]
                found.append((t_s, _moved(measure.label, _unit(measure), stage, float(was), now)))
                break
    return min(found, key=lambda one: one[0]) if found else _NEVER


def _moved(label: str, unit: str, stage: int, was: float, now: float) -> str:
    return (
        f"{label}: a median of {shown(now, 'value')} {unit} over the looks of stage "
        f"{shown(stage, 'stage')}, after {shown(was, 'value')} in the stage before."
    )


def _stages_at(story: Story, times_s: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Return in which stage it was when it was looked at, shape of the times."""
    begun = story.history[story.history["event"] == "started"]
    # A look at the very time at which a stage begins was of the stage before.
    return np.searchsorted(begun["t_s"].to_numpy(float), times_s, "left") - 1


def _scale(rail: Guardrail, rows: pd.DataFrame) -> float:
    """Return of what a metric's movement is a part: its limit, or where it has none, control."""
    column = "control" if rail.judge is not None else "limit"
    return abs(_median(rows[column].to_numpy(float)))


def _median(values: np.ndarray[Any, Any]) -> float:
    """Return the median of what is not missing; NaN if all is."""
    known = values[np.isfinite(values)]
    return float(np.median(known)) if len(known) else math.nan
