"""Argo's conditions: where they turn, and what they make of no number and of no data."""

from __future__ import annotations

import math

import pytest

from simlib.rollout.formats.conditions import Condition, phase, result_of, shape_of


@pytest.mark.parametrize(
    ("text", "sign", "limit"),
    [
        ("result[0] <= 0.95", "<=", 0.95),
        ("0.95 > result[0]", "<", 0.95),
        ("!(result[0] >= 3)", "<", 3.0),
        ("result[0] > -2.5", ">", -2.5),
        ("len(result) == 0 || result[0] <= 0.01", "<=", 0.01),
        ("len(result) > 0 && result[0] >= 0.99", ">=", 0.99),
        ("isNaN(result[0]) || result[0] < 5", "<", 5.0),
        ("all(result, {# < 0.5})", "<", 0.5),
        ("any(result, # > 1e3)", ">", 1000.0),
        ("asFloat(result[0]) >= 1e-07", ">=", 1e-7),
        ("result[0] < 5 && result[0] <= 7", "<", 5.0),
        ("result[0] <= 1e308", "<=", 1e308),
        ("result[0] >= 1 and result[0] >= 0", ">=", 1.0),
    ],
)
def test_a_condition_turns_at_one_number(text, sign, limit):
    assert Condition(text).threshold("vector") == (sign, limit)


@pytest.mark.parametrize(
    "text",
    [
        "result[0] == 5",
        "result[0] > 1 && result[0] < 2",
        "true",
        "len(result) >= 0",
        "result[0] != 5",
    ],
)
def test_a_condition_that_does_not_turn_once_has_no_threshold(text):
    with pytest.raises(ValueError, match="not true up to one number"):
        Condition(text).threshold("vector")


@pytest.mark.parametrize(
    ("text", "shape"),
    [
        ("result < 5", "vector"),  # a list is no number
        ("result[0] < 5", "number"),
        ("default(result[0], 0) < 5", "vector"),  # Argo's default is of the whole result
        ("result[0] < 5", "series"),  # CloudWatch: a list of results, which have values
        ("result[0].Values[0] < 5", "vector"),
        ("result[1] < 5", "vector"),
        ('result[0] < "5"', "vector"),
        ("result[0]", "vector"),
        ("len(result[0]) < 5", "vector"),
        ("exec(result)", "vector"),
        ("result.__class__", "row"),
    ],
)
def test_a_condition_that_does_not_fit_what_is_returned_errs(text, shape):
    assert Condition(text).threshold(shape) is None
    assert phase(Condition(text), None, result_of(shape, 1.0)) == "hold"


def test_what_a_provider_returns_has_its_shape():
    assert Condition("result[0].Values[0] < 5").threshold("series") == ("<", 5.0)
    assert Condition("result.errors <= 3").threshold("row") == ("<=", 3.0)
    assert Condition("result < 0.02").threshold(shape_of("datadog", "")) == ("<", 0.02)
    assert Condition("default(result, 0) < 0.02").threshold("number") == ("<", 0.02)
    assert Condition("default(result, 0) < 0.02").holds(None)
    assert Condition("asInt(result[0]) <= 5").holds([5.9])
    assert shape_of("skywalking", "") is None
    queries = {"100 * scalar(up)": "number", "scalar(up) * up": "vector", "{{args.q}}": None}
    assert {query: shape_of("prometheus", query) for query in queries} == queries


def test_a_number_that_no_machine_has_is_refused():
    with pytest.raises(ValueError, match="a number that is too large"):
        Condition("result[0] < 1" + "0" * 400)


@pytest.mark.parametrize(
    "text", ["", "result[0] <", "a b", "(" * 5000, "x" * 501, "result[0] < 5;"]
)
def test_what_is_no_expression_is_refused(text):
    with pytest.raises(ValueError, match=r"it is no expression|more than 500"):
        Condition(text)


@pytest.mark.parametrize(
    ("passes", "fails", "number", "nan", "empty"),
    [
        # Argo's table: with a successCondition alone NaN fails, with a failureCondition alone it
        # passes, with both it is inconclusive; an empty answer is an error in all three.
        ("result[0] < 5", None, "pass", "fail", "hold"),
        (None, "result[0] >= 5", "pass", "pass", "hold"),
        ("result[0] < 5", "result[0] >= 9", "pass", "inconclusive", "hold"),
        ("len(result) == 0 || result[0] < 5", None, "pass", "fail", "pass"),
        ("len(result) > 0 && result[0] < 5", None, "pass", "fail", "fail"),
        ("isNaN(result[0]) || result[0] < 5", None, "pass", "pass", "hold"),
        (
            "len(result) > 0 &&\n  !isNaN(result[0]) &&\n  result[0] < 5",
            None,
            "pass",
            "fail",
            "fail",
        ),
        ("isNil(result) || result[0] < 5", None, "pass", "fail", "hold"),
    ],
)
def test_no_number_and_no_data_count_as_argo_has_it(passes, fails, number, nan, empty):
    conditions = [None if text is None else Condition(text) for text in (passes, fails)]
    results = [result_of("vector", value) for value in (1.0, math.nan, None)]
    assert [phase(*conditions, result) for result in results] == [number, nan, empty]
