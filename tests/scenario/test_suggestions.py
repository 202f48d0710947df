"""An error leads from the name that people know to the one that is right."""

from __future__ import annotations

from pathlib import Path

import pytest

import simlib as sl
from simlib.core.measures import MEASURES, METRICS
from simlib.scenario import presets, suggestions

CANARY = Path(__file__).parents[2] / "data" / "plans" / "flagger_canary.yaml"
BOARD = sl.Scenario(updates={"rate_per_s": 0.1})
RESET = {"kind": "reset", "start_s": 1.0}


def refused(call, *arguments, **options):
    with pytest.raises(sl.ScenarioError) as caught:
        call(*arguments, **options)
    return str(caught.value)


@pytest.mark.parametrize(
    ("name", "preset"),
    [
        ("socketio", "socket.io-client"),
        ("Socket.IO", "socket.io-client"),
        ("socket.io", "socket.io-client"),
        ("socket.io-client v4", "socket.io-client"),
        ("rails", "actioncable"),
        ("@rails/actioncable", "actioncable"),
        ("SignalR", "signalr"),
        ("@microsoft/signalr", "signalr"),
        ("centrifugo", "centrifuge"),
        ("sockjs", "sockjs-client"),
        ("Phoenix LiveView", "phoenix"),
        ("graphql", "graphql-ws"),
        ("WebSocket", "native WebSocket"),
        ("ws", "native WebSocket"),
        ("websocket-client", "native WebSocket"),
        ("python_socketio", "python-socketio"),
    ],
)
def test_a_library_by_another_name_leads_to_its_preset(name, preset):
    assert f"did you mean {preset!r}?" in refused(sl.library, name)


@pytest.mark.parametrize("name", presets.LIBRARIES)
def test_a_preset_in_other_letters_leads_to_itself(name):
    for given in (name.upper() + " ", name.replace("-", "_").replace(".", "") + "?"):
        assert f"did you mean {name!r}?" in refused(sl.library, given)


@pytest.mark.parametrize("name", presets.SERVERS)
def test_a_server_in_other_letters_leads_to_its_preset(name):
    assert f"did you mean {name!r}?" in refused(sl.server, name.upper().replace(":", "") + " ")
    assert "must be one of" in refused(sl.server, None)


def test_servers_set_the_same_settings_so_that_one_takes_the_others_back():
    springs = [name for name in presets.SERVERS if name.startswith("spring")]
    guide, sockjs, repaired = map(sl.server, springs)
    own = {"heartbeat.direction", "wire.envelope"}
    assert guide.keys() - own == sockjs.keys() - own == repaired.keys()
    pools = [sl.server(name) for name in presets.SERVERS if name not in springs]
    assert all(one.keys() == pools[0].keys() for one in pools)


@pytest.mark.parametrize(
    ("name", "preset"),
    [
        ("gunicorn", "gunicorn sync"),
        ("Gunicorn gThread", "gunicorn gthread"),
        ("gunicorn/sync", "gunicorn sync"),
        ("FastAPI", "uvicorn"),
        ("uvicorn.workers", "uvicorn"),
        ("PHP FPM", "php-fpm"),
        ("Rails", "puma"),
        ("Spring Boot", "spring: the loop repaired"),
    ],
)
def test_a_server_by_another_name_leads_to_its_preset(name, preset):
    assert f"did you mean {preset!r}?" in refused(sl.server, name)


@pytest.mark.parametrize(
    ("name", "held"),
    [("gunicorn sync", 8), ("gunicorn gthread", 8), ("gunicorn gevent", 8000), ("puma", 8)],
)
def test_each_worker_of_a_server_brings_its_connections_with_it(name, held):
    board = sl.Scenario(updates={"rate_per_s": 0.1}).replace(sl.server(name, workers=8))
    assert (board.server.workers, board.server.max_connections) == (8, held)
    own = sl.server(name)
    assert sl.server(name, workers=own["server.workers"]) == own


@pytest.mark.parametrize(
    ("name", "workers", "words"),
    [
        ("uvicorn", 0, "workers: must be a whole number >= 1 and <= 4096, got 0"),
        ("uvicorn", 2.5, "workers: must be a whole number"),
        ("uvicorn", True, "workers: must be a whole number"),
        ("spring: the loop repaired", 2, "workers: has no meaning for 'spring: the loop repaired'"),
    ],
)
def test_workers_that_a_server_cannot_have_are_refused(name, workers, words):
    with pytest.raises(sl.ScenarioError) as error:
        sl.server(name, workers=workers)
    assert words in str(error.value)


@pytest.mark.parametrize("name", [*suggestions.NO_PRESET, *suggestions._NO_PRESET_TOO])
def test_a_library_without_a_preset_says_what_to_do(name):
    message = refused(sl.library, name)
    assert "has no preset" in message
    assert "reconnect.policy" in message or "not simulated" in message


def test_every_alias_leads_to_something_that_is_there():
    assert set(suggestions.LIBRARY_ALIASES.values()) <= presets.LIBRARIES.keys()
    assert set(suggestions.SERVER_ALIASES.values()) <= presets.SERVERS.keys()
    assert set(suggestions.METRIC_ALIASES.values()) <= MEASURES.keys()
    assert set(suggestions._NO_PRESET_TOO.values()) <= suggestions.NO_PRESET.keys()
    of_libraries = (suggestions.LIBRARY_ALIASES, suggestions.NO_PRESET)
    for aliases in (*of_libraries, suggestions.METRIC_ALIASES, suggestions.SERVER_ALIASES):
        assert all(alias == suggestions.plain(alias) for alias in aliases)
    own = {suggestions.plain(name) for name in presets.LIBRARIES}
    assert not own & suggestions.LIBRARY_ALIASES.keys()
    servers = {suggestions.plain(name) for name in presets.SERVERS}
    assert not servers & suggestions.SERVER_ALIASES.keys()


@pytest.mark.parametrize("name", ["xyzzy", "", "?", 5, None, ["signalr"]])
def test_a_name_that_is_like_nothing_gets_no_suggestion(name):
    message = refused(sl.library, name)
    assert "must be one of 'socket.io-client'" in message
    assert "did you mean" not in message


def guarded(metric):
    rail = {"metric": metric, "below": 1.0}
    return sl.Plan(flag={"propagation": "session"}, guardrails=[rail])


@pytest.mark.parametrize(
    ("name", "metric"), [pair for pair in suggestions.METRIC_ALIASES.items() if pair[1] in METRICS]
)
def test_a_metric_by_another_name_leads_to_ours(name, metric):
    assert f"; did you mean {metric}?" in refused(guarded, name)


@pytest.mark.parametrize("name", ["P95", "Latency p95", "latencyP95", "p 95"])
def test_a_metric_in_other_letters_leads_to_ours(name):
    assert "did you mean latency_p95_s?" in refused(guarded, name)


def test_a_width_of_a_sweep_and_a_foreign_metric_lead_to_ours_too():
    options = {"replications": 2, "on": "serial", "progress": False}
    over = {"clients": [1, 2]}
    assert "did you mean latency_p95_s?" in refused(
        sl.sweep, BOARD, over, until={"p95": 1}, **options
    )
    given = {"metrics": {"duration": "p99"}, "flag": {"propagation": "session"}}
    message = refused(sl.Plan.load, CANARY, **given)
    assert "did you mean latency_p99_s?" in message


@pytest.mark.parametrize(
    ("change", "meant"),
    [
        ({"transport": "WebSocket"}, "websocket"),
        ({"transport": "poll"}, "polling"),
        ({"polling.timer": "setInterval"}, "fixed_rate"),
        ({"rate_limit": {"rate_per_s": 5.0, "kind": "nodelay"}}, "refuse"),
        ({"faults": [{"kind": "crash", "start_s": 1.0, "length_s": 1.0}]}, "restart"),
        ({"reconnect.policy": "fullJitter"}, "full_jitter"),
        ({"reconnect.policy": "expo"}, "exponential"),
        ({"websocket.resync": "snapshots"}, "snapshot"),
        ({"refetchInterval": 30000}, "polling.interval_s"),
        ({"polling.refetchInterval": 30000}, "polling.interval_s"),
        ({"pingTimeout": 20000}, "heartbeat.timeout_s"),
        ({"proxy_read_timeout": 60}, "network.idle_s"),
        ({"interval": 30}, "polling.interval_s"),
        ({"polling.intervall_s": 30}, "polling.interval_s"),
        ({"interval_s": 30}, "polling.interval_s"),
        ({"updates.rate": 1}, "updates.rate_per_s"),
        ({"faults": [{**RESET, "strat_s": 1}]}, "faults.0.start_s"),
        ({"faults": [RESET, {**RESET, "lenght_s": 1}]}, "faults.1.length_s"),
        ({"faults": [{**RESET, "latency": 1}]}, "faults.0.added_s"),
        ({"faults": [{**RESET, "every": 1}]}, "faults.0.every_s"),
    ],
)
def test_a_setting_or_a_word_by_another_name_leads_to_ours(change, meant):
    assert f"did you mean {meant}?" in refused(BOARD.replace, change)


@pytest.mark.parametrize("path", ["faults.0.length_s", "faults.*.kind", "faults.7.share"])
def test_a_part_of_a_list_is_not_taken_for_a_setting_of_another_section(path):
    message = refused(BOARD.replace, {path: 5})
    assert message.startswith(f"{path}: must be given with the whole of faults")


def test_a_setting_of_a_plan_by_another_name_leads_to_ours():
    plan = sl.Plan(flag={"propagation": "session"})
    assert "did you mean decision.failures?" in refused(plan.replace, {"failureLimit": 3})
    assert "did you mean flag?" in refused(plan.replace, {"flags": {}})
    assert "did you mean rollback.sockets?" in refused(plan.replace, {"sockets": "closed"})
    for given, name, meant in (
        ("stages", "bake", "stages.0.bake_s"),
        ("stages", "setWeight", "stages.0.percent"),
        ("guardrails", "bellow", "guardrails.0.below"),
    ):
        assert f"did you mean {meant}?" in refused(plan.replace, {given: [{name: 5}]})


def read_with(metrics):
    return sl.Plan.load(CANARY, flag={"propagation": "session"}, metrics=metrics)


class Hostile:
    def __repr__(self):
        raise RuntimeError("no words")


@pytest.mark.parametrize(
    "name", [None, 5, 10**5000, b"x", Hostile(), "x" * 10**6], ids=lambda name: type(name).__name__
)
@pytest.mark.parametrize(
    "call",
    [
        sl.library,
        lambda name: BOARD.replace({"transport": name}),
        lambda name: read_with({"a": [] if name is None else name}),  # None leaves a metric out
        lambda name: read_with({"a": (name, 1)}),
        lambda name: sl.sweep(BOARD, [{"clients": 5}], until={name: 1.0}),
    ],
    ids=["library", "transport", "metric", "metric in a pair", "until"],
)
def test_what_nobody_would_call_anything_is_refused_in_words_that_are_short(call, name):
    message = refused(call, name)
    assert "must be" in message
    assert len(message) < 1000


def test_of_a_long_name_only_the_start_is_looked_at():
    assert len(suggestions.plain("x" * 10**6)) == 200


@pytest.mark.parametrize("name", suggestions.NOT_SIMULATED)
def test_a_transport_that_there_is_not_leads_to_no_other_one(name):
    message = refused(BOARD.replace, transport=name)
    assert f"; {suggestions.NOT_SIMULATED[name]} " in message
    assert "not simulated" in message
    assert "did you mean" not in message


@pytest.mark.parametrize("given", [13, 13.0, "13 %", "13%"])
def test_a_percentage_where_a_fraction_belongs_is_said_as_one(given):
    assert "(a fraction: 0.13 for 13 %)" in refused(BOARD.replace, {"wire.gzip_ratio": given})
    assert "(a fraction: 0.13 for 13 %)" in refused(BOARD.replace, {"polling.jitter_frac": given})


@pytest.mark.parametrize("given", [101, 1e9, float("inf"), "13", "13 %%", "% 13"])
def test_what_is_no_percentage_is_not_said_as_one(given):
    assert "fraction:" not in refused(BOARD.replace, {"wire.gzip_ratio": given})


def test_what_stands_where_a_scenario_belongs_leads_to_its_scenario():
    small = BOARD.replace(clients=1, horizon_s=30.0)
    run = sl.simulate(small, engine="simpy")
    assert "that of a run is run.scenario" in refused(sl.simulate, run)
    assert "Scenario.load reads one" in refused(sl.simulate, "matters.toml")
    assert "Scenario(**settings) makes one" in refused(sl.measure, {"clients": 5})
    assert "must be a Scenario, got 5" in refused(sl.simulate, 5)
