"""sl.settings() finds a setting by any of its names, and its page is up to date."""

from __future__ import annotations

import html
from pathlib import Path

import pytest

import simlib as sl
from simlib.publish import reference
from simlib.publish.site import Site

PAGE = Path(__file__).parents[2] / "data" / "settings.md"


def paths(search):
    return [one.path for one in sl.settings(search)]


def test_the_page_of_settings_is_up_to_date():
    text = PAGE.read_text(encoding="utf-8")
    assert text == reference.page(), "python -m simlib.publish.reference data/settings.md"
    for one in sl.settings():
        assert f"| `{one.path.removeprefix('Plan.')}` |" in text


@pytest.mark.parametrize(
    ("search", "path"),
    [
        ("refetchInterval", "polling.interval_s"),
        ("pingInterval", "heartbeat.interval_s"),
        ("ping_interval", "heartbeat.interval_s"),
        ("PINGTIMEOUT", "heartbeat.timeout_s"),
        ("reconnectionDelay", "reconnect.base_s"),
        ("proxy_read_timeout", "network.idle_s"),
        ("keepalive_timeout", "server.keep_alive_s"),
        ("worker_connections", "server.max_connections"),
        ("failureLimit", "Plan.decision.failures"),
        ("network.idle_s", "network.idle_s"),
        ("idle_s", "network.idle_s"),
        ("how many servers", "server.nodes"),
    ],
)
def test_a_name_leads_to_its_setting_alone(search, path):
    assert paths(search) == [path]


@pytest.mark.parametrize(
    ("search", "path"),
    [
        ("rooms", "updates.rate_per_s"),
        ("channels", "clients"),
        ("500", "faults.*.kind"),
        ("502", "network.bad_gateway"),
        ("503", "server.max_connections"),
        ("504", "network.idle_s"),
        ("429", "rate_limit.status"),
        ("gunicorn", "server.workers"),
        ("gevent", "server.max_connections"),
        ("uvicorn", "server.workers"),
        ("swr", "polling.interval_s"),
        ("refreshInterval", "polling.interval_s"),
        ("dedupingInterval", "polling.stale_s"),
        ("React Query", "polling.interval_s"),
        ("EventSource", "transport"),
        ("Last-Event-ID", "websocket.resync"),
        ("sticky", "server.balancing"),
        ("session affinity", "server.balancing"),
        ("proxy_buffering", "network.stream_buffer_bytes"),
        ("X-Accel-Buffering", "network.stream_buffer_bytes"),
        ("hpa", "server.nodes"),
        ("autoscaling", "server.nodes"),
        ("redis", "server.hop_s"),
        ("kafka", "server.broker_s"),
        ("cloudflare", "network.idle_s"),
        ("alb", "network.idle_s"),
        ("ingress", "network.idle_s"),
        ("JWT", "websocket.token_valid_s"),
        ("SSL", "network.tls"),
        ("HTTP/3", "wire.http"),
        ("Postgres", "server.poll_s"),
        ("thread pool", "server.workers"),
        ("RAM", "server.connection_bytes"),
        ("pods", "server.nodes"),
        ("region", "network.rtt_quantiles"),
        ("backoff", "reconnect.policy"),
        ("thundering herd", "reconnect.jitter_frac"),
        ("packet loss", "faults.*.kind"),
        ("firewall", "faults.*.answered"),
        ("crash", "faults.*.kind"),
        ("SIGTERM", "server.ends_streams"),
        ("file descriptors", "server.max_connections"),
        ("peak hours", "sessions.curve"),
        ("feature flag", "Plan.flag.propagation"),
        ("canary", "Plan.stages"),
        ("blue-green", "faults.*.surge"),
        ("rolling update", "faults.*.surge"),
        ("MQTT", "reconnect.base_s"),
        ("SharedWorker", "tabs_per_user"),
        ("sync", "server.workers"),
        ("gunicorn gthread", "server.keep_alive_s"),
        ("graceful_timeout", "faults.*.age_s"),
        ("redundancy", "server.nodes"),
        ("N+1", "server.nodes"),
        ("how many workers", "server.workers"),
        ("concurrency", "server.max_connections"),
        ("egress", "updates.snapshot_bytes"),
        ("message size", "updates.delta_bytes"),
        ("six connections", "network.connections_per_user"),
        ("sse-starlette", "heartbeat.direction"),
        ("zero downtime", "faults.*.kind"),
        ("load test", "ramp_s"),
        ("slow query", "server.snapshot_s"),
        ("asyncio", "server.workers"),
        ("alert", "Plan.guardrails"),
        ("debounce", "notify.spread_s"),
        ("retry", "reconnect.base_s"),
    ],
)
def test_a_word_that_an_engineer_types_finds_the_setting_that_it_is_about(search, path):
    assert path in paths(search)


@pytest.mark.parametrize(
    ("search", "words"),
    [
        ("rooms", "every client gets every change"),
        ("presence", "as changes: add it to the rate"),
        ("502", "which is final to EventSource"),
        ("Retry-After", "do not read the header"),
        ("gunicorn", "hold one request or stream each"),
        ("sticky", "no balancer here remembers clients"),
        ("hpa", "the fault scale_out adds one"),
        ("kafka", "Partitions, consumer groups and redeliveries are not modelled"),
        ("cloudflare", "no preset"),
        ("quic", "HTTP/2 comes nearest"),
        ("LiveView", 'sl.library("phoenix")'),
        ("mqtt", "its reconnectPeriod"),
        ("price", "sl.Prices"),
        ("p99", "run.summary()"),
        ("gunicorn", 'sl.server("gunicorn sync", workers=4)'),
        ("egress", "sl.Prices(per_gb_down=...)"),
        ("redundancy", "add as many as may be missing"),
        ("capacity", "sl.find_limit"),
        ("celery", "no jobs in the background"),
    ],
)
def test_what_is_not_modelled_or_not_a_setting_is_said_above_what_comes_nearest(search, words):
    found = sl.settings(search)
    assert words in found.note
    assert " ".join(repr(found).split()).startswith(found.note)
    assert f"<p>{html.escape(found.note)}</p>" in found._repr_html_()


def test_every_name_leads_to_its_setting():
    for one in sl.settings():
        for name in reference._names(one).values():
            assert one in list(sl.settings(name)), name


def test_a_word_leads_to_all_that_it_is_said_of():
    assert {"heartbeat.direction", "server.heartbeat_s"} <= set(paths("heartbeat"))
    assert "network.idle_s" in paths("nginx")
    assert "heartbeat.interval_s" in paths("socketio")
    assert paths("rtt") == ["network.rtt_s", "network.rtt_spread", "network.rtt_quantiles"]
    assert "reconnect.base_s" in paths("first delay")
    assert all(path.startswith("Plan.") for path in paths("plan"))
    assert not any(path.startswith("Plan.") for path in paths("scenario"))
    assert len(sl.settings()) == len(sl.settings("plan")) + len(sl.settings("scenario"))


@pytest.mark.parametrize(
    ("search", "hint"),
    [("refetchIntervall", "refetchInterval?"), ("pingIntervall", "ping_interval?"), ("xyzzy", "")],
)
def test_what_is_not_found_is_refused_with_the_nearest_name(search, hint):
    with pytest.raises(sl.ScenarioError) as caught:
        sl.settings(search)
    assert hint in str(caught.value)
    assert ("did you mean" in str(caught.value)) == bool(hint)


def test_only_text_can_be_searched_for():
    with pytest.raises(sl.ScenarioError, match="search: must be text, got 5"):
        sl.settings(5)


def test_settings_are_shown_as_text_as_html_and_as_a_table():
    found = sl.settings("rtt")
    assert repr(found).startswith("network.rtt_s = 0.04 s    >= 0\n    Round-trip time")
    assert "&gt;= 0" in found._repr_html_()
    assert found.table["setting"].tolist() == [one.path for one in found]
    assert found[0] == next(iter(found))


def test_a_report_has_the_settings_as_a_page(tmp_path):
    [index] = Site([]).write_folder(tmp_path)
    text = (tmp_path / "settings.html").read_text(encoding="utf-8")
    for one in sl.settings():
        assert f'<h3 id="{one.path}">' in text
        assert html.escape(one.meaning) in text
    assert '<a href="settings.html">' in index.read_text(encoding="utf-8")


def test_the_page_can_be_written_by_a_command(tmp_path, capsys):
    reference.main([str(tmp_path / "page.md")])
    reference.main([])
    assert (tmp_path / "page.md").read_text(encoding="utf-8") == capsys.readouterr().out
    with pytest.raises(SystemExit, match="usage"):
        reference.main(["a", "b"])
