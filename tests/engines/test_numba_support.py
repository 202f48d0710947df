"""What compiled code does in place of a rule: the same as the rule."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from simlib.core import draws, record
from simlib.core.draws import Stream
from simlib.engines.compiled import event_list, inlining, numba_support

numba = pytest.importorskip("numba")
WORDS = st.integers(-(2**63), 2**63 - 1)


@numba.njit
def compiled_buckets(latencies_s, out):
    for place in range(len(out)):
        out[place] = record.bucket_of(latencies_s[place])


@numba.njit
def compiled_uniform(seed, replication, client, stream, k):
    return draws.uniform(seed, replication, client, stream, k)


@given(
    latencies_s=st.lists(
        st.floats(min_value=0.0, allow_nan=False, allow_infinity=False), min_size=1, max_size=50
    )
)
def test_latencies_fall_into_the_same_buckets(latencies_s):
    edges = [0.0, 2.0**-20, math.nextafter(2.0**-20, 0), 2.0**24, math.nextafter(1.0, 2), 5e-324]
    times = np.array([*latencies_s, *edges, *record.bucket_edges_s()])
    out = np.empty(len(times), dtype=np.int64)
    compiled_buckets(times, out)
    assert out.tolist() == [record.bucket_of(t) for t in times.tolist()]


@given(seed=WORDS, replication=WORDS, client=st.integers(0, 2**27), k=st.integers(0, 2**31 - 1))
def test_draws_are_the_same_to_the_last_bit(seed, replication, client, k):
    words = [word % 2**64 for word in (seed, replication)]
    expected = draws.uniform(*words, client, Stream.BACKOFF, k)
    assert compiled_uniform(seed, replication, client, Stream.BACKOFF, k) == expected


def test_a_change_of_any_rule_changes_the_name_under_which_the_loop_is_kept(monkeypatch):
    def body():
        return NAME  # noqa: F821

    one, other = (numba_support.loops((body,), NAME=number)[0] for number in (1, 2))
    names = {getattr(loop, "py_func", loop).__qualname__ for loop in (one, other)}
    monkeypatch.setattr(numba_support.inspect, "getsource", lambda module: "another source")
    names.add(getattr(numba_support.loops((body,), NAME=1)[0], "py_func", body).__qualname__)
    assert len(names) == 3
    assert (one(), other()) == (1, 2)


@pytest.mark.skipif(numba.config.DISABLE_JIT, reason="nothing is compiled")
def test_what_is_kept_for_a_processor_like_this_one_is_found(monkeypatch, tmp_path):
    monkeypatch.setattr(numba.config, "CACHE_DIR", str(tmp_path))

    def body():
        return NAME  # noqa: F821

    def copy():
        return numba_support.loops((body,), NAME=7)[0]

    one = copy()
    assert not numba_support.is_kept(one)
    assert one() == 7
    assert numba_support.is_kept(one)
    assert numba_support.is_kept(copy())
    other = ("another triple", "another processor", "")
    monkeypatch.setattr(type(one.targetctx.codegen()), "magic_tuple", lambda _self: other)
    assert not numba_support.is_kept(one)
    assert not numba_support.is_kept(body), "of no numba that is known"


def test_fetching_ahead_changes_nothing():
    rows = event_list.rows_of(3, [("x", "f8")])
    assert numba_support.fetch_ahead(rows, 1) is None
    assert not rows["x"].any()


@pytest.mark.parametrize("used", [(), ("of another version of numba",)])
def test_a_numba_that_is_otherwise_inside_compiles_the_same(monkeypatch, used):
    monkeypatch.setattr(inlining, "_USED", (*inlining._USED, *used))

    def part(x):
        return 3 * x

    numba.extending.register_jitable(**numba_support._INLINED)(part)

    @numba.njit
    def whole(x):
        return part(x) + 1

    assert whole(2) == 7
