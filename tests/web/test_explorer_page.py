"""An explorer in a page that is opened from a file, in a real browser without a network."""

from __future__ import annotations

import asyncio
import hashlib
import html
import importlib.resources
import json
import random
import tempfile
from contextlib import asynccontextmanager
from pathlib import Path

import nbformat
import pytest

import simlib as sl
from simlib.core.measures import MEASURES, evaluate
from simlib.engines.compiled.variants import GENERAL
from simlib.engines.wasm.kernels import TALLIED
from simlib.engines.wasm.modules import module_of
from simlib.engines.wasm.object_file import without_notes
from simlib.figures import style
from simlib.publish.render import render
from simlib.run.sentences import FORMATS
from simlib.run.summary import three_digits
from simlib.web.laid_out import laid_out
from simlib.web.packed import packed
from simlib.web.page import _as_json, _source, script
from simlib.web.shown import cells_of, ran
from simlib.web.sliders import moved, moved_plan, sliders_of
from simlib.web.specs import EXPLORER_MIME, Spec
from simlib.web.warned import warned
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
MOVES = 8
"""To random positions: of the sliders of each explorer whose warnings are compared."""
SCENARIOS = 20
"""Of each transport: whose results are compared."""
CLOSED = {"closed at once": {"sockets": "closed"}}
DIGESTED = ("bins", "messages", "busy_s", "latency_ticks", "wait_histogram", "histogram")
DIGEST = """
async function digests(laid, lengths, cases) {
  const module = await WebAssembly.compile(unpacked(CODE));
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
    code = packed(without_notes(module_of(GENERAL).code))
    page = tmp_path / "digests.html"
    page.write_text(
        f"<!doctype html><script>{_source('unpack')}{_source('machine')}const CODE = '{code}';"
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


WAYS = {"as it is": {}, "in haste": {"reconnect.base_s": 0.1}}
RESTART = {"kind": "restart", "start_s": 40.0, "length_s": 5.0}
WARNED = {
    "busy": (
        {"server.poll_s": 0.5},
        {
            "clients": (20, 300),
            "polling.interval_s": [5.0, 30.0, 60.0, 30_000.0],
            "server.nodes": [1, 2],
            "warm_up_s": [20.0, 60.0],
        },
    ),
    "refused": (
        {"transport": "sse", **sl.library("eventsource"), "network.bad_gateway": True}
        | {"faults": [RESTART], "server.broker_s": 0.1},
        {
            "clients": [40, 60, 200],
            "server.max_connections": [30, 50, 20_000],
            "server.broker_s": [0.1, 5.0],
            "server.nodes": [1, 2],
        },
    ),
    "tabs": (
        {"transport": "sse", "tabs_per_user": 10, "network.connections_per_user": 6}
        | {"network.stream_buffer_bytes": 50_000},
        {
            "updates.rate_per_s": [0.3, 3.0],
            "network.connections_per_user": [2, 6],
            "network.rtt_s": [0.04, 40.0],
            "faults.0.start_s": [10.0, 40.0],
        },
    ),
    "rollout": (
        {"tabs_per_user": 10, "network.connections_per_user": 6, "server.poll_s": 0.2}
        | {"network.stream_buffer_bytes": 50_000, "server.max_connections": 20},
        {
            "plan.stages.0.percent": [10, 30, 90],
            "plan.kill_s": [25.0, 70.0, None],
            "server.max_connections": [20, 20_000],
            "server.nodes": [1, 2],
            "polling.interval_s": [5.0, 30.0, 60.0],
        },
    ),
}
"""Boards that go wrong in many ways, and sliders by which they do so or not."""
PLANS = {"rollout": PLAN.replace({"treatment.transport": "sse", "kill_s": None})}


@pytest.mark.parametrize("name", WARNED)
def test_a_page_warns_of_what_python_warns_of_wherever_the_sliders_are(tmp_path, name):
    changes, moves = WARNED[name]
    board = BOARD.replace({"faults": [RESTART], **changes})
    plan = PLANS.get(name)
    page = explored(tmp_path, board, moves, plan=plan)
    sliders = sliders_of(board, moves, plan)
    chosen = random.Random(name)
    tried = [[slider.start for slider in sliders], [len(each.values) - 1 for each in sliders]]
    tried += [[chosen.randrange(len(each.values)) for each in sliders] for _ in range(MOVES)]
    left_out = warned(board, sliders, plan)[1]
    title = style.labelled([sl.simulate(board)])[0].name if plan is None else plan.name
    expected, kinds = [], set()
    for positions in tried:
        there = None if plan is None else moved_plan(plan, sliders, positions)
        run = ran(moved(board, sliders, positions), 1, there)
        checked = [each for each in run.warnings if each.kind not in left_out]
        kinds.update(each.kind for each in checked)
        expected.append([f"⚠ {title}: {each}" for each in checked])
    shown = "[...document.querySelectorAll('.warned li')].map((item) => item.textContent)"

    async def used():
        async with browsing() as browser:
            tab = await browser.look_at(page.as_uri())
            found = []
            await tab.until("document.querySelector('.explorer')?.dataset.drawn")
            for positions in tried:
                await tab.value(
                    "(() => { const { explorer } = document.querySelector('.explorer');"
                    f" {positions}.forEach((at, n) => {{ explorer.inputs[n].value = at; }});"
                    " explorer.simulate(); return explorer.wish; })()"
                )
                await tab.until(
                    "document.querySelector('.explorer').dataset.drawn ==="
                    " String(document.querySelector('.explorer').explorer.wish)"
                )
                found.append(await tab.value(shown))
            return found, tab.failures

    found, failures = asyncio.run(used())
    assert failures == []
    assert found == expected
    assert len(kinds) >= 3
    written = page.read_text(encoding="utf-8")  # for readers without JavaScript
    assert all(f"<li>{html.escape(text)}</li>" in written for text in expected[0])


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


def test_what_an_explorer_adds_to_a_page_is_less_than_150_kilobytes(tmp_path):
    boards = [BOARD, BOARD.replace(transport="websocket")]
    page = explored(tmp_path, boards, {"clients": (20, 300), "polling.interval_s": (5.0, 60.0)})
    written = page.read_text(encoding="utf-8")
    box = written[written.index('class="explorer"') :].partition("</section>")[0]
    assert len(script().encode()) + len(box.encode()) < 150_000


def test_the_page_unpacks_what_python_has_packed(tmp_path):
    chosen = random.Random(1)
    contents = [b"", b"a", b"again and " * 1000, chosen.randbytes(5000)]
    contents += [bytes(chosen.choices(b"abc", k=n)) for n in (10, 1000, 100_000)]
    contents += [(chosen.randbytes(300) + bytes(70_000)) * 2]  # far back, and far forward
    page = tmp_path / "packed.html"
    texts = json.dumps([packed(content) for content in contents])
    page.write_text(
        f"<!doctype html><script>{_source('unpack')}const TEXTS = {texts};</script>",
        encoding="utf-8",
    )

    async def found():
        async with browsing() as browser:
            tab = await browser.look_at(page.as_uri())
            await tab.until("typeof TEXTS === 'object'")
            return await tab.value("TEXTS.map((text) => [...unpacked(text)])")

    assert [bytes(each) for each in asyncio.run(found())] == contents


def test_the_page_writes_and_divides_numbers_as_python_does(tmp_path):
    """What it has beside Python: these are the functions of `view.js` that say so."""
    chosen = random.Random(1)
    values = [
        0.0,
        1.0,
        100.0,
        12.5,
        13.5,
        96.25,
        96.35,
        0.125,
        0.145,
        0.155,
        1234.5,
        0.0234500,
        1e-7,
    ]
    values += [10.0 ** chosen.uniform(-5, 5) for _ in range(200)]
    shares = [number / 80 for number in range(81)]
    rows = [{name: chosen.random() for name in TALLIED} for _ in range(3)] + [
        dict.fromkeys(TALLIED, 0.0)
    ]
    measures = {
        each.name: each._asdict()
        for each in MEASURES.values()
        if {"summary", "over_time"} & set(each.tables)  # what an explorer may show
    }
    page = tmp_path / "numbers.html"
    page.write_text(
        f"<!doctype html><script>const SOURCES = {{}};{_source('view')}"
        f"const VALUES = {json.dumps(values)}, SHARES = {json.dumps(shares)};"
        f"const NAMES = {json.dumps(TALLIED)}, MEASURES = {json.dumps(measures)};"
        f"const ROWS = {json.dumps([list(row.values()) for row in rows])};</script>",
        encoding="utf-8",
    )

    async def found():
        async with browsing() as browser:
            tab = await browser.look_at(page.as_uri())
            await tab.until("typeof ROWS === 'object'")
            return await tab.value(
                """(() => {
                  const at = Object.fromEntries(NAMES.map((name, place) => [name, place]));
                  const all = Object.values(MEASURES);
                  return {
                    digits: VALUES.map(threeDigits),
                    two: VALUES.filter((value) => value >= 1e-4).map(FORMATS.two),
                    two_percent: SHARES.map(FORMATS.two_percent),
                    three_percent: SHARES.map(FORMATS.three_percent),
                    metrics: ROWS.map((row) => all.map((each) => String(metric(row, each, at)))),
                  };
                })()"""
            )

    theirs = asyncio.run(found())
    assert theirs["digits"] == [three_digits(value) for value in values]
    assert theirs["two"] == [FORMATS["two"](value) for value in values if value >= 1e-4]
    for name in ("two_percent", "three_percent"):
        assert theirs[name] == [FORMATS[name](share) for share in shares]
    for row, metrics in zip(rows, theirs["metrics"], strict=True):
        ours = [float(evaluate(MEASURES[name], row)) for name in measures]
        assert [float(each) for each in metrics] == pytest.approx(ours, rel=1e-15, nan_ok=True)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_has_nothing_to_say_of_an_explorer(tmp_path, scheme):
    boards = [BOARD, BOARD.replace({"transport": "websocket", "server.send_s": 0.1})]
    moves = {"clients": [60, 100], "polling.interval_s": (5.0, 60.0), "way": WAYS}
    page = explored(tmp_path, boards, moves)
    axe = importlib.resources.files("axe_core_python").joinpath("axe.min.js").read_text()

    async def used():
        async with browsing() as browser:
            tab = await browser.look_at(page.as_uri())
            media = [{"name": "prefers-color-scheme", "value": scheme}]
            await tab.ask("Emulation.setEmulatedMedia", features=media)
            await tab.until("document.querySelector('.explorer')?.dataset.drawn")
            await tab.value(f"{axe}; document.querySelectorAll('.warned li').length")
            return await tab.value(
                "axe.run('.explorer', {resultTypes: ['violations']}).then(({ violations }) =>"
                " violations.map(({ id, nodes }) => [id, nodes.map(({ html }) => html)]))"
            )

    assert asyncio.run(used()) == []


def test_a_reader_without_javascript_sees_the_table_that_python_makes(tmp_path):
    boards = [BOARD, BOARD.replace(transport="websocket")]
    shown = ("latency_p50_s", "connection_wait_s", "busiest_utilisation")
    page = explored(tmp_path, boards, {"clients": [60, 100]}, shown=shown)
    written = page.read_text(encoding="utf-8").split("<tbody>")[1].split("</tbody>")[0]
    cells = cells_of(
        Spec(tuple(boards), (), shown, "utilisation", 1), [sl.simulate(each) for each in boards]
    )
    assert list(cells) == [
        "half of the changes seen within (s)",
        "wait for an open WebSocket, mean (s)",
        "its busiest node (%)",
    ]
    assert cells["wait for an open WebSocket, mean (s)"][0] == "–"
    for head, (polled, pushed) in cells.items():
        assert f'<th scope="row">{head}</th><td>{polled}</td><td>{pushed}</td>' in written


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
    assert marks == [[0, "90 %"], [15, "90 %"], [70, "0 %"]]
    written = page.read_text(encoding="utf-8").split("<tbody>")[1].split("</tbody>")[0]
    for cell in expected(PLAN):  # for readers without JavaScript
        assert f"<td>{cell}</td>" in written
