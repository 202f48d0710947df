"""Bucketing rules: the numbers that real feature-flag clients, JavaScript and Java give."""

from __future__ import annotations

import base64
import hashlib
import json
import math
import zlib
from pathlib import Path

import mmh3
import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from simlib.analysis import bucketing
from simlib.core.bucketing import (
    ALWAYS,
    NEVER,
    RULES,
    bucket_of,
    combine,
    fixed_assignment,
    fnv1a,
    hash_code,
)

RECORDED = json.loads(
    (Path(__file__).parents[2] / "data/measured/bucketing.json").read_text(encoding="utf-8")
)
COLUMNS, FLAG, SALT = RECORDED["columns"], RECORDED["flag"], RECORDED["salt"]
COLUMNS["launchdarkly"] = np.frombuffer(
    base64.b64decode(COLUMNS["launchdarkly"]), dtype="<f8"
).tolist()
MADE = [
    user for kind in bucketing.KINDS for user in bucketing.user_ids(kind, RECORDED["of_a_kind"])
]
IDS = MADE + RECORDED["awkward"]
SHAREABLE = [rule for rule in RULES if rule != "guide_unwrapped"]  # is never NEVER

# Text as a client may have it: any script, characters beyond 16 bits, no half of a pair.
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=60)
PERCENTS = st.one_of(
    st.floats(0.0, 100.0),
    st.integers(0, 100).map(float),
    st.integers(0, 10_000).map(lambda k: k / 100),
)


def buckets_of(rule):
    return [bucket_of(rule, user, FLAG, SALT) for user in IDS]


def at_or_below(percent):
    """The bucket of who is enrolled from a percentage on, itself included."""
    return math.nextafter(percent, -math.inf)


def test_the_ids_are_those_that_were_recorded():
    assert len(MADE) > 10_000
    text = "\n".join(MADE)
    assert hashlib.sha256(text.encode()).hexdigest() == RECORDED["ids_sha256"]


# -- against what real code gave ------------------------------------------------------------------


def test_hash_codes_are_those_of_javascript_and_of_java():
    ours = [hash_code(user) for user in IDS]
    assert ours == COLUMNS["javascript"]
    assert [math.fmod(value, 100) for value in ours] == COLUMNS["java_remainder"]


@pytest.mark.parametrize(
    ("rule", "column"),
    [("guide", "java_remainder"), ("java_abs", "java_abs"), ("floor_mod", "java_floor_mod")],
)
def test_rules_of_the_hash_code_give_what_java_gives(rule, column):
    assert buckets_of(rule) == COLUMNS[column]


def test_without_the_wrap_a_double_gives_what_it_gives_in_javascript():
    expected = [NEVER if value is None else value for value in COLUMNS["javascript_double"]]
    assert buckets_of("guide_unwrapped") == expected
    assert NEVER in expected


@pytest.mark.parametrize(
    ("rule", "column", "to_bucket"),
    [
        ("unleash", "unleash", at_or_below),
        ("growthbook", "growthbook_v2", lambda n: at_or_below(100 * n / 10_000) if n else 0.0),
        ("growthbook_v1", "growthbook_v1", lambda n: at_or_below(100 * n / 1000) if n else 0.0),
        ("growthbook_experiment", "growthbook_v2", lambda n: 100 * n / 10_000),
        ("launchdarkly", "launchdarkly", lambda bucket: 100 * bucket),
        ("flipt", "crc32_of_id_and_key_mod_100", float),
        ("flipt_variant", "crc32_of_key_and_id_mod_1000", lambda n: at_or_below((n + 1) / 10)),
    ],
)
def test_buckets_are_the_buckets_of_the_real_package(rule, column, to_bucket):
    assert buckets_of(rule) == [to_bucket(bucket) for bucket in COLUMNS[column]]


@pytest.mark.parametrize("rule", RECORDED["enrolled"])
@pytest.mark.parametrize("number", range(len(RECORDED["percents"])))
def test_who_is_enrolled_is_who_the_real_client_enrols(rule, number):
    bits = np.frombuffer(base64.b64decode(RECORDED["enrolled"][rule][number]), dtype=np.uint8)
    real = np.unpackbits(bits, count=len(IDS)).astype(bool)
    percent = RECORDED["percents"][number]
    ours = [at < percent for at in buckets_of(rule)]
    np.testing.assert_array_equal(ours, real)


# -- for any text ---------------------------------------------------------------------------------


def units(text):
    data = text.encode("utf-16-be")
    return [256 * high + low for high, low in zip(data[::2], data[1::2], strict=True)]


def wrapped(value):
    return (value + 2**31) % 2**32 - 2**31


@given(text=TEXTS)
@example(text="polygenelubricants")
@example(text="👩‍💻")
def test_the_hash_by_shifts_is_the_hash_by_products_is_the_polynomial(text):
    by_shifts = 0
    for unit in units(text):
        by_shifts = wrapped(wrapped(by_shifts << 5) - by_shifts + unit)
    n = len(units(text))
    polynomial = sum(unit * 31 ** (n - 1 - k) for k, unit in enumerate(units(text)))
    assert hash_code(text) == by_shifts == wrapped(polynomial)


@given(text=TEXTS)
def test_the_guide_is_the_floored_remainder_but_for_the_sign(text):
    signed, floored = bucket_of("guide", text), bucket_of("floor_mod", text)
    assert floored == signed % 100.0
    assert -100.0 < signed < 100.0
    assert (signed < 0.0) <= (hash_code(text) < 0)


def test_the_absolute_value_of_the_least_integer_is_negative_in_java_alone():
    assert hash_code("polygenelubricants") == -(2**31)
    assert bucket_of("java_abs", "polygenelubricants") == -48.0
    assert all(0.0 <= bucket_of("java_abs", user) < 100.0 for user in MADE)


@given(user=TEXTS, flag=TEXTS)
def test_fnv1a_is_that_of_its_definition_over_units(user, flag):
    value = 2166136261
    for unit in units(flag + user):
        value = (value ^ unit) * 16777619 % 2**32
    assert fnv1a(flag + user) == value


@given(user=st.text(st.characters(max_codepoint=127)))
def test_in_ascii_unleash_hashes_plain_bytes(user):
    bucket = mmh3.hash(f"push:{user}", signed=False) % 100 + 1
    assert bucket_of("unleash", user, "push") == at_or_below(bucket)


@given(user=TEXTS, flag=TEXTS)
def test_flipt_hashes_utf_8(user, flag):
    assert bucket_of("flipt", user, flag) == zlib.crc32(user.encode() + flag.encode()) % 100


@given(rule=st.sampled_from(sorted(RULES)), user=TEXTS, flag=TEXTS, salt=TEXTS)
def test_every_bucket_is_one_number_of_percent(rule, user, flag, salt):
    at = bucket_of(rule, user, flag, salt)
    assert at == NEVER or -100.0 < at < 100.0 or (rule == "launchdarkly" and at == 100.0)
    assert at >= 0.0 or rule in ("guide", "java_abs")


@given(rule=st.sampled_from(SHAREABLE), user=TEXTS, one=PERCENTS, other=PERCENTS)
def test_nobody_leaves_while_the_percentage_grows(rule, user, one, other):
    low, high = sorted((one, other))
    at = bucket_of(rule, user, FLAG, SALT)
    assert (at < low) <= (at < high)
    assert at < 100.0


DECISIONS = {
    "guide": lambda u, p: math.fmod(hash_code(u), 100) < p,
    "floor_mod": lambda u, p: hash_code(u) % 100 < p,
    "unleash": lambda u, p: p > 0 and COLUMNS["unleash"][IDS.index(u)] <= p,
    "growthbook": lambda u, p: p != 0 and COLUMNS["growthbook_v2"][IDS.index(u)] / 1e4 <= p / 100,
    "growthbook_v1": lambda u, p: (
        p != 0 and COLUMNS["growthbook_v1"][IDS.index(u)] / 1e3 <= p / 100
    ),
    "flipt_variant": lambda u, p: (
        int(np.float32(p) * np.float32(10))
        >= COLUMNS["crc32_of_key_and_id_mod_1000"][IDS.index(u)] + 1
    ),
}


@given(
    rule=st.sampled_from(sorted(DECISIONS)),
    user=st.sampled_from(IDS[::97]),
    percent=st.integers(0, 1000).map(lambda tenths: tenths / 10),
)
def test_buckets_decide_as_the_formula_does_at_every_tenth_of_a_percent(rule, user, percent):
    assert (bucket_of(rule, user, FLAG, SALT) < percent) == DECISIONS[rule](user, percent)


# -- several deciders -----------------------------------------------------------------------------

PLACES = st.one_of(st.floats(-100.0, 100.0), st.sampled_from([ALWAYS, NEVER]))


@given(at=st.lists(PLACES, min_size=1, max_size=5), percent=PERCENTS)
def test_deciders_combine_as_their_answers_do(at, percent):
    answers = [one < percent for one in at]
    assert (combine("and", *at) < percent) == all(answers)
    assert (combine("or", *at) < percent) == any(answers)


@given(at=PLACES, exposures=PERCENTS, percent=PERCENTS)
def test_a_settled_decider_answers_the_same_at_every_percentage(at, exposures, percent):
    assert (fixed_assignment(at, exposures) < percent) == (at < exposures)
