"""PromQL: a part of Prometheus' language, evaluated on series as Prometheus does, to the last bit.

The text is parsed by promql-parser, which is the grammar of Prometheus in Rust. Evaluated are
selectors with ranges and offsets, the functions of `FUNCTIONS` and of `OVER_TIME`, `sum`, `avg`,
`min`, `max` and `count` with `by` and `without`, arithmetic, comparisons, `and`, `or` and `unless`
between vectors of the same labels, and with `on` and `ignoring` of one to one. Anything else is
refused by its name.

An answer is a number, or a vector: values by their labels. A vector without a value is *empty*,
which is something else than NaN: what has never been counted is empty, 0 / 0 is NaN.

References
----------
Prometheus 2.42, promql/engine.go, promql/functions.go (``extrapolatedRate``, ``instantValue``),
promql/quantile.go (``bucketQuantile``); prometheus.io, Querying basics and Functions.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Mapping
from datetime import timedelta
from functools import cache
from typing import Any, NamedTuple

from simlib.errors import ScenarioError
from simlib.monitoring.series import Labels, Series, Store, matches

Vector = dict[Labels, float]
Answer = float | Vector
_NAME = "__name__"
_SIGNS: dict[str, Callable[[float, float], Any]] = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
    "==": operator.eq,
    "!=": operator.ne,
    ">": operator.gt,
    "<": operator.lt,
    ">=": operator.ge,
    "<=": operator.le,
}
_COMPARISONS = ("==", "!=", ">", "<", ">=", "<=")
_SETS = ("and", "or", "unless")


def evaluate(text: str, store: Store, t_s: float) -> Answer:
    """Return what an expression is at a time.

    Parameters
    ----------
    text : str
        PromQL.
    store : Store
    t_s : float
        Seconds, to the millisecond.

    Returns
    -------
    float or dict of labels to float

    Raises
    ------
    ScenarioError
        It is no PromQL, or not of the part that is evaluated here.

    Examples
    --------
    >>> store = Store()
    >>> for t_s in range(0, 75, 15):
    ...     store.add("polls_total", {}, 1000 * t_s, 2.0 * t_s)
    >>> evaluate("sum(rate(polls_total[1m]))", store, 60)
    {(): 2.0}
    >>> evaluate("errors_total / polls_total", store, 60)
    {}
    """
    return _Evaluation(store, round(t_s * 1000.0), text).value(parsed(text))


@cache
def parsed(text: str) -> Any:
    """Return an expression's tree; raise `ScenarioError` if it is none."""
    import promql_parser

    try:
        return promql_parser.parse(text)
    except ValueError as error:
        raise ScenarioError("query", text, f"must be PromQL ({error})") from None


def is_scalar(text: str) -> bool:
    """Say whether an expression is a number rather than a vector; no if it is no expression.

    Examples
    --------
    >>> is_scalar("100 * scalar(up)"), is_scalar("scalar(up) * up"), is_scalar("up{")
    (True, False, False)
    """
    try:
        return _is_scalar(parsed(text))
    except ScenarioError:
        return False


def _is_scalar(node: Any) -> bool:
    kind = type(node).__name__
    if kind == "Call":
        return node.func.name in ("scalar", "time", "pi")
    if kind == "BinaryExpr":
        return _is_scalar(node.lhs) and _is_scalar(node.rhs)
    if kind in ("ParenExpr", "UnaryExpr"):
        return _is_scalar(node.expr)
    return kind == "NumberLiteral"


def only(answer: Answer) -> float | None:
    """Return an answer's one value: NaN if it is no number, None if it is empty.

    Of several values the last counts, as Flagger has it.

    Examples
    --------
    >>> only({}), only({(("a", "1"),): 2.0}), only(3.0)
    (None, 2.0, 3.0)
    """
    if isinstance(answer, dict):
        return list(answer.values())[-1] if answer else None
    return answer


class _Evaluation:
    """An evaluation at one time."""

    def __init__(self, store: Store, t_ms: int, text: str) -> None:
        self._store, self._t_ms, self._text = store, t_ms, text

    def refused(self, what: str) -> ScenarioError:
        """Return the error of what is not evaluated here."""
        return ScenarioError("query", self._text, f"must do without {what}: see monitoring.promql")

    def value(self, node: Any) -> Answer:
        """Return what a node of the tree is."""
        kind = type(node).__name__
        evaluate = getattr(self, f"_{kind}", None)
        if evaluate is None:
            raise self.refused(f"a {kind}")
        answer: Answer = evaluate(node)
        return answer

    # -- the kinds of nodes, by their names in promql-parser ---------------------------------------

    def _NumberLiteral(self, node: Any) -> float:
        return float(node.val)

    def _ParenExpr(self, node: Any) -> Answer:
        return self.value(node.expr)

    def _UnaryExpr(self, node: Any) -> Answer:
        answer = self.value(node.expr)
        if isinstance(answer, dict):
            return {_unnamed(labels): -value for labels, value in answer.items()}
        return -answer

    def _VectorSelector(self, node: Any) -> Vector:
        found: Vector = {}
        for series, t_ms in self._selected(node):
            sample = series.at(t_ms)
            if sample is not None and sample.value is not None:
                found[series.labels] = sample.value
        return found

    def _Call(self, node: Any) -> Answer:
        name = node.func.name
        if name in OVER_TIME:
            return self._over_time(OVER_TIME[name], node.args[0])
        if name not in FUNCTIONS:
            raise self.refused(name)
        return FUNCTIONS[name](self, *node.args)

    def _AggregateExpr(self, node: Any) -> Vector:
        name = str(node.op)
        if name not in _AGGREGATES:
            raise self.refused(name)
        answer = self.value(node.expr)
        if not isinstance(answer, dict):
            raise self.refused(f"{name} of a number")
        groups: dict[Labels, list[float]] = {}
        for labels, value in answer.items():
            groups.setdefault(_grouped(labels, node.modifier), []).append(value)
        return {labels: _AGGREGATES[name](values) for labels, values in groups.items()}

    def _BinaryExpr(self, node: Any) -> Answer:
        sign = str(node.op)
        left, right = self.value(node.lhs), self.value(node.rhs)
        keeps = sign in _COMPARISONS and not (node.modifier and node.modifier.return_bool)
        if sign in _SETS:
            if not isinstance(left, dict) or not isinstance(right, dict):
                raise self.refused(f"{sign} of a number")
            return self._set(sign, left, right, node.modifier)
        if not isinstance(left, dict) and not isinstance(right, dict):
            if keeps:
                raise self.refused(f"{sign} of two numbers without bool")
            return float(_computed(sign, left, right))
        return self._between(sign, left, right, node.modifier, keeps=keeps)

    # -- vectors -----------------------------------------------------------------------------------

    def _selected(self, node: Any) -> list[tuple[Series, int]]:
        """Return the series of a selector, and the time at which they are looked at."""
        if node.at is not None:
            raise self.refused("@")
        asked = [
            (one.name, _OPERATORS[str(one.op).rpartition(".")[2]], one.value)
            for one in node.matchers.matchers
        ]
        t_ms = self._t_ms - _ms(node.offset)
        return [
            (series, t_ms)
            for series in self._store.named(node.name)
            if matches(series.labels, asked)
        ]

    def _over_time(self, compute: Callable[[_Range], float | None], node: Any) -> Vector:
        """Return what a function makes of each series' samples in a range."""
        if type(node).__name__ != "MatrixSelector":
            raise self.refused("a subquery")
        found: Vector = {}
        for series, t_ms in self._selected(node.vector_selector):
            from_ms = t_ms - _ms(node.range)
            samples = series.between(from_ms, t_ms)
            value = compute(_Range(samples, from_ms, t_ms)) if samples else None
            if value is not None:
                keeps = compute is OVER_TIME["last_over_time"]
                found[series.labels if keeps else _unnamed(series.labels)] = value
        return found

    def _set(self, sign: str, left: Vector, right: Vector, modifier: Any) -> Vector:
        in_left = {_signature(labels, modifier) for labels in left}
        in_right = {_signature(labels, modifier) for labels in right}
        if sign == "or":
            added = {k: v for k, v in right.items() if _signature(k, modifier) not in in_left}
            return {**left, **added}
        wanted = sign == "and"
        return {k: v for k, v in left.items() if (_signature(k, modifier) in in_right) == wanted}

    def _between(
        self, sign: str, left: Answer, right: Answer, modifier: Any, *, keeps: bool
    ) -> Vector:
        """Return arithmetic or a comparison of which one side is a vector, or both are."""
        is_comparison = sign in _COMPARISONS
        found: Vector = {}
        for labels, one, other in self._pairs(left, right, modifier):
            value = _computed(sign, one, other)
            if is_comparison and keeps:
                if value:
                    kept = _kept(labels, modifier) if isinstance(right, dict) else labels
                    found[kept] = one if isinstance(left, dict) else other
                continue
            key = labels
            if isinstance(left, dict) and isinstance(right, dict):
                key = _signature(labels, modifier)
            found[_unnamed(key)] = float(value)
        return found

    def _pairs(
        self, left: Answer, right: Answer, modifier: Any
    ) -> list[tuple[Labels, float, float]]:
        if not isinstance(right, dict):
            assert isinstance(left, dict)
            return [(labels, value, right) for labels, value in left.items()]
        if not isinstance(left, dict):
            return [(labels, left, value) for labels, value in right.items()]
        if modifier is not None and "OneToOne" not in str(modifier.card):
            raise self.refused("group_left and group_right")
        by_key: dict[Labels, float] = {}
        for labels, value in right.items():
            key = _signature(labels, modifier)
            if key in by_key:
                raise ScenarioError("query", self._text, "must match one series with one")
            by_key[key] = value
        keys = [_signature(labels, modifier) for labels in left]
        found = [
            (labels, value, by_key[key])
            for key, (labels, value) in zip(keys, left.items(), strict=True)
            if key in by_key
        ]
        if len(set(keys)) < len(keys) and found:
            raise ScenarioError("query", self._text, "must match one series with one")
        return found


_OPERATORS = {"Equal": "=", "NotEqual": "!=", "Re": "=~", "NotRe": "!~"}


def _ms(length: timedelta | None) -> int:
    return 0 if length is None else round(length / timedelta(milliseconds=1))


def _unnamed(labels: Labels) -> Labels:
    return tuple(pair for pair in labels if pair[0] != _NAME)


def _signature(labels: Labels, modifier: Any) -> Labels:
    """Return the labels by which two sides of an operator are matched."""
    matching = modifier.matching if modifier is not None else None
    if matching is None:
        return _unnamed(labels)
    named = set(matching.labels)
    is_on = str(matching).startswith("on")
    return tuple(pair for pair in _unnamed(labels) if (pair[0] in named) == is_on)


def _kept(labels: Labels, modifier: Any) -> Labels:
    """Return the labels that a comparison leaves of its left side."""
    matching = modifier.matching if modifier is not None else None
    if matching is None:
        return labels
    named, is_on = set(matching.labels), str(matching).startswith("on")
    return tuple(pair for pair in labels if (pair[0] in named) == is_on)


def _grouped(labels: Labels, modifier: Any) -> Labels:
    if modifier is None:
        return ()
    named = set(modifier.labels)
    is_by = str(modifier).startswith("by")
    return tuple(pair for pair in _unnamed(labels) if (pair[0] in named) == is_by)


def _computed(sign: str, one: float, other: float) -> Any:
    if sign == "/":
        return _divided(one, other)
    if sign == "%":
        return math.fmod(one, other) if other and math.isfinite(one) else math.nan
    if sign == "^":
        return _power(one, other)
    if sign not in _SIGNS:
        raise ScenarioError("query", sign, f"must be one of {', '.join(_SIGNS)}, /, %, ^")
    return _SIGNS[sign](one, other)


def _divided(one: float, other: float) -> float:
    if other != 0.0:
        return one / other
    if one == 0.0 or math.isnan(one):
        return math.nan
    return math.copysign(math.inf, one) * math.copysign(1.0, other)


def _power(one: float, other: float) -> float:
    try:
        return math.pow(one, other)
    except ValueError:
        return math.nan
    except OverflowError:
        return math.inf


def _mean(values: list[float]) -> float:
    mean = values[0]
    for count, value in enumerate(values[1:], start=2):
        if math.isinf(mean) and not math.isnan(value) and (math.isfinite(value) or value == mean):
            continue
        mean += value / count - mean / count
    return mean


def _least(values: list[float]) -> float:
    found = values[0]
    for value in values[1:]:
        found = value if value < found or math.isnan(found) else found
    return found


def _most(values: list[float]) -> float:
    found = values[0]
    for value in values[1:]:
        found = value if value > found or math.isnan(found) else found
    return found


def _plain_sum(values: list[float]) -> float:
    total = values[0]
    for value in values[1:]:
        total += value
    return total


_AGGREGATES: Mapping[str, Callable[[list[float]], float]] = {
    "sum": _plain_sum,
    "avg": _mean,
    "min": _least,
    "max": _most,
    "count": lambda values: float(len(values)),
}


# -- functions of a range --------------------------------------------------------------------------


class _Range(NamedTuple):
    """A series' samples within a range."""

    samples: list[tuple[int, float]]
    from_ms: int
    to_ms: int

    @property
    def values(self) -> list[float]:
        return [value for _, value in self.samples]


def _extrapolated(of: _Range, *, is_counter: bool, is_rate: bool) -> float | None:
    """Return a growth that is extrapolated to the ends of its range, where samples come near."""
    samples = of.samples
    if len(samples) < 2:
        return None
    (first_ms, first), (last_ms, last) = samples[0], samples[-1]
    growth = last - first
    if is_counter:
        before = 0.0
        for _, value in samples:
            if value < before:
                growth += before
            before = value
    to_start_s, to_end_s = (first_ms - of.from_ms) / 1000.0, (of.to_ms - last_ms) / 1000.0
    sampled_s = (last_ms - first_ms) / 1000.0
    between_s = sampled_s / (len(samples) - 1)
    if is_counter and growth > 0.0 and first >= 0.0:
        to_start_s = min(to_start_s, sampled_s * (first / growth))  # it began at 0, at the earliest
    near_s, whole_s = between_s * 1.1, sampled_s
    whole_s += to_start_s if to_start_s < near_s else between_s / 2.0
    whole_s += to_end_s if to_end_s < near_s else between_s / 2.0
    factor = whole_s / sampled_s
    if is_rate:
        factor /= (of.to_ms - of.from_ms) / 1000.0
    return growth * factor


def _instant_rate(of: _Range) -> float | None:
    if len(of.samples) < 2:
        return None
    (before_ms, before), (last_ms, last) = of.samples[-2:]
    growth = last if last < before else last - before
    return growth / ((last_ms - before_ms) / 1000.0) if last_ms > before_ms else None


def _compensated(values: list[float]) -> float:
    """Return a sum with Kahan's compensation, as Neumaier has it."""
    total = rest = 0.0
    for value in values:
        total, rest = _added(value, total, rest)
    return total if math.isinf(total) else total + rest


def _added(value: float, total: float, rest: float) -> tuple[float, float]:
    new = total + value
    if abs(total) >= abs(value):
        return new, rest + ((total - new) + value)
    return new, rest + ((value - new) + total)


def _mean_over_time(of: _Range) -> float:
    mean = rest = 0.0
    for count, value in enumerate(of.values, start=1):
        if math.isinf(mean):
            if math.isinf(value) and (mean > 0) == (value > 0):
                continue
            if not math.isinf(value) and not math.isnan(value):
                continue
        mean, rest = _added(value / count - mean / count, mean, rest)
    return mean if math.isinf(mean) else mean + rest


OVER_TIME: Mapping[str, Callable[[_Range], float | None]] = {
    "rate": lambda of: _extrapolated(of, is_counter=True, is_rate=True),
    "increase": lambda of: _extrapolated(of, is_counter=True, is_rate=False),
    "delta": lambda of: _extrapolated(of, is_counter=False, is_rate=False),
    "irate": _instant_rate,
    "avg_over_time": _mean_over_time,
    "sum_over_time": lambda of: _compensated(of.values),
    "min_over_time": lambda of: _least(of.values),
    "max_over_time": lambda of: _most(of.values),
    "count_over_time": lambda of: float(len(of.samples)),
    "last_over_time": lambda of: of.values[-1],
    "resets": lambda of: float(sum(b < a for a, b in zip(of.values, of.values[1:], strict=False))),
    "changes": lambda of: float(
        sum(
            a != b and not (math.isnan(a) and math.isnan(b))
            for a, b in zip(of.values, of.values[1:], strict=False)
        )
    ),
}
"""The functions of a range, by their names."""


# -- the other functions ---------------------------------------------------------------------------


def _quantile(evaluation: _Evaluation, level: Any, of: Any) -> Vector:
    """Return ``histogram_quantile``: of each histogram, by its labels without ``le``."""
    q, buckets = evaluation.value(level), evaluation.value(of)
    if isinstance(q, dict) or not isinstance(buckets, dict):
        raise evaluation.refused("histogram_quantile of this")
    histograms: dict[Labels, list[tuple[float, float]]] = {}
    for labels, count in buckets.items():
        edge = _number(dict(labels).get("le", ""))
        if edge is None:
            continue
        rest = tuple(pair for pair in _unnamed(labels) if pair[0] != "le")
        histograms.setdefault(rest, []).append((edge, count))
    return {labels: bucket_quantile(q, parts) for labels, parts in histograms.items()}


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def bucket_quantile(q: float, buckets: list[tuple[float, float]]) -> float:
    """Return a quantile of a histogram of cumulative buckets, as Prometheus estimates it.

    Parameters
    ----------
    q : float
    buckets : list of (float, float)
        Upper edges and counts up to them; one edge has to be infinite.

    Examples
    --------
    >>> edges = [0.5, 1.0, float("inf")]
    >>> bucket_quantile(0.5, list(zip(edges, [0.0, 10.0, 10.0])))
    0.75
    >>> bucket_quantile(0.95, list(zip(edges, [0.0, 2.0, 10.0])))
    1.0
    """
    if math.isnan(q):
        return math.nan
    if q < 0.0 or q > 1.0:
        return math.copysign(math.inf, q)
    merged = _merged(sorted(buckets))
    if len(merged) < 2 or merged[-1][0] != math.inf:
        return math.nan
    observations = merged[-1][1]
    if observations == 0.0 or math.isnan(observations):
        return math.nan
    rank = q * observations
    place = next((n for n, (_, count) in enumerate(merged[:-1]) if count >= rank), len(merged) - 1)
    if place == len(merged) - 1:
        return merged[-2][0]
    end, count = merged[place]
    if place == 0 and end <= 0.0:
        return end
    start = 0.0
    if place > 0:
        start, before = merged[place - 1]
        count -= before
        rank -= before
    return start + (end - start) * (rank / count)


def _merged(buckets: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """Return buckets of which no two have one edge, and none counts less than the one before."""
    found: list[tuple[float, float]] = []
    for edge, count in buckets:
        if found and found[-1][0] == edge:
            found[-1] = edge, found[-1][1] + count
        else:
            found.append((edge, count))
    most = found[0][1] if found else 0.0
    for place, (edge, count) in enumerate(found):
        if count > most:
            most = count
        elif count < most:
            found[place] = edge, most
    return found


def _of_each(compute: Callable[..., float]) -> Callable[..., Vector]:
    """Return a function that computes each value of a vector with some numbers."""

    def applied(evaluation: _Evaluation, of: Any, *given: Any) -> Vector:
        answer = evaluation.value(of)
        numbers = [evaluation.value(one) for one in given]
        if not isinstance(answer, dict) or any(isinstance(one, dict) for one in numbers):
            raise evaluation.refused("this function of this")
        return {_unnamed(labels): compute(value, *numbers) for labels, value in answer.items()}

    return applied


def _scalar(evaluation: _Evaluation, of: Any) -> float:
    answer = evaluation.value(of)
    if not isinstance(answer, dict):
        raise evaluation.refused("scalar of a number")
    return next(iter(answer.values())) if len(answer) == 1 else math.nan


def _vector(evaluation: _Evaluation, of: Any) -> Vector:
    answer = evaluation.value(of)
    if isinstance(answer, dict):
        raise evaluation.refused("vector of a vector")
    return {(): answer}


def _absent(evaluation: _Evaluation, of: Any) -> Vector:
    answer = evaluation.value(of)
    if not isinstance(answer, dict):
        raise evaluation.refused("absent of a number")
    if answer:
        return {}
    asked = of.matchers.matchers if type(of).__name__ == "VectorSelector" else ()
    equal = [(one.name, one.value) for one in asked if str(one.op).endswith(".Equal")]
    names = [name for name, _ in equal]
    return {tuple(sorted(pair for pair in equal if names.count(pair[0]) == 1)): 1.0}


def _clamped(value: float, low: float, high: float) -> float:
    if math.isnan(value) or math.isnan(low) or math.isnan(high):
        return math.nan
    return max(low, min(high, value))


FUNCTIONS: Mapping[str, Callable[..., Answer]] = {
    "histogram_quantile": _quantile,
    "clamp_min": _of_each(lambda value, low: _clamped(value, low, math.inf)),
    "clamp_max": _of_each(lambda value, high: _clamped(value, -math.inf, high)),
    "abs": _of_each(abs),
    "scalar": _scalar,
    "vector": _vector,
    "absent": _absent,
}
"""The functions of vectors and numbers, by their names."""
