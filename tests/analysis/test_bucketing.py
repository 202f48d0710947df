"""Cohorts of generated users: real shares, overlaps, moves; and what is refused."""

from __future__ import annotations

import math
import re
import uuid

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from simlib.analysis import bucketing
from simlib.core import bucketing as rules
from simlib.core.draws import Stream, uniforms_of_clients
from simlib.errors import ScenarioError

USERS = 20_000
IDS = {kind: bucketing.user_ids(kind, USERS) for kind in bucketing.KINDS}
PERCENTS = [0, 1, 10, 25, 50, 100]
# Kinds of id whose hash codes are of one sign only, as numbers of few digits are.
IDS["short"] = [str(number) for number in range(1, USERS + 1)]
IDS["prefixed"] = [f"u{number:05d}" for number in range(USERS)]


# -- ids ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", bucketing.KINDS)
def test_the_same_seed_gives_the_same_ids_and_another_gives_others(kind):
    assert bucketing.user_ids(kind, 500, seed=1) == IDS[kind][:500]
    for other in ({"seed": 2}, {"replication": 1}):
        assert bucketing.user_ids(kind, 500, **other) != IDS[kind][:500]
    assert len(set(IDS[kind])) == USERS


def test_ids_look_like_those_of_applications():
    assert all(
        uuid.UUID(text).version == 4 and str(uuid.UUID(text)) == text for text in IDS["uuid4"]
    )
    assert {uuid.UUID(text).variant for text in IDS["uuid4"]} == {uuid.RFC_4122}
    address = re.compile(r"[a-z]{8}\.[a-z]{8}@[a-z.]*example\.(com|net|org)")
    assert all(address.fullmatch(text) for text in IDS["email"])
    numbers = [int(text) for text in IDS["number"]]
    assert numbers == sorted(numbers)
    assert numbers[0] >= 1_000_000


def test_every_bit_of_a_uuid_is_drawn_but_six():
    words = np.array([list(uuid.UUID(text).bytes) for text in IDS["uuid4"]], dtype=np.uint8)
    ones = np.unpackbits(words, axis=1).mean(axis=0)
    fixed = [48, 49, 50, 51, 64, 65]
    assert ones[fixed].tolist() == [0, 1, 0, 0, 1, 0]
    drawn = np.delete(ones, fixed)
    assert np.abs(drawn - 0.5).max() < 5 * 0.5 / math.sqrt(USERS)  # of 122 bits, five sigma


def test_ids_are_read_from_a_file_as_they_stand(tmp_path):
    path = tmp_path / "users.txt"
    path.write_bytes("\ufeffada\r\n李小龙\r\nada lovelace\r\n".encode())
    assert bucketing.read_user_ids(path) == ["ada", "李小龙", "ada lovelace"]
    path.write_text("ada", encoding="utf-8")
    assert bucketing.read_user_ids(str(path)) == ["ada"]


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "users.txt: must have an id on every line, got ''"),
        (b"ada\n\ngrace\n", "users.txt, line 2: must be an id without spaces around it, got ''"),
        (
            b"ada\n grace\n",
            "users.txt, line 2: must be an id without spaces around it, got ' grace'",
        ),
        (b"ada\ngrace\nada\n", "users.txt, line 3: must differ from line 1, got 'ada'"),
        (b"ada\xff\n", "path: must be UTF-8 text"),
    ],
)
def test_a_bad_file_of_ids_is_refused_by_its_line(tmp_path, data, says):
    path = tmp_path / "users.txt"
    path.write_bytes(data)
    with pytest.raises(ScenarioError) as caught:
        bucketing.read_user_ids(path)
    assert says in str(caught.value)


def test_a_file_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(ScenarioError, match=r"path: must be an existing text file"):
        bucketing.read_user_ids(tmp_path / "nobody.txt")


# -- buckets --------------------------------------------------------------------------------------


@given(
    rule=st.sampled_from(sorted(rules.RULES)),
    ids=st.lists(st.text(st.characters(exclude_categories=["Cs"]), min_size=1), min_size=1),
    flag=st.text(st.characters(exclude_categories=["Cs"])),
)
def test_buckets_of_many_are_the_buckets_of_each(rule, ids, flag):
    at = bucketing.buckets(rule, ids, flag=flag, salt="s")
    assert at.dtype == np.float64
    assert at.tolist() == [rules.bucket_of(rule, user, flag, "s") for user in ids]


@given(
    table=st.lists(
        st.lists(
            st.floats(-100.0, 100.0) | st.sampled_from([-math.inf, math.inf]),
            min_size=3,
            max_size=3,
        ),
        min_size=1,
        max_size=4,
    ),
    how=st.sampled_from(["and", "or"]),
)
def test_deciders_combine_for_all_users_as_for_each(table, how):
    expected = [rules.combine(how, *column) for column in zip(*table, strict=True)]
    assert bucketing.combine(how, *table).tolist() == expected
    assert bucketing.combine(how, *table, rules.ALWAYS).tolist() == (
        expected if how == "and" else [rules.ALWAYS] * 3
    )


def test_the_three_deciders_of_the_guide_expose_what_they_say_only_one_by_one():
    ids = IDS["uuid4"]
    experiment = bucketing.fixed_assignment(
        bucketing.buckets("growthbook_experiment", ids, flag="realtime-websocket"), 50
    )
    se = 0.5 / math.sqrt(USERS)
    for rule, ramp in (("floor_mod", 0.10), ("guide", 0.55)):
        at = bucketing.buckets(rule, ids)
        for how, flag_is, expected in (
            ("and", rules.ALWAYS, ramp * 0.5),
            ("or", rules.NEVER, 1 - (1 - ramp) * 0.5),
            ("and", rules.NEVER, 0.0),
            ("or", rules.ALWAYS, 1.0),
        ):
            joined = bucketing.combine(how, experiment, at, flag_is)
            [real] = bucketing.share(joined, [10])["share_frac"]
            assert abs(real - expected) <= (0.0 if expected in (0.0, 1.0) else 4 * se)


# -- shares ---------------------------------------------------------------------------------------


def in_javascript(user, percent):
    """``hashCode(user) % 100 < percent``, the sign by hand."""
    value = 0
    data = user.encode("utf-16-be")
    for high, low in zip(data[::2], data[1::2], strict=True):
        value = (value * 31 + 256 * high + low) % 2**32
    negative = value >= 2**31
    remainder = (2**32 - value) % 100 if negative else value % 100
    return (-remainder if negative else remainder) < percent


@pytest.mark.parametrize("kind", IDS)
def test_the_share_of_the_guide_is_that_of_its_formula_and_of_the_closed_form(kind):
    ids = IDS[kind]
    table = bucketing.share(bucketing.buckets("guide", ids), PERCENTS)
    assert table["enrolled"].tolist() == [
        sum(in_javascript(user, percent) for user in ids) for percent in PERCENTS
    ]
    q = np.mean([rules.hash_code(user) < 0 for user in ids])
    for percent, real in zip(PERCENTS, table["share_frac"], strict=True):
        p, of_negative = percent / 100, 1.0 if percent > 0 else 0.99
        closed = q * of_negative + (1 - q) * p
        # Given its sign, a remainder is one of a hundred: two binomials.
        variance = q * of_negative * (1 - of_negative) + (1 - q) * p * (1 - p)
        assert abs(real - closed) <= 4 * math.sqrt(variance / USERS) + 1e-12


def test_zero_percent_does_not_switch_the_guide_off():
    table = bucketing.share(bucketing.buckets("guide", IDS["uuid4"]), [0])
    assert table["share_frac"][0] == pytest.approx(0.495, abs=4 * 0.5 / math.sqrt(USERS))
    assert table["mismatch"].tolist() == [True]


@pytest.mark.parametrize("kind", bucketing.KINDS)
@pytest.mark.parametrize(
    "rule", ["floor_mod", "unleash", "growthbook", "growthbook_experiment", "launchdarkly", "flipt"]
)
def test_other_rules_enrol_what_they_say(rule, kind):
    at = bucketing.buckets(rule, IDS[kind], flag="realtime-websocket", salt="5c2e0d7f")
    # A rollout of GrowthBook's enrols one bucket of 10,000 too many: see the next test.
    table = bucketing.share(at, PERCENTS[1:] if rule == "growthbook" else PERCENTS)
    assert not table["mismatch"].any()
    inside = table[table["percent"].between(1, 50)]
    nominal = inside["percent"] / 100
    error = 4 * np.sqrt(nominal * (1 - nominal) / USERS)
    assert ((inside["share_frac"] - nominal).abs() <= error + 1e-4).all()


def test_a_coverage_enrols_one_bucket_more_than_it_says():
    at = np.array([max(0.0, math.nextafter(n / 10, -1.0)) for n in range(1000)])  # all of version 1
    assert bucketing.share(at, [0, 0.1, 10, 50])["enrolled"].tolist() == [0, 2, 101, 501]


def test_the_interval_covers_the_nominal_share_as_often_as_it_says():
    at = np.random.default_rng(5).uniform(0.0, 100.0, (400, 500))
    tables = [bucketing.share(row, [20]) for row in at]
    covered = sum(bool(t["low_frac"][0] <= 0.2 <= t["high_frac"][0]) for t in tables)
    assert covered >= 400 * 0.95 - 4 * math.sqrt(400 * 0.95 * 0.05)  # exact: no less than 95 %


@pytest.mark.parametrize("users", [100, 1000, 20_000])
def test_a_mismatch_of_55_for_10_percent_is_noticed_at_once(users):
    ids = IDS["uuid4"][:users]
    assert bucketing.share(bucketing.buckets("guide", ids), [10])["mismatch"].all()
    assert not bucketing.share(bucketing.buckets("floor_mod", ids), [10])["mismatch"].any()


def test_a_mismatch_is_rarely_called_where_there_is_none():
    at = np.random.default_rng(6).uniform(0.0, 100.0, (600, 1000))
    false = sum(bool(bucketing.share(row, [10])["mismatch"][0]) for row in at)
    assert false <= 4  # 0.6 expected: more than 4 has a probability below 0.001


@pytest.mark.parametrize("percent", [0, 0.1, 99.9, 100])
def test_where_few_are_expected_the_test_is_exact(percent):
    users, expected = 1000, round(10 * percent)
    for enrolled in {expected, max(0, expected - 4), min(users, expected + 4)}:
        at = np.where(np.arange(users) < enrolled, -1.0, math.inf)
        p_value = bucketing.share(at, [percent])["p_value"][0]
        pmf = stats.binom(users, percent / 100).pmf(np.arange(users + 1))
        assert p_value == pytest.approx(pmf[pmf <= pmf[enrolled] * (1 + 1e-7)].sum(), abs=1e-12)


# -- two flags, and a plan ------------------------------------------------------------------------


def test_rules_without_a_flag_give_two_flags_the_same_users():
    for rule in ("guide", "floor_mod"):
        flags = [bucketing.buckets(rule, IDS["uuid4"], flag=flag) for flag in ("push", "dark-mode")]
        table = bucketing.overlap(*flags, [10, 50])
        assert table["both_frac"].tolist() == table["first_frac"].tolist()


@pytest.mark.parametrize(
    "rule", ["unleash", "growthbook", "launchdarkly", "flipt", "flipt_variant"]
)
def test_rules_with_a_flag_give_two_flags_independent_users(rule):
    flags = [bucketing.buckets(rule, IDS["uuid4"], flag=flag) for flag in ("push", "dark-mode")]
    for row in bucketing.overlap(*flags, [10, 50]).itertuples():
        expected = row.independent_frac
        assert row.independent_frac == row.first_frac * row.second_frac
        assert abs(row.both_frac - expected) <= 4 * math.sqrt(expected * (1 - expected) / USERS)
        assert row.low_frac <= row.both_frac <= row.high_frac


def test_version_1_of_growthbook_gives_flags_of_similar_names_users_that_depend():
    ids = IDS["uuid4"]
    flags = [bucketing.buckets("growthbook_v1", ids, flag=flag) for flag in ("flag-a", "flag-b")]
    assert bucketing.overlap(*flags, [10])["both_frac"].tolist() == [0.0]  # 1 % if they did not


def test_overlap_by_hand():
    table = bucketing.overlap([-1.0, 5.0, 5.0, 20.0], [5.0, 5.0, 20.0, 20.0], [0, 10, 100])
    assert table["first_frac"].tolist() == [0.25, 0.75, 1.0]
    assert table["second_frac"].tolist() == [0.0, 0.5, 1.0]
    assert table["both_frac"].tolist() == [0.0, 0.5, 1.0]


@pytest.mark.parametrize("rule", rules.RULES)
def test_nobody_leaves_a_plan_that_grows_and_nobody_joins_one_that_shrinks(rule):
    at = bucketing.buckets(rule, IDS["uuid4"][:2000], flag="push", salt="s")
    plan = [0, 1, 10, 25, 50, 100, 50, 10, 0]
    table = bucketing.moves(at, plan)
    grows = table["to_percent"] >= table["from_percent"].fillna(0)
    assert (table.loc[grows, "leaves"] == 0).all()
    assert (table.loc[~grows, "joins"] == 0).all()
    assert (table["joins"] - table["leaves"]).cumsum().tolist() == table["enrolled"].tolist()
    assert table["enrolled"].tolist() == bucketing.share(at, plan)["enrolled"].tolist()


# -- bad input ------------------------------------------------------------------------------------

GOOD = [1.0, 2.0]


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (
            lambda: bucketing.user_ids("guid", 3),
            "kind: must be one of uuid4, email, number, got 'guid'",
        ),
        (lambda: bucketing.user_ids("uuid4", 0), "count: must be a whole number >= 1, got 0"),
        (lambda: bucketing.user_ids("uuid4", True), "count: must be a whole number >= 1, got True"),
        (
            lambda: bucketing.user_ids("uuid4", 3, seed=-1),
            "seed: must be a whole number >= 0, got -1",
        ),
        (lambda: bucketing.read_user_ids(3), "path: must be the path of a text file, got 3"),
        (
            lambda: bucketing.buckets("murmur", ["a"]),
            "rule: must be one of guide, guide_unwrapped, ",
        ),
        (
            lambda: bucketing.buckets(["guide"], ["a"]),
            "rule: must be one of guide, guide_unwrapped, ",
        ),
        (
            lambda: bucketing.buckets("guide", "ada"),
            "ids: must be a list of at least one id, got 'ada'",
        ),
        (lambda: bucketing.buckets("guide", []), "ids: must be a list of at least one id, got []"),
        (
            lambda: bucketing.buckets("guide", ["a", 7]),
            "ids[1]: must be text of valid Unicode, got 7",
        ),
        (lambda: bucketing.buckets("guide", ["a", ""]), "ids[1]: must not be empty, got ''"),
        (
            lambda: bucketing.buckets("unleash", ["\ud83d\ude00"]),
            "ids[0]: must be text of valid Unicode, without lone surrogates, got",
        ),
        (
            lambda: bucketing.buckets("unleash", ["a", "\ud83d", "\ude00"]),
            "ids[1]: must be text of valid Unicode, without lone surrogates, got",
        ),
        (
            lambda: bucketing.buckets("unleash", ["a"], flag=None),
            "flag: must be text of valid Unicode",
        ),
        (
            lambda: bucketing.buckets("unleash", ["a"], salt=1),
            "salt: must be text of valid Unicode, got 1",
        ),
        (
            lambda: bucketing.fixed_assignment(GOOD, 101),
            "percent: must be a percentage in [0, 100], got 101",
        ),
        (lambda: bucketing.combine("xor", GOOD), "how: must be 'and' or 'or', got 'xor'"),
        (
            lambda: bucketing.combine("and"),
            "deciders: must be buckets of at least one decider, got ()",
        ),
        (
            lambda: bucketing.combine("and", GOOD, [1.0, 2.0, 3.0]),
            "deciders: must be buckets of the same users, got [2, 3]",
        ),
        (
            lambda: bucketing.combine("or", GOOD, [math.nan] * 2),
            "deciders[1]: must be an array of at",
        ),
        (lambda: bucketing.share([], [10]), "buckets: must be an array of at least one bucket"),
        (lambda: bucketing.share(["x"], [10]), "buckets: must be an array of at least one bucket"),
        (lambda: bucketing.share([GOOD], [10]), "buckets: must be an array of at least one bucket"),
        (
            lambda: bucketing.share(GOOD, 10),
            "percents: must be a list of percentages in [0, 100], got 10",
        ),
        (
            lambda: bucketing.share(GOOD, []),
            "percents: must be a list of percentages in [0, 100], got []",
        ),
        (
            lambda: bucketing.share(GOOD, [math.nan]),
            "percents: must be a list of percentages in [0, 100], got [nan]",
        ),
        (
            lambda: bucketing.share(GOOD, ["10"]),
            "percents: must be a list of percentages in [0, 100], got ['10']",
        ),
        (
            lambda: bucketing.overlap(GOOD, [1.0], [10]),
            "second: must be of the same users (2), got 1",
        ),
        (
            lambda: bucketing.moves(GOOD, [10, -1]),
            "percents: must be a list of percentages in [0, 100], got [10, -1]",
        ),
    ],
)
def test_bad_input_is_refused_by_name(call, says):
    with pytest.raises(ScenarioError) as caught:
        call()
    assert str(caught.value).startswith(says)


def test_the_shares_of_several_rules_are_those_of_each_in_the_order_given():
    ids = bucketing.user_ids("email", 500)
    places = {rule: bucketing.buckets(rule, ids) for rule in ("unleash", "guide")}
    together = bucketing.share(places, [0, 10])
    assert together["rule"].tolist() == ["unleash", "unleash", "guide", "guide"]
    for rule, of_it in together.groupby("rule"):
        alone = bucketing.share(places[rule], [0, 10])
        assert of_it.drop(columns="rule").reset_index(drop=True).equals(alone)
    with pytest.raises(ScenarioError, match=r"^buckets: must be buckets of at least one rule"):
        bucketing.share({}, [10])
    with pytest.raises(ScenarioError, match=r"^buckets\['b'\]: must be an array"):
        bucketing.share({"a": [1.0], "b": []}, [10])


@pytest.mark.parametrize("kind", bucketing.KINDS)
@pytest.mark.parametrize("rule", bucketing.RULES)
def test_users_have_the_buckets_of_their_ids(rule, kind):
    for seed, replication in ((1, 0), (2**63 + 5, 3)):
        ids = bucketing.user_ids(kind, 300, seed=seed, replication=replication)
        users = bucketing.Users(kind, 300, seed, replication)
        expected = bucketing.buckets(rule, ids, flag="push")
        np.testing.assert_array_equal(bucketing.buckets(rule, users, flag="push"), expected)
        assert users[7] == ids[7]


def test_uuids_are_those_of_their_parts():
    parts = [
        (uniforms_of_clients(9, 2, 50, Stream.USER, k) * below).astype(np.int64).tolist()
        for k, below in enumerate((2**48, 2**26, 2**48))
    ]
    assert bucketing.user_ids("uuid4", 50, seed=9, replication=2) == [
        f"{a >> 16:08x}-{a & 0xFFFF:04x}-4{b >> 14:03x}-{0x8000 | b & 0x3FFF:04x}-{c:012x}"
        for a, b, c in zip(*parts, strict=True)
    ]
