"""What came of judging: tables, a verdict in sentences, and where each of their numbers stands."""

from __future__ import annotations

import html
import math
from collections.abc import Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np

from simlib import theory
from simlib.core.protocol import Transport, is_stream
from simlib.errors import ScenarioError
from simlib.rollout.plan import Plan
from simlib.run import kinds_of
from simlib.scenario import Scenario
from simlib.scenario.display import page, table_html, warnings_html
from simlib.verdict.candidates import TODAY, Case
from simlib.verdict.facts import Values
from simlib.verdict.measures import JUDGED, ConditionName, Kind, shown
from simlib.verdict.needs import Needs, needs_of

if TYPE_CHECKING:
    import pandas as pd

_MARKS = {"met": "✓", "failed": "✗", "unclear": "?", "no value": "✗"}
_IS_NO_FAILURE = ("met", "not asked", "not run")
_OF_RETURN = ("back_s", "missed_frac", "without_push_frac", "pushed_again_s")
"""What clients fail that never come back."""
_OF_SILENCE = ("latency_p50_s", "latency_p95_s", "latency_max_s", "missed_frac")
"""What clients fail that hear nothing."""
_FEW_FRAC = 0.01
"""So few clients are not worth a sentence."""
_FIRST = 4
"""So many candidates are run further at a time, until one of them meets every need."""

VerdictKind = Literal["stay", "tune", "migrate", "none"]


class Asked(NamedTuple):
    """What `decide` was asked: enough to ask it again with something changed."""

    scenario: Scenario
    needs: Needs
    replications: int
    seed: int
    confidence: float
    options: Mapping[str, Any]


class Cell(NamedTuple):
    """Where a number of a sentence stands: in ``table`` or ``ranking``, and how it is shown."""

    table: Literal["table", "ranking"]
    row: Any
    column: str
    kind: Kind


class Sentence(NamedTuple):
    """A sentence: a template with places for numbers, and the cells that they are taken from."""

    template: str
    cells: tuple[Cell, ...]


def interval_of(values: Values, confidence: float) -> tuple[float, float, float]:
    """Return mean, low and high of replications; of values that are not finite, no interval.

    Nor is there one of a single replication: it stands for itself.

    Examples
    --------
    >>> interval_of(np.array([1.0, 1.0]), 0.95)
    (1.0, 1.0, 1.0)
    >>> interval_of(np.array([1.0, math.inf]), 0.95)
    (inf, inf, inf)
    """
    if np.isnan(values).any():
        return math.nan, math.nan, math.nan
    if np.isinf(values).any():
        return math.inf, math.inf, math.inf
    if len(values) == 1:
        return float(values[0]), float(values[0]), float(values[0])
    return theory.mean_interval(values, confidence)


class Decision:
    """What should be done, by what a board needs: see `decide`.

    Attributes
    ----------
    asked : Asked
        What was asked.
    cases : dict of str to Case
        The candidates that were judged, each with its scenario.
    left_out : dict of str to str
        Candidates that were not, and why.
    values : dict of str to dict of str to ndarray
        For each candidate and measure a value a replication.
    """

    def __init__(
        self,
        asked: Asked,
        cases: dict[str, Case],
        left_out: dict[str, str],
        values: dict[str, dict[str, Values]],
        warned: Mapping[str, tuple[str, ...]],
        said: Mapping[str, tuple[str, ...]],
        ran: Mapping[str, frozenset[ConditionName]],
    ) -> None:
        self.asked, self.cases, self.left_out, self.values = asked, cases, left_out, values
        self._warned, self._said, self._ran = warned, said, ran

    def with_needs(self, needs: Needs | Mapping[str, Any]) -> Decision:
        """Return what the same runs say of other limits.

        A candidate whose settings follow from limits, such as polls as seldom as allowed, keeps
        those of the limits that it was run with, and says so in its label.

        Parameters
        ----------
        needs : Needs, or mapping of its fields
            With the same prices, trouble, release, nodes and least_nodes: they are in the runs or
            values.

        Raises
        ------
        ScenarioError
            Something differs that has to be judged anew, or asks for runs that were left out.
        """
        before, needs = self.asked.needs, needs_of(needs)
        names = ["prices", "trouble", "release", "nodes", "least_nodes", "conditions"]
        names += ["utilisation", "memory_bytes"] if before.nodes is not None else []
        for name in names:
            if getattr(needs, name) != getattr(before, name):
                rule = "must be as it was: it is in the values, so that decide has to judge anew"
                raise ScenarioError(f"needs.{name}", getattr(needs, name), rule)
        asked = self.asked._replace(needs=needs)
        cases = {
            name: case.under(self.asked.scenario, before, needs)
            for name, case in self.cases.items()
        }
        told = self._warned, self._said, self._ran
        found = Decision(asked, cases, self.left_out, self.values, *told)
        if found.unsettled:
            rule = f"must be judged anew, by decide: {found.unsettled[0]} lacks runs for that"
            raise ScenarioError("needs", needs, rule)
        return found

    # -- tables ------------------------------------------------------------------------------------

    @cached_property
    def table(self) -> pd.DataFrame:
        """Every candidate and measure: a row each, indexed by ``candidate`` and ``measure``.

        ``label``, ``mean``, ``low`` and ``high`` (Student t), ``limit`` (NaN: not asked for),
        ``excess`` (mean - limit), ``status`` and ``warnings`` (kinds of those of the calm runs).
        The status is ``met`` (the whole interval keeps the limit), ``failed``, ``unclear`` (the
        limit lies within the interval, so that more replications would tell), ``no value``, ``not
        asked``, or ``not run``: in trouble, or rolled out, see the notes of `decide`.
        """
        import pandas as pd

        limits = self.asked.needs.limits
        rows = []
        for name, measures in self.values.items():
            warned = kinds_of(self._warned[name])
            for measure, values in measures.items():
                interval = interval_of(values, self.asked.confidence)
                limit = limits.get(measure, math.nan)
                row = (name, measure, self.cases[name].label, *interval, limit)
                status = _status(interval, limit) if self._has_run(name, measure) else "not run"
                rows.append((*row, interval[0] - limit, status, warned))
        columns = ["candidate", "measure", "label", "mean", "low", "high", "limit", "excess"]
        table = pd.DataFrame(rows, columns=[*columns, "status", "warnings"])
        return table.set_index(["candidate", "measure"])

    @cached_property
    def ranking(self) -> pd.DataFrame:
        """The candidates that meet every need, the one to take first.

        ``label``, ``transport``, ``mean``, ``low`` and ``high`` of `Needs.ranked_by`, and
        ``more``, ``more_low`` and ``more_high``: by how much it exceeds the first, pair by pair.
        """
        import pandas as pd

        measure, order = self.asked.needs.ranked_by, self._order
        rows = []
        for name in order:
            own = self.values[name][measure]
            more = interval_of(own - self.values[order[0]][measure], self.asked.confidence)
            case, mean = self.cases[name], interval_of(own, self.asked.confidence)
            rows.append((name, case.label, case.scenario.transport, *mean, *more))
        columns = ["candidate", "label", "transport", "mean", "low", "high"]
        columns += ["more", "more_low", "more_high"]
        return pd.DataFrame(rows, columns=columns).set_index("candidate")

    def summary(self) -> pd.DataFrame:
        """Return the table for readers: a row per candidate, a column per measure, with marks.

        ✓ keeps the limit, ✗ does not, ? may or may not. The first row has the limits.
        """
        import pandas as pd

        limits = self.asked.needs.limits
        measures = [name for name in JUDGED if name in self.values[TODAY]]
        rows: dict[str, list[str]] = {
            "limit": [shown(limits[m], JUDGED[m].kind) if m in limits else "" for m in measures]
        }
        for name in self.order:
            found = self.table.loc[name].loc[measures]
            rows[self.cases[name].label] = [
                status
                if status == "not run"
                else f"{shown(mean, JUDGED[measure].kind)} {_MARKS.get(status, '')}".rstrip()
                for measure, mean, status in zip(
                    measures, found["mean"], found["status"], strict=True
                )
            ]
        columns = [JUDGED[measure].label for measure in measures]
        return pd.DataFrame.from_dict(rows, orient="index", columns=columns)

    # -- the verdict -------------------------------------------------------------------------------

    def fails(self, name: str) -> list[str]:
        """Return the needs that a candidate does not meet, the worst first.

        What has no value of the measure that it would be ranked by fails that.
        """
        rows = self.table.loc[name]
        failed = rows[~rows["status"].isin(_IS_NO_FAILURE)]
        # Those without a value are worst of all.
        worst = (
            (failed["excess"] / failed["limit"])
            .fillna(math.inf)
            .sort_values(ascending=False, kind="stable")
        )
        found, ranked_by = [str(measure) for measure in worst.index], self.asked.needs.ranked_by
        is_ranked = np.isfinite(self.values[name][ranked_by]).all()
        if not found and self._has_run(name, ranked_by) and not is_ranked:
            return [ranked_by]
        return found

    @cached_property
    def _order(self) -> list[str]:
        """The candidates that meet every need, in their order: see `decide`."""
        measure = self.asked.needs.ranked_by
        fit = [name for name in self.cases if not self.lacks(name) and not self.fails(name)]
        fit.sort(key=lambda name: float(self.values[name][measure].mean()))
        choice = fit
        if TODAY in fit:
            today = self.values[TODAY][measure]
            worth = self.asked.needs.worth_frac * float(today.mean())
            better = [n for n in fit if self._beats(self.values[n][measure], today, worth)]
            choice = better or [TODAY]
        if not choice:
            return []
        least, places = self.values[choice[0]][measure], list(self.cases)
        ties = [n for n in choice if not self._beats(least, self.values[n][measure], 0.0)]
        first = min(ties, key=places.index)
        # What is the same to the last digit, such as the price of one server, says nothing.
        of_first = self.values[first][measure]
        same = [n for n in ties if np.array_equal(self.values[n][measure], of_first)]
        first = min(
            same, key=lambda n: (float(self.values[n]["bytes_per_h"].mean()), places.index(n))
        )
        return [first, *(name for name in fit if name != first)]

    def _has_run(self, name: str, measure: str) -> bool:
        return JUDGED[measure].run in self._ran[name]

    def lacks(self, name: str) -> bool:
        """Say whether a candidate was not run in all that the needs ask for."""
        return not self._ran[name].issuperset(self.asked.needs.conditions)

    @cached_property
    def unsettled(self) -> list[str]:
        """The candidates that have to be run further before the verdict stands.

        What fails a need is none of them, nor what takes clearly more than one that meets them all.
        Today's is, so that there is something to compare with. If every candidate fails a need, it
        is those that miss the fewest, until it is known which comes closest.
        """
        lacking = [name for name in self.cases if self.lacks(name)]
        if not lacking:
            return []
        values = {name: self.values[name][self.asked.needs.ranked_by] for name in self.cases}
        usable = [name for name in lacking if not self.fails(name)]
        usable.sort(key=lambda name: float(np.nan_to_num(values[name].mean(), nan=math.inf)))
        if self._order:
            least = min((values[name] for name in self._order), key=lambda one: float(one.mean()))
            found = [name for name in usable if not self._beats(least, values[name], 0.0)]
        elif usable:
            found = usable[:_FIRST]
        elif self.lacks(self.closest):
            found = sorted(lacking, key=self._misses)[:_FIRST]
        else:
            found = []
        return list(dict.fromkeys([*([TODAY] if TODAY in lacking else []), *found]))

    def _is_least(self, name: str) -> bool:
        means = self.ranking["mean"]
        return bool(means[name] <= means.min())

    def _beats(self, one: Values, other: Values, by: float) -> bool:
        """Say whether one is less than another by more than an amount and more than noise."""
        _, low, _ = interval_of(other - one, self.asked.confidence)
        return low > by

    @property
    def best(self) -> str | None:
        """The candidate to take; None if none meets every need."""
        return self._order[0] if self._order else None

    @property
    def scenario(self) -> Scenario:
        """The scenario of the candidate to take (see `plan`); without one, as it is today."""
        return self.cases[self.best or TODAY].scenario

    @property
    def plan(self) -> Plan | None:
        """The rollout that is held at the percentage of the candidate to take; None: for all."""
        return self.cases[self.best or TODAY].plan

    @property
    def kind(self) -> VerdictKind:
        """What to do.

        ``stay`` as it is; ``tune``: other settings of today's transport; ``migrate`` to another
        transport; ``none``: no candidate meets every need.
        """
        if self.best is None:
            return "none"
        if self.best == TODAY:
            return "stay"
        same = self.scenario.transport == self.asked.scenario.transport
        return "tune" if same else "migrate"

    @property
    def closest(self) -> str:
        """The candidate that misses the fewest needs, and of those the least."""
        return min(self.cases, key=self._misses)

    def _misses(self, name: str) -> tuple[int, float]:
        """Return how many needs a candidate misses, and the worst by how much, as is known."""
        failed = self.fails(name)
        if not failed:
            return 0, 0.0
        excess = self.number(self._cell(name, failed[0], "excess"))
        # A limit may be 0, and a measure without a limit or a value is missed by any amount.
        limit = self.asked.needs.limits.get(failed[0], 0.0)
        is_known = limit > 0.0 and not math.isnan(excess)
        return len(failed), excess / limit if is_known else math.inf

    @property
    def rival(self) -> str:
        """The candidate that the best one is weighed against: the best of the other way.

        Break-evens, the tornado and Sobol indices are of the lead over it. It need not be the next
        one of `ranking`: that may be of the same way.

        If the verdict is to migrate, the best of today's transport, and else the best of all other
        transports; one that meets every need, if there is one, or else the one that misses the
        fewest.

        Raises
        ------
        ScenarioError
            Nothing but today's was judged.
        """
        best = self.best or self.closest
        moves = self.cases[best].scenario.transport != self.asked.scenario.transport
        others = [
            name
            for name, case in self.cases.items()
            if (case.scenario.transport != self.asked.scenario.transport) != moves
        ]
        others = others or [name for name in self.cases if name != best]
        if not others:
            rule = "must leave a candidate beside today's, to weigh it against"
            raise ScenarioError("candidates", list(self.left_out), rule)
        ranked = [name for name in self._order if name in others]
        measure = self.asked.needs.ranked_by

        def misses(name: str) -> tuple[int, float]:
            return len(self.fails(name)), float(np.mean(self.values[name][measure]))

        return ranked[0] if ranked else min(others, key=misses)

    @cached_property
    def sentences(self) -> list[Sentence]:
        """The verdict and its reasons; each number of them stands in a table."""
        found = [self._said_of_best(), *self._said_of_money()]
        found += self._said_of_others()
        return [*found, *(self._said_of_failure(name) for name in self.cases if self.fails(name))]

    def say(self, sentence: Sentence) -> str:
        """Return a sentence with its numbers."""
        return sentence.template.format(
            *(shown(self.number(cell), cell.kind) for cell in sentence.cells)
        )

    def number(self, cell: Cell) -> float:
        """Return the number in a cell."""
        table: Any = getattr(self, cell.table)
        return float(table.loc[cell.row, cell.column])

    @property
    def verdict(self) -> str:
        """What to do, in a sentence."""
        return self.say(self.sentences[0])

    @property
    def warnings(self) -> tuple[str, ...]:
        """What the calm runs warn of, one of each kind, with the candidates whose they are.

        With them is what a restart gives a candidate for nothing.
        """
        return tuple(
            f"{self.cases[name].label}: {line}"
            for name, lines in self._said.items()
            for line in lines
        )

    def _label(self, name: str) -> str:
        """What a template calls a candidate; braces of a name are no places for numbers."""
        return self.cases[name].label.replace("{", "{{").replace("}", "}}")

    def _cell(self, name: str, measure: str, column: str) -> Cell:
        return Cell("table", (name, measure), column, JUDGED[measure].kind)

    def _mean(self, name: str, measure: str) -> Cell:
        return self._cell(name, measure, "mean")

    def _said_of_best(self) -> Sentence:
        measure, kind = self.asked.needs.ranked_by, self.kind
        words = JUDGED[measure].label
        if kind == "none":
            name = self.closest
            return self._said_of_failure(
                name, head=f"No candidate meets every need; {self._label(name)} comes closest"
            )
        assert self.best is not None
        label, own = self._label(self.best), self._cell(self.best, measure, "mean")
        if kind == "stay":
            enough = "enough to be worth it" if self.asked.needs.worth_frac else "more than noise"
            template = (
                f"Do not migrate: {label} meets every need ({words}: {{}}), and no other candidate "
                f"that does is better by {enough}."
            )
            return Sentence(template, (own,))
        head = f"Move to {label}" if kind == "migrate" else f"Do not migrate, but go to {label}"
        # Of equals the first is taken, whose mean may be greater than that of another.
        but = "" if self._is_least(self.best) else ", but for noise"
        template = f"{head}: of those that meet every need it takes the least{but} ({words}: {{}}"
        return Sentence(f"{template}, today {{}}).", (own, self._cell(TODAY, measure, "mean")))

    def _said_of_money(self) -> list[Sentence]:
        """Which part of the money is the larger one, where money decides and both have a price."""
        best = self.best
        if best is None or JUDGED[self.asked.needs.ranked_by].kind != "money":
            return []
        parts = {"traffic_money_per_month": "traffic", "servers_money_per_month": "servers"}
        larger, smaller = sorted(parts, key=lambda part: -self.number(self._mean(best, part)))
        cells = [self._mean(best, part) for part in (larger, smaller)]
        if not self.number(cells[1]) > 0.0:
            return []
        template = (
            f"Most of its money a month is for {parts[larger]}: {{}}, and {{}} for {parts[smaller]}"
        )
        if best != TODAY:
            template += " (today {} and {})"
            cells += [self._mean(TODAY, part) for part in (larger, smaller)]
        return [Sentence(f"{template}.", tuple(cells))]

    def _said_of_others(self) -> list[Sentence]:
        """The tightest need, what comes next, the rival, and what a restart does."""
        found = []
        if self.best is not None:
            measure = self._tightest(self.best)
            cells = tuple(self._cell(self.best, measure, column) for column in ("mean", "limit"))
            words = JUDGED[measure].label
            template = f"Its tightest need is {words}: {{}}, where {{}} is allowed."
            found.append(Sentence(template, cells))
        if len(self._order) > 1:
            second, kind = self._order[1], JUDGED[self.asked.needs.ranked_by].kind
            more = self.number(Cell("ranking", second, "more", kind))
            is_plain = more <= 0.0 or kind == "count"  # means of whole numbers have no difference
            columns = ("mean",) if is_plain else ("mean", "more")
            tail = "." if is_plain else ", {} more."
            if more < 0.0:
                tail = ": less, but not by more than noise, which more replications make smaller."
            template = (
                f"Next of those that meet every need comes {self._label(second)} at {{}}{tail}"
            )
            cells = tuple(Cell("ranking", second, column, kind) for column in columns)
            found.append(Sentence(template, cells))
        if self.best is not None:
            found += [*self._said_of_rival(), *self._said_of_fallback(self.best)]
            found += [*self._said_of_stranded(self.best), *self._said_of_silence(self.best)]
        return found

    def _said_of_rival(self) -> list[Sentence]:
        """What the best is weighed against in break-evens, where that is not the next one."""
        measure = self.asked.needs.ranked_by
        if len(self.cases) < 2 or self.rival in self._order[1:2]:
            return []
        mean = self._cell(self.rival, measure, "mean")
        if not math.isfinite(self.number(mean)):
            return []
        own, today = self.cases[self.rival].scenario, self.asked.scenario
        way = "keep today's transport" if own.transport == today.transport else "change it"
        template = (
            f"Break-evens and the tornado weigh it against {self._label(self.rival)}, the best of "
            f"those that {way} ({JUDGED[measure].label}: {{}})."
        )
        return [Sentence(template, (mean,))]

    def _said_of_fallback(self, name: str) -> list[Sentence]:
        """How many a restart sends to polling, and for how long: they count as being back."""
        cells = [self._cell(name, one, "mean") for one in ("fell_back_frac", "pushed_again_s")]
        fell_back, again_s = map(self.number, cells)
        if not (fell_back > _FEW_FRAC and math.isfinite(again_s)):
            return []
        called = self.asked.needs.trouble.called
        since = "it began" if called == "restart" else "their server went"
        template = (
            f"A {called} sends {{}} of the clients of {self._label(name)} to polling, as stale as "
            f"polls are, and only {{}} after {since} are nearly all of them pushed to again."
        )
        return [Sentence(template, tuple(cells))]

    def _said_of_stranded(self, name: str) -> list[Sentence]:
        """That a restart leaves clients without a connection for good, though no need asks."""
        back = self._cell(name, "back_s", "mean")
        if not math.isinf(self.number(back)):
            return []
        template = (
            f"After a {self.asked.needs.trouble.called}, clients of {self._label(name)} stay "
            f"without a connection{self._why_stranded(name)}. The time until nearly all are back "
            'is given as "{}".'
        )
        return [Sentence(template, (back,))]

    def _why_stranded(self, name: str) -> str:
        """Why clients never come back, where it is a rule of their transport."""
        scenario = self.cases[name].scenario
        gives_up = is_stream(Transport[scenario.transport.upper()])
        if not gives_up or scenario.sse.retries_http_errors:
            return ""
        return ", as an error of HTTP ends EventSource for good (sse.retries_http_errors)"

    def _said_of_silence(self, name: str) -> list[Sentence]:
        """That those behind bad proxies see nothing of what is taken, and what that amounts to."""
        why, missed = self._why_silent(name), self._cell(name, "missed_frac", "mean")
        if not why or math.isnan(self.number(missed)):
            return []
        template = (
            f"In the run with a {self.asked.needs.trouble.called}, clients of {self._label(name)} "
            f"miss {{}} of the changes{why}."
        )
        return [Sentence(template, (missed,))]

    def _why_silent(self, name: str) -> str:
        """That a share of the clients hears nothing, where those of a stream never poll instead."""
        scenario = self.cases[name].scenario
        has_stream = is_stream(Transport[scenario.transport.upper()])
        if not self.asked.needs.trouble.bad_proxy_frac or not has_stream or scenario.fallback:
            return ""
        return "; those behind a bad proxy hear nothing at all, which EventSource does not notice"

    def _tightest(self, name: str) -> str:
        rows = self.table.loc[name]
        rows = rows[~rows["status"].isin(["not asked", "not run"])]
        # A limit of 0 leaves no room.
        used = (rows["high"] / rows["limit"]).fillna(1.0)
        return str(used.idxmax())

    def _said_of_failure(self, name: str, head: str = "") -> Sentence:
        measure = self.fails(name)[0]
        words, status = JUDGED[measure].label, self.table.loc[(name, measure), "status"]
        limit = self._cell(name, measure, "limit")
        if status == "not asked":  # it is ranked by that, and has no value
            other = self._tightest(name)
            cells = tuple(self._cell(name, other, column) for column in ("mean", "limit"))
            template = f"{self._label(name)}: no value of {words} to be ranked by, though "
            template += f"{JUDGED[other].label} is {{}}, where {{}} is needed."
            return Sentence(_capital(template), cells)
        head = head or self._label(name)
        if status == "no value":
            template = f"{head}: no value of {words}, where {{}} is needed."
            return Sentence(_capital(template), (limit,))
        mean, back = (self._cell(name, one, "mean") for one in (measure, "back_s"))
        if status == "unclear":
            high = self._cell(name, measure, "high")
            template = f"{head}: {words}, {{}} and perhaps {{}}, too close to the {{}} needed."
            return Sentence(_capital(template), (mean, high, limit))
        is_stranded = measure in _OF_RETURN and math.isinf(self.number(back))
        why = self._why_stranded(name) if is_stranded else ""
        if measure in _OF_SILENCE:
            why = why or self._why_silent(name)
        template = f"{head}: {words}, {{}} where {{}} is needed{why}."
        if JUDGED[measure].kind == "count":
            template = f"{head}: {words} {{}}, allowed {{}}."
        return Sentence(_capital(template), (mean, limit))

    # -- for readers -------------------------------------------------------------------------------

    @property
    def order(self) -> list[str]:
        """The candidates: those that meet every need as ranked, then those that fail the fewest."""
        failed = [name for name in self.cases if name not in self._order]
        return [*self._order, *sorted(failed, key=lambda name: len(self.fails(name)))]

    @property
    def about(self) -> str:
        """How it was judged, in a line."""
        asked = self.asked
        by = JUDGED[asked.needs.ranked_by].label
        said = f"one run of each, seed {asked.seed}, on the same changes, and so no interval"
        if asked.replications > 1:
            said = f"{asked.replications} replications of each, seed {asked.seed}, on the same "
            said += f"changes; means, a mark by the interval of {asked.confidence:.0%}"
        said += f"; ranked by {by}"
        for condition, words in (("rough", "run in trouble"), ("rollout", "rolled out")):
            lacking = sum(condition not in ran for ran in self._ran.values())
            if lacking and condition in asked.needs.conditions:
                said += f"; {lacking} of {len(self.cases)} were not {words}"
        if any(self.lacks(name) for name in self.cases):
            said += ": each fails a need without that, or takes more than one that meets them all"
        return said

    def __repr__(self) -> str:
        return f"<Decision {self.asked.scenario.name}: {self.verdict}>"

    def _repr_html_(self) -> str:
        said = "".join(f"<li>{html.escape(self.say(one))}</li>" for one in self.sentences[1:])
        left = "".join(
            f"<li>left out: {html.escape(name)} {html.escape(why)}</li>"
            for name, why in self.left_out.items()
        )
        return page(
            self.verdict,
            warnings_html(self.warnings),
            f"<ul>{said}</ul>",
            table_html(self.summary()),
            f"<p>{html.escape(self.about)}</p><ul>{left}</ul>",
        )

    def _repr_markdown_(self) -> str:
        lines = [f"**{self.verdict}**", ""]
        lines += [f"- ⚠ {line}" for line in self.warnings]
        lines += [f"- {self.say(one)}" for one in self.sentences[1:]]
        lines += ["", *_markdown(self.summary()), "", self.about, ""]
        return "\n".join([*lines, *(f"- left out: {n} {why}" for n, why in self.left_out.items())])


def _markdown(table: pd.DataFrame) -> list[str]:
    rows = [
        ["", *table.columns],
        *([name, *row] for name, row in zip(table.index, table.to_numpy(), strict=True)),
    ]
    lines = [f"| {' | '.join(map(str, row))} |" for row in rows]
    return [lines[0], f"|{'---|' * len(rows[0])}", *lines[1:]]


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def _status(interval: tuple[float, float, float], limit: float) -> str:
    mean, low, high = interval
    if math.isnan(limit):
        return "not asked"
    if math.isnan(mean):
        return "no value"
    if high <= limit:
        return "met"
    return "failed" if low > limit else "unclear"
