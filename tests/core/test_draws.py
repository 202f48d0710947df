"""Addressed draws: Philox4x64-10, bit for bit, and uniform."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from simlib.core.draws import (
    Stream,
    exponential,
    exponentials,
    normal,
    normals,
    philox,
    uniform,
    uniforms,
    uniforms_of_clients,
)

WORDS = st.integers(0, 2**64 - 1)


@given(counter=st.tuples(WORDS, WORDS, WORDS, WORDS), key=st.tuples(WORDS, WORDS))
def test_philox_equals_numpy_bit_for_bit(counter, key):
    number = sum(word << (64 * place) for place, word in enumerate(counter))
    before = (number - 1) % 2**256  # numpy moves on before its first block
    state = [(before >> (64 * place)) & (2**64 - 1) for place in range(4)]
    words = [np.array(part, dtype=np.uint64) for part in (state, key)]
    generator = np.random.Philox(counter=words[0], key=words[1])
    assert list(philox(counter, key)) == generator.random_raw(4).tolist()


@given(seed=WORDS, replication=WORDS, client=WORDS, k=WORDS, stream=st.sampled_from(Stream))
def test_arrays_draw_what_scalars_draw(seed, replication, client, k, stream):
    ks = np.array([k, k ^ 1], dtype=np.uint64)
    expected = [uniform(seed, replication, client, stream, int(one)) for one in ks]
    assert uniforms(seed, replication, client, stream, ks).tolist() == expected
    assert all(0.0 <= u < 1.0 for u in expected)


@given(seed=WORDS, replication=WORDS, k=WORDS, stream=st.sampled_from(Stream))
def test_the_draws_of_the_first_clients_are_those_of_each(seed, replication, k, stream):
    expected = [uniform(seed, replication, client, stream, k) for client in range(3)]
    assert uniforms_of_clients(seed, replication, 3, stream, k).tolist() == expected
    assert uniforms_of_clients(seed, replication, 0, stream, k).tolist() == []


def test_transformed_arrays_have_the_bits_of_scalars():
    edges = [0.0, 0.25, 0.5, 0.75, 2.0**-53, 1.0 - 2.0**-53]
    u, v = (
        np.array([*edges, *uniforms_of_clients(3, 0, 5000, Stream.ROUND_TRIP, k)]) for k in range(2)
    )
    assert exponentials(u, 5.0).tolist() == [exponential(one, 5.0) for one in u.tolist()]
    pairs = zip(u.tolist(), v.tolist(), strict=True)
    assert normals(u, v).tolist() == [normal(*pair) for pair in pairs]


def test_draws_are_uniform_along_every_part_of_the_address():
    n = np.arange(20_000, dtype=np.uint64)
    samples = [uniforms(1, 0, 7, Stream.BACKOFF, n), uniforms(1, 0, n, Stream.START, 0)]
    samples.append(np.array([uniform(seed, 0, 0, 0, 0) for seed in range(4000)]))
    for sample in samples:
        assert stats.kstest(sample, "uniform").pvalue > 1e-3


def test_neighbouring_streams_clients_and_replications_are_uncorrelated():
    n = np.arange(20_000, dtype=np.uint64)
    one = uniforms(1, 0, 7, Stream.DRAG_GAP, n)
    for other in (
        uniforms(1, 0, 7, Stream.DRAG_LENGTH, n),
        uniforms(1, 0, 8, Stream.DRAG_GAP, n),
        uniforms(1, 1, 7, Stream.DRAG_GAP, n),
    ):
        assert abs(np.corrcoef(one, other)[0, 1]) < 4 / np.sqrt(len(n))


def test_transformed_draws_have_their_laws():
    u = uniforms(3, 0, 1, Stream.PUBLISH, np.arange(20_000, dtype=np.uint64)).tolist()
    v = uniforms(3, 0, 2, Stream.PUBLISH, np.arange(20_000, dtype=np.uint64)).tolist()
    assert stats.kstest([exponential(x, 5.0) for x in u], stats.expon(scale=5.0).cdf).pvalue > 1e-3
    drawn = [normal(x, y) for x, y in zip(u, v, strict=True)]
    assert stats.kstest(drawn, "norm").pvalue > 1e-3


def test_stream_numbers_never_change():
    assert {stream.name: stream.value for stream in Stream} == {
        "START": 0,
        "SESSION_GAP": 1,
        "SESSION_LENGTH": 2,
        "PUBLISH": 3,
        "DRAG_GAP": 4,
        "DRAG_LENGTH": 5,
        "HIDDEN_GAP": 6,
        "HIDDEN_LENGTH": 7,
        "ROUND_TRIP": 8,
        "POLL_JITTER": 9,
        "BACKOFF": 10,
        "ACCEPT_SERVICE": 11,
        "POLL_SERVICE": 12,
        "HANDSHAKE_SERVICE": 13,
        "FAN_OUT_SERVICE": 14,
        "HEARTBEAT_SERVICE": 15,
        "FAULT": 16,
        "LATENCY": 17,
        "NODE": 18,
        "SAFETY_SERVICE": 19,
        "TIMERS": 20,
        "USER": 21,
        "FLAG": 22,
        "CLOSE_SERVICE": 23,
        "SPREAD": 24,
        "SEND_SERVICE": 25,
        "MEETING": 26,
        "FORGET": 27,
        "HOLD_SERVICE": 28,
        "STREAM_PROXY": 29,
    }
