"""Argo's conditions: what an expression over ``result`` asks for, found by evaluating it.

A condition such as ``len(result) == 0 || result[0] <= 0.01`` is parsed once and evaluated on what a
provider may return: a number below, at and above each constant of the condition, NaN, and nothing.
From where it turns comes the limit, from the others what a check without a number or without data
counts as. What a provider returns has a shape: a condition that does not fit it is an error at each
measurement, as in Argo.

References
----------
Argo Rollouts, utils/evaluate/evaluate.go (``EvaluateResult``), docs/features/analysis.md;
expr-lang, docs/language-definition.md.
"""

from __future__ import annotations

import ast
import itertools
import math
import operator
import re
from collections.abc import Callable, Iterable
from typing import Any, Literal, NamedTuple

from simlib.monitoring.promql import is_scalar

Phase = Literal["pass", "fail", "inconclusive", "hold"]
Shape = Literal["vector", "number", "series", "row"]
"""What a provider returns: numbers, of which the first counts; one number; lists of values, as of
CloudWatch; a row with names, as of New Relic."""

_LONGEST = 500
_WORDS = (
    (re.compile(r"\|\|"), " or "),
    (re.compile(r"&&"), " and "),
    (re.compile(r"!(?!=)"), " not "),
    (re.compile(r"\bnil\b"), "None"),
    (re.compile(r"\btrue\b"), "True"),
    (re.compile(r"\bfalse\b"), "False"),
    (re.compile(r"#"), "_item"),
    (re.compile(r"\{"), "("),
    (re.compile(r"\}"), ")"),
)
_COMPARED: dict[type[ast.cmpop], Callable[[Any, Any], bool]] = {
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
}


class Erred(Exception):
    """A condition cannot be evaluated on a result."""


class Threshold(NamedTuple):
    """Up to where, or from where on, a condition is true."""

    sign: str
    limit: float


class Condition:
    """An expression over ``result``.

    Parameters
    ----------
    text : str

    Raises
    ------
    ValueError
        It is none, or has something that is not known here.

    Examples
    --------
    >>> guarded = Condition("len(result) == 0 || result[0] <= 0.01")
    >>> guarded.threshold("vector"), guarded.threshold("number")
    (Threshold(sign='<=', limit=0.01), None)
    >>> guarded.holds([]), guarded.holds([math.nan])
    (True, False)
    """

    def __init__(self, text: str) -> None:
        if len(text) > _LONGEST:
            raise ValueError(f"it has more than {_LONGEST} characters")
        if not text.strip():
            raise ValueError("it is no expression")
        for sign, word in _WORDS:
            text = sign.sub(word, text)
        try:
            self._tree = ast.parse(f"({text.strip()})", mode="eval").body
        except (SyntaxError, ValueError, MemoryError, RecursionError):
            raise ValueError("it is no expression") from None
        nodes = list(ast.walk(self._tree))
        try:
            numbers = {float(each) for each in map(_number, nodes) if each is not None}
        except OverflowError:
            raise ValueError("it has a number that is too large") from None
        # Each may have a minus before it.
        self._constants = sorted(numbers | {-number for number in numbers})

    def holds(self, result: Any) -> bool:
        """Say whether it is true of a result.

        Raises
        ------
        Erred
            It cannot be evaluated on it.
        """
        found = _value(self._tree, {"result": result})
        if not isinstance(found, bool):
            raise Erred("it is neither true nor false")
        return found

    def threshold(self, shape: Shape) -> Threshold | None:
        """Return where it turns as a number grows; None if it cannot be evaluated on such results.

        Raises
        ------
        ValueError
            It turns never, or more than once.
        """
        edges = self._constants or [0.0]
        middles = [(low + high) / 2.0 for low, high in itertools.pairwise(edges)]
        ends = edges[0] - abs(edges[0]) - 1.0, edges[-1] + abs(edges[-1]) + 1.0
        points = sorted({*ends, *edges, *middles})
        try:
            said = [self.holds(result_of(shape, point)) for point in points]
        except Erred:
            return None
        turns = [n for n in range(1, len(said)) if said[n] != said[n - 1]]
        if len(turns) != 1:
            raise ValueError("it is not true up to one number, or from one on")
        [turn] = turns
        is_upper = said[0]
        # It turns at a constant: that is the last point before the turn, or the first after it.
        is_before = points[turn - 1] in edges
        limit = points[turn - 1] if is_before else points[turn]
        if is_before and points[turn] in edges:
            raise ValueError("it is not true up to one number, or from one on")
        is_reached = said[turn - 1] if is_before else said[turn]
        sign = ("<" if is_upper else ">") + ("=" if is_reached else "")
        return Threshold(sign, limit)


def phase(passes: Condition | None, fails: Condition | None, result: Any) -> Phase:
    """Return what a measurement counts as, by Argo's rule; hold: an error.

    Examples
    --------
    >>> below = Condition("result[0] < 5")
    >>> [phase(below, None, result) for result in ([4], [5], [math.nan], [])]
    ['pass', 'fail', 'fail', 'hold']
    >>> [phase(None, Condition("result[0] >= 5"), result) for result in ([5], [math.nan])]
    ['fail', 'pass']
    """
    try:
        does_pass = None if passes is None else passes.holds(result)
        does_fail = None if fails is None else fails.holds(result)
    except Erred:
        return "hold"
    if does_fail or (does_fail is None and not does_pass):
        return "fail"
    return "pass" if does_pass or does_pass is None else "inconclusive"


def shape_of(provider: str, query: str) -> Shape | None:
    """Return what a provider returns; None where that is not known.

    Examples
    --------
    >>> shape_of("prometheus", "up"), shape_of("prometheus", "scalar(up)"), shape_of("web", "")
    ('vector', 'number', None)
    """
    if provider == "prometheus":
        if "{{" in query:  # an argument is filled in later
            return None
        return "number" if is_scalar(query) else "vector"
    return {
        "datadog": "number",
        "wavefront": "number",
        "graphite": "vector",
        "influxdb": "vector",
        "cloudWatch": "series",
        "newRelic": "row",
    }.get(provider)  # type: ignore[return-value]


def result_of(shape: Shape, value: float | None) -> Any:
    """Return a provider's result with a value, or with none."""
    values = [] if value is None else [value]
    if shape == "vector":
        return values
    if shape == "series":
        return [_Row({"Values": values})]
    return _Row(value) if shape == "row" and value is not None else value


class _Row:
    """Something with names: of each, what is given, or the one value that there is."""

    def __init__(self, held: Any) -> None:
        self.held = held

    def named(self, name: str) -> Any:
        if not isinstance(self.held, dict):
            return self.held
        if name not in self.held:
            raise Erred(f"it has no {name}")
        return self.held[name]


def _number(node: ast.AST) -> int | float | None:
    value = node.value if isinstance(node, ast.Constant) else None
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return value if is_number else None  # type: ignore[return-value]


def _value(node: ast.expr, names: dict[str, Any]) -> Any:
    """Evaluate an expression."""
    if isinstance(node, ast.Constant):
        return node.value
    if isinstance(node, ast.Name) and node.id in names:
        return names[node.id]
    if isinstance(node, ast.BoolOp):
        return _either(node, names)
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
        return not _boolean(_value(node.operand, names))
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        return -_numbers(_value(node.operand, names))[0]
    if isinstance(node, ast.Compare):
        return _compared(node, names)
    if isinstance(node, ast.Subscript):
        return _item(_value(node.value, names), _value(node.slice, names))
    if isinstance(node, ast.Attribute):
        held = _value(node.value, names)
        if isinstance(held, _Row):
            return held.named(node.attr)
        raise Erred("it has no names")
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and not node.keywords:
        return _called(node.func.id, node.args, names)
    raise Erred("it is not known here")


def _either(node: ast.BoolOp, names: dict[str, Any]) -> bool:
    is_or = isinstance(node.op, ast.Or)
    for part in node.values:
        if _boolean(_value(part, names)) == is_or:
            return is_or
    return not is_or


def _compared(node: ast.Compare, names: dict[str, Any]) -> bool:
    left = _value(node.left, names)
    for sign, part in zip(node.ops, node.comparators, strict=True):
        right = _value(part, names)
        compare = _COMPARED.get(type(sign))
        if compare is None:
            raise Erred("it is not known here")
        if not isinstance(sign, ast.Eq | ast.NotEq):
            _numbers(left, right)
        if not compare(left, right):
            return False
        left = right
    return True


def _boolean(value: Any) -> bool:
    if not isinstance(value, bool):
        raise Erred("it is neither true nor false")
    return value


def _numbers(*values: Any) -> tuple[Any, ...]:
    for value in values:
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise Erred("it is no number")
    return values


def _item(of: Any, number: Any) -> Any:
    if not isinstance(of, list) or not isinstance(number, int) or not 0 <= number < len(of):
        raise Erred("it is out of range")
    return of[number]


def _called(name: str, given: list[ast.expr], names: dict[str, Any]) -> Any:
    """Evaluate a function of expr-lang, or of Argo's own."""
    if name in ("all", "any") and len(given) == 2:
        of = _value(given[0], names)
        if not isinstance(of, list):
            raise Erred("it is no list")
        parts: Iterable[bool] = (_boolean(_value(given[1], {**names, "_item": one})) for one in of)
        return all(parts) if name == "all" else any(parts)
    if name == "default" and len(given) == 2:
        _value(given[0], names)
        # Argo looks at the whole result here, whatever the first argument is.
        return _value(given[1], names) if names["result"] is None else names["result"]
    if len(given) != 1:
        raise Erred("it is not known here")
    value = _value(given[0], names)
    if name == "len" and isinstance(value, list):
        return len(value)
    if name == "isNil":
        return value is None
    if name in ("asFloat", "float"):
        return _numbers(value)[0]
    if name in ("asInt", "int"):
        number = _numbers(value)[0]
        return math.trunc(number) if math.isfinite(number) else number
    if name in ("isNaN", "isInf"):
        return {"isNaN": math.isnan, "isInf": math.isinf}[name](_numbers(value)[0])
    raise Erred("it is not known here")
