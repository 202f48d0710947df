"""An explorer in a page that is opened from a file, in a real browser without a network."""

from __future__ import annotations

import asyncio
import base64
import gzip
import hashlib
import json
import random
import tempfile
from contextlib import asynccontextmanager
from pathlib import Path

import nbformat
import pytest

import simlib as sl
from simlib.engines.compiled.variants import GENERAL
from simlib.engines.wasm.modules import module_of
from simlib.figures import style
from simlib.publish.render import render
from simlib.run.summary import three_digits
from simlib.web.laid_out import laid_out
from simlib.web.page import _as_json, _source
from simlib.web.sliders import moved, moved_plan, sliders_of
from simlib.web.specs import EXPLORER_MIME, Spec
from tests.browser import CHROMIUM
from tests.devtools import Browser
from tests.web.test_laid_out import (
    BOARD,
    COMMON,
    OF_THE_PLAN,
    PLAN,
    SEED,
    SESSIONS,
    SLICES,
    ours,
)

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine")

TRANSPORTS = ("polling", "websocket", "sse", "notify", "sse_notify", "long_polling")
SCENARIOS = 20
"""Of each transport: whose results are compared."""
CLOSED = {"closed at once": {"sockets": "closed"}}
DIGESTED = ("bins", "messages", "busy_s", "latency_ticks", "wait_histogram", "histogram")
DIGEST = """
async function unpacked(text) {
  const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}
async function digests(laid, lengths, cases) {
  const module = await WebAssembly.compile(await unpacked(CODE));
  const machine = new Machine(module, laid, lengths);
  const found = [];
  for (const { positions, parts } of cases) {
    await simulated(machine, positions, SLICES, () => true);
    const bytes = parts.map(([at, n]) => machine.bytes.slice(at, at + n));
    const whole = new Uint8Array(await new Blob(bytes).arrayBuffer());
    const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", whole));
    found.push(Array.from(digest, (byte) => byte.toString(16).padStart(2, "0")).join(""));
  }
  return found;
}
"""


@asynccontextmanager
async def browsing():
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        async with Browser.started(profile) as browser:
            yield browser


def asked_of(board, moves, scenarios, plan=None):
    """Return what a page is asked for, of sliders at random, and the digests that are right."""
    sliders = sliders_of(board, moves, plan)
    laid = laid_out(board, sliders, SEED, module_of(GENERAL).words, plan)
    chosen, cases, expected = random.Random(board.transport), [], []
    for _ in range(scenarios):
        positions = [chosen.randrange(len(slider.values)) for slider in sliders]
        there = None if plan is None else moved_plan(plan, sliders, positions)
        rows, record = ours(moved(board, sliders, positions), there)
        arrays = [getattr(record, name) for name in DIGESTED]
        names = ["arrays.rows", *(f"record.{name}" for name in DIGESTED)]
        parts = [
            part
            for name, each in zip(names, (rows, *arrays), strict=True)
            for part in parts_of(laid.image.places[name], each)
        ]
        whole = b"".join(each.tobytes() for each in (rows, *arrays))
        expected.append(hashlib.sha256(whole).hexdigest())
        cases.append({"positions": positions, "parts": parts})
    return (_as_json(laid), [len(slider.values) for slider in sliders], cases), expected


def parts_of(place, array):
    """Where an array's bytes are in the memory of a page: its items, or those of each row of it."""
    if array.shape[1:] == place.shape[1:] or array.ndim == 1:
        return [(place.address, array.nbytes)]
    return [
        part
        for number, row in enumerate(array)
        for part in parts_of(
            place._replace(
                address=place.address + number * place.strides[0],
                shape=place.shape[1:],
                strides=place.strides[1:],
            ),
            row,
        )
    ]


def digests_in_a_page(tmp_path, asked):
    """Return the digests of what a page that is opened from a file has in its memory."""
    code = base64.b64encode(gzip.compress(module_of(GENERAL).code)).decode()
    page = tmp_path / "digests.html"
    page.write_text(
        f"<!doctype html><script>{_source('machine')}const CODE = '{code}';"
        f"const SLICES = {SLICES};{DIGEST}"
        f"const ASKED = {json.dumps(asked)};</script>",
        encoding="utf-8",
    )

    async def found():
        async with browsing() as browser:
            tab = await browser.look_at(page.as_uri())
            await tab.until("typeof ASKED === 'object'")
            return await tab.value(
                "(async () => { const all = []; for (const each of ASKED)"
                " all.push(...await digests(...each)); return all; })()"
            )

    return asyncio.run(found())


def test_a_page_from_a_file_has_the_same_bits_of_every_transport(tmp_path):
    asked, expected = [], []
    for transport in TRANSPORTS:
        board = BOARD.replace(
            transport=transport,
            faults=[{"kind": "restart", "start_s": 30.0, "length_s": 5.0}],
        )
        of_it, digests = asked_of(board, {**COMMON, "network.rtt_s": (0.0, 0.4)}, SCENARIOS)
        asked.append(of_it)
        expected += digests
    digests = digests_in_a_page(tmp_path, asked)
    assert len(digests) == len(TRANSPORTS) * SCENARIOS
    assert digests == expected
    assert len(set(digests)) == len(digests)  # what must differ does


def test_a_page_from_a_file_has_the_same_bits_of_rollouts_as_python_carries_them_out(tmp_path):
    board = BOARD.replace(sessions=SESSIONS)
    asked, expected = asked_of(board, OF_THE_PLAN, SCENARIOS, PLAN)
    digests = digests_in_a_page(tmp_path, [asked])
    assert digests == expected
    assert len(set(digests)) > SCENARIOS / 2


def explored(tmp_path, scenarios, sliders, **options):
    """A rendered page of a notebook with an explorer alone."""
    shown = sl.web.explorer(scenarios, sliders, **options)
    output = nbformat.v4.new_output("execute_result", shown._repr_mimebundle_())
    cell = nbformat.v4.new_code_cell("sl.web.explorer(...)", outputs=[output])
    path = tmp_path / "explored.ipynb"
    nbformat.write(nbformat.v4.new_notebook(cells=[cell]), path)
    return render(path, tmp_path)


def test_a_reader_moves_a_slider_by_keyboard_and_sees_what_python_computes(tmp_path):
    board = BOARD.replace(clients=200)
    boards = [board, board.replace(transport="websocket")]
    moves = {"polling.interval_s": (5.0, 60.0), "clients": [200, 400]}
    page = explored(tmp_path, boards, moves, shown=("latency_p50_s", "utilisation"))
    cells = "[...document.querySelectorAll('.explorer td + td, .explorer th + td')]"

    def expected(**changes):
        rows = [sl.simulate(each.replace(changes), seed=1).totals()[0] for each in boards]
        factors = {"latency_p50_s": 1.0, "utilisation": 100.0}
        return [three_digits(row[name] * factors[name]) for name in factors for row in rows]

    async def used():
        async with browsing() as browser:
            tab = await browser.look_at(page.as_uri(), width=400)
            await tab.until("document.querySelector('.explorer')?.dataset.drawn")
            shown = [await tab.value(f"{cells}.map((cell) => cell.textContent)")]
            await tab.value("document.querySelector('[data-slider]').focus()")
            await tab.press("End")
            await tab.until("document.querySelector('.explorer')?.dataset.drawn === '2'")
            shown.append(await tab.value(f"{cells}.map((cell) => cell.textContent)"))
            curve = "document.querySelectorAll('.explorer .scatterlayer .js-line').length"
            assert await tab.value(curve) == 2 * len(boards)
            assert await tab.value("document.body.scrollWidth <= innerWidth")
            return shown, tab.requests, tab.failures

    shown, requests, failures = asyncio.run(used())
    assert shown[0] == expected()
    assert shown[1] == expected(**{"polling.interval_s": 60.0})
    assert failures == []
    assert {address.partition(":")[0] for address in requests} == {"file", "blob"}


def test_a_long_run_can_be_stopped_and_a_later_wish_ends_an_earlier_one(tmp_path):
    board = BOARD.replace(transport="websocket", clients=200, horizon_s=1000.0)
    page = explored(tmp_path, board, {"clients": [200, 90_000]})

    async def used():
        async with browsing() as browser:
            tab = await browser.look_at(page.as_uri())
            await tab.until("document.querySelector('.explorer')?.dataset.drawn === '1'")
            await tab.value("document.querySelector('[data-slider]').focus()")
            await tab.press("End")
            await tab.until("document.querySelector('.explorer.busy progress')?.value > 0")
            await tab.value("document.querySelector('.stop').click()")
            said = await tab.value("document.querySelector('.said').textContent")
            await tab.press("Home")
            await tab.until("document.querySelector('.explorer')?.dataset.drawn === '4'")
            return said, tab.failures

    said, failures = asyncio.run(used())
    assert said.startswith("Stopped.")
    assert failures == []


def test_the_notebook_keeps_what_the_page_needs():
    shown = sl.web.explorer(BOARD, {"clients": [60, 100]})
    bundle = shown._repr_mimebundle_()
    assert Spec.of_json(bundle[EXPLORER_MIME]) == shown.spec
    assert "half of the changes seen within (s)" in bundle["text/plain"]
    assert str(Path(__file__).parents[2]) not in json.dumps(bundle)


def test_titles_tell_runs_of_one_transport_apart_and_leave_out_what_has_no_value(tmp_path):
    quiet = BOARD.replace({"updates.rate_per_s": 0.02, "bin_s": 2.0})
    boards = [quiet, quiet.replace({"polling.jitter_frac": 0.2, "bin_s": 4.0})]
    moves = {"polling.interval_s": [5.0, 30.0]}
    page = explored(tmp_path, boards, moves, over_time="average_latency_s")

    async def used():
        async with browsing() as browser:
            tab = await browser.look_at(page.as_uri())
            await tab.until("document.querySelector('.explorer')?.dataset.drawn")
            lasts = "[...document.querySelectorAll('[data-explored=over_time]')[0].data]"
            return (
                await tab.value(
                    "[...document.querySelectorAll('[data-explored]')].map((div) =>"
                    " div.getAttribute('aria-label'))"
                ),
                await tab.value(f"{lasts}.map(({{ x }}) => x.at(-1))"),
                await tab.value("document.querySelector('.said').textContent"),
                tab.failures,
            )

    (latency, over_time), lasts, said, failures = asyncio.run(used())
    assert failures == []
    first, second = (each.name for each in style.labelled([sl.simulate(each) for each in boards]))
    assert first != second
    assert f"by {first}" in latency
    assert latency.count(f"by {second}") == 1
    assert over_time.endswith(f"by {second}")
    assert "NaN" not in latency + over_time
    assert lasts == [98.0, 96.0]  # each run has the bins of its own scenario
    assert said.endswith("one run of each, so without intervals.")


def test_a_reader_sees_both_cohorts_of_a_plan_follow_its_percentage(tmp_path):
    board = BOARD.replace(clients=200)
    moves = {"plan.stages.0.percent": [30, 90], "plan.rollback": {"kept": {}, **CLOSED}}
    page = explored(
        tmp_path,
        board,
        moves,
        plan=PLAN,
        over_time="connection_count",
        shown=("latency_p50_s", "connection_count"),
    )
    cells = "[...document.querySelectorAll('.explorer td + td, .explorer th + td')]"

    def expected(plan):
        control, treatment = sl.roll_out(plan, board, seed=1).run.totals()
        names = ("latency_p50_s", "connection_count")
        return [three_digits(row[name]) for name in names for row in (control, treatment)]

    async def used():
        async with browsing() as browser:
            tab = await browser.look_at(page.as_uri())
            await tab.until("document.querySelector('.explorer')?.dataset.drawn")
            shown = [await tab.value(f"{cells}.map((cell) => cell.textContent)")]
            heads = await tab.value(
                "[...document.querySelectorAll('.explorer th[scope=col]')]"
                ".map((th) => th.textContent)"
            )
            await tab.value("document.querySelector('[data-slider]').focus()")
            await tab.press("End")
            await tab.until("document.querySelector('.explorer')?.dataset.drawn === '2'")
            shown.append(await tab.value(f"{cells}.map((cell) => cell.textContent)"))
            marks = await tab.value(
                "document.querySelector('[data-explored=over_time]').layout.shapes"
                ".map(({ x0, label }) => [x0, label.text])"
            )
            return heads, shown, marks, tab.failures

    heads, shown, marks, failures = asyncio.run(used())
    assert failures == []
    assert heads == ["polling, not enrolled", "WebSocket push, enrolled"]
    assert shown == [expected(PLAN), expected(PLAN.replace({"stages.0.percent": 90}))]
    assert marks == [[0, "90 %"], [18, "90 %"], [70, "0 %"]]
