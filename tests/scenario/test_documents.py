"""Documents that others wrote: what is read of them, and what is refused in words."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from simlib.errors import ScenarioError
from simlib.scenario.documents import (
    ForeignMapping,
    go_seconds,
    go_text,
    parsed,
    read_documents,
    to_yaml,
)
from simlib.scenario.reading import MOST_BYTES

LAUGHS = "a0: &a0 {x: 1}\n" + "".join(
    f"a{i}: &a{i} {{<<: [{', '.join([f'*a{i - 1}'] * 9)}]}}\n" for i in range(1, 12)
)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a: 1\nb: 2\na: 3\n", "the key 'a' is there twice"),
        ("a: {b: 1, b: 1}\n", "the key 'b' is there twice"),
        ("a: [\n", "must be valid YAML"),
        ("a: !!python/object/apply:os.getcwd []\n", "could not determine a constructor"),
        ("a: !!timestamp soon\n", "must be valid YAML"),
        ("a: 2024-13-45\n", "must be valid YAML"),
        ("? [1, 2]\n: 3\n", "must be valid YAML"),
        ("[" * 5000, "must be valid YAML"),
        (LAUGHS, "must be valid YAML"),
        ("a: &a 1\nb: [" + "*a, " * 101 + "]\n", "more than 100 aliases"),
        ("- 1\n" * 30_000, "more than 20000 values"),
        ("---\na: 1\n" * 10_000, "more than 20000 values"),
        ("".join(f"a{n}: 1\n" for n in range(5000)) + "<<: {}\n", "more than 1000 keys"),
        ("a: " + "1:" * 60_000 + "1\n", "a number of more than 1000 digits"),
        ("a: " + "1" * 1001 + "\n", "a number of more than 1000 digits"),
        ("a: " + "1" * 1001 + ".5\n", "a number of more than 1000 digits"),
        ("a: \x00", "must be valid YAML"),
        ("", "it is empty"),
        ("---\n---\n", "it is empty"),
        ("- 1\n- 2\n", "must be a mapping"),
        ("just words\n", "must be a mapping"),
        ("kind: Canary\n---\n5\n", "must be a mapping"),
        ("1: 2\n", "must have text for keys"),
    ],
)
def test_yaml_that_cannot_be_meant_is_refused_at_once(text, words):
    began_s = time.process_time()  # the machine may be busy
    with pytest.raises(ScenarioError, match=r"^a\.yaml: ") as error:
        parsed(text, "a.yaml", "YAML")
    assert words in str(error.value)
    assert time.process_time() - began_s < 5.0


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('{"a": 1, "a": 2}', "the key 'a' is there twice"),
        ('{"a": NaN}', "NaN is no number"),
        ("{", "must be valid JSON"),
        ("[1]", "must be a mapping"),
        ("null", "it is empty"),
        ("[" * 100_000, "must be valid JSON"),
    ],
)
def test_json_that_cannot_be_meant_is_refused(text, words):
    with pytest.raises(ScenarioError) as error:
        parsed(text, "a.json", "JSON")
    assert words in str(error.value)


def test_a_file_that_cannot_be_read_is_refused(tmp_path):
    path = tmp_path / "a.yaml"
    with pytest.raises(ScenarioError, match=r"a\.yaml: must be an existing file"):
        read_documents(path)
    with pytest.raises(ScenarioError, match="must be a regular file"):
        read_documents(tmp_path)
    path.write_bytes(b"a: \xff\xfe")
    with pytest.raises(ScenarioError, match="must be UTF-8"):
        read_documents(path)
    path.write_bytes(b"#" * (MOST_BYTES + 1))
    with pytest.raises(ScenarioError, match="must have at most 262144 bytes"):
        read_documents(path)
    path.write_bytes(b"\xef\xbb\xbfa: 1\n---\n---\nb: 2\n")
    assert [document.values for document in read_documents(path)] == [{"a": 1}, {"b": 2}]


def test_anchors_are_followed_within_reason():
    [document] = parsed("a: &a {x: 1}\nb: {<<: *a, y: 2}\nc: *a\n", "a", "YAML")
    assert document.values == {"a": {"x": 1}, "b": {"x": 1, "y": 2}, "c": {"x": 1}}


@pytest.mark.parametrize(
    ("ask", "value", "words"),
    [
        (
            lambda section: section.duration_s("a"),
            30,
            'a: must be a duration in quotes, such as "30',
        ),
        (lambda section: section.duration_s("a"), "30", "a: must be a duration"),
        (lambda section: section.duration_s("a"), "1 m", "a: must be a duration"),
        (lambda section: section.duration_s("a"), "-1m", "a: must be a duration"),
        (lambda section: section.duration_s("a"), "1d", "a: must be a duration"),
        (lambda section: section.number("a"), "5", "a: must be a number, got '5'"),
        (lambda section: section.number("a"), True, "a: must be a number"),
        (lambda section: section.number("a"), float("inf"), "a: must be finite"),
        (lambda section: section.number("a"), 10**400, "a: must be finite"),
        (lambda section: section.number("a", 0, 1), 2, "a: must be in [0, 1]"),
        (lambda section: section.whole("a", 0, 9), 1.0, "a: must be a whole number"),
        (lambda section: section.whole("a", 0, 9), "1", "a: must be a whole number"),
        (lambda section: section.whole("a", 0, 9), 10, "a: must be in [0, 9]"),
        (lambda section: section.text("a"), 5, "a: must be text"),
        (lambda section: section.flag("a"), "yes", "a: must be true or false"),
        (lambda section: section.section("a"), [], "a: must be a mapping"),
        (lambda section: section.sections("a"), {}, "a: must be a list"),
        (lambda section: section.sections("a"), [5], "a.0: must be a mapping"),
        (lambda section: section.text("b", needed=True), 5, "b: must be given"),
        (lambda section: section.refuse({"a": "must not"}), "yes", "a: must not, got 'yes'"),
        (lambda section: section.done(), 5, "a: is not a known field"),
    ],
)
def test_a_value_of_another_kind_is_refused_by_name(ask, value, words):
    with pytest.raises(ScenarioError) as error:
        ask(ForeignMapping({"a": value}, "top"))
    assert str(error.value).startswith(f"top.{words}")


def test_what_says_nothing_is_not_refused():
    for value in (None, False, 0, "", [], {}):
        ForeignMapping({"a": value}, "").refuse({"a": "must not"})
    with pytest.raises(ScenarioError):
        ForeignMapping({"a": "0"}, "").refuse({"a": "must not"})


@given(st.integers(0, 10**18))
def test_a_duration_is_written_as_go_reads_it(nanoseconds):
    seconds = nanoseconds / 1e9
    again = go_seconds(go_text(seconds))
    assert again == pytest.approx(seconds, abs=1e-9, rel=1e-15)
    if nanoseconds % 10**9 == 0:
        assert again == seconds


def test_what_is_there_twice_is_written_twice():
    one = {"x": 1}
    assert "&" not in to_yaml({"a": one, "b": one})


def test_a_misspelt_key_leads_to_the_one_that_is_like_it():
    section = ForeignMapping({"stepWieght": 10, "metrics": [], "x" * 10_000: 1}, "top")
    assert "must be given; was 'stepWieght' to be it?, got None" in refusal(
        section.take, "stepWeight", needed=True
    )
    said = refusal(section.done)
    assert "top.stepWieght: is not a known field; did you mean stepWeight?, got 10" in said
    assert said.count("did you mean") == 1
    assert "to be it" not in refusal(section.take, "interval", needed=True)


def refusal(call, *arguments, **options):
    with pytest.raises(ScenarioError) as error:
        call(*arguments, **options)
    return str(error.value)
