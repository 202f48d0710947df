"""Addressed draws: Philox4x64-10, bit for bit, and uniform."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from simlib.core.draws import Stream, exponential, normal, philox, uniform, uniforms

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
    normals = [normal(x, y) for x, y in zip(u, v, strict=True)]
    assert stats.kstest(normals, "norm").pvalue > 1e-3


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
