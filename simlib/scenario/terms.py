"""Words of the field, and the settings that they are about.

Somebody who searches the settings types what a team says: rooms, 502, sticky, gunicorn. Where no
setting has that name, a row here says which ones it is about, or that simlib does not model it and
what comes nearest.
"""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

from simlib.scenario.suggestions import LIBRARY_ALIASES, NO_PRESET, library_without_preset, plain


class Term(NamedTuple):
    """A word, or several that mean the same.

    Attributes
    ----------
    words : str
        Separated by commas. Capitals and punctuation do not matter.
    paths : str
        The settings that they are about, separated by spaces; those of a plan begin with ``Plan.``.
        Empty: those whose text has the word, if there are any.
    says : str
        What a reader has to know beside the settings, or empty.
    """

    words: str
    paths: str = ""
    says: str = ""


_FAULTS = "faults faults.*.kind"
_NODES = "server.nodes server.balancing"
_BETWEEN = "network.idle_s network.stream_buffer_bytes network.stream_delay_s"
_SYNC_WORKERS = (
    "gunicorn's sync workers (its default) hold one request or stream each, and what is more waits "
    'until one ends: sl.server("gunicorn sync", workers=4) says so. "gunicorn gthread", '
    '"gunicorn gevent", "uvicorn", "puma" and "php-fpm" have theirs.'
)
_POOL = "server.workers server.max_connections server.backlog server.keep_alive_s"
_OF_A_PLAN = "It belongs to the plan of a rollout, not to the scenario."
_RESULT = "It is a result of a run, not a setting: "

TERMS = (
    # -- who gets what ----------------------------------------------------------------------
    Term(
        "room, rooms, channel, channels, topic, topics, namespace, namespaces, tenant, tenants, "
        "multi-tenant",
        "updates.rate_per_s clients",
        "simlib has no rooms, channels or topics: every client gets every change. Give the changes "
        "and the clients of one room; a server's load is that of all its rooms.",
    ),
    Term(
        "presence, typing, cursors, writes, mutations, edits, uploads, optimistic, "
        "optimistic updates",
        "updates.rate_per_s updates.delta_bytes",
        "simlib's clients only read. What they write, their presence included, comes to the others "
        "as changes: add it to the rate. The requests that write are not modelled.",
    ),
    Term(
        "duplicate, duplicates, exactly once, at least once, at most once, ordering, acks, "
        "qos, lost updates, lost messages, missed messages, missed events, last-event-id, cursor, "
        "offset, replay",
        "websocket.resync websocket.replay_changes websocket.recovery_s websocket.or_snapshot",
        "The ledger counts each change once for each client: delivered, lost or pending. "
        "Acknowledgements and duplicates are not modelled.",
    ),
    Term(
        "peak, peak load, peak hours, business hours, time zone, office hours, traffic pattern",
        "sessions.arrivals sessions.curve sessions.length_s",
    ),
    Term(
        "reload, reloads, page reload, page reloads",
        "sessions.arrivals sessions.length_s",
        "A tab that is reloaded is a session that ends and a new one.",
    ),
    Term(
        "nurse, nurses, staff, employee, employees, colleague, colleagues, customer, customers, "
        "student, students, visitor, visitors",
        "clients tabs_per_user sessions.arrivals",
        "simlib knows people by their open tabs: each client is one, and a user may have several.",
    ),
    Term("rps, qps, requests per second", "clients polling.interval_s server.poll_s"),
    # -- answers of HTTP --------------------------------------------------------------------
    Term(
        "500, 501, internal server error",
        _FAULTS + " polling.retries",
        "simlib's servers do not answer 500: they are busy (503), or down.",
    ),
    Term(
        "502",
        "network.bad_gateway sse.retries_http_errors polling.retries " + _FAULTS,
        "While no server is up, connections are refused; with network.bad_gateway a proxy answers "
        "502 instead, which is final to EventSource.",
    ),
    Term(
        "503, service unavailable, overload, load shedding",
        "server.max_connections server.shed_wait_s server.admit_per_s rate_limit.status "
        "sse.retries_http_errors polling.retries",
    ),
    Term(
        "504, gateway timeout",
        "network.idle_s long_polling.timeout_s",
        "A proxy that gives up cuts silent sockets, streams and held requests (network.idle_s), "
        "which their clients take for the end of a connection. A poll is never given up.",
    ),
    Term(
        "429, too many requests",
        "rate_limit rate_limit.status rate_limit.rate_per_s rate_limit.burst polling.retries",
    ),
    Term(
        "401, unauthorized, jwt, oauth, token, tokens, token expiry, expiry, refresh token",
        "websocket.token_valid_s websocket.token_resent server.authenticate_s wire.token_bytes",
    ),
    Term("403, forbidden", "faults.*.answered reconnect.retries_4xx faults.*.kind"),
    Term(
        "404, 410",
        "reconnect.retries_4xx polling.retries",
        "simlib's servers do not answer so: their refusals are 401, 403, 429 and 503.",
    ),
    Term(
        "retry-after",
        "reconnect.policy polling.retry_base_s",
        "simlib's clients do not read the header: they wait as their own rule says.",
    ),
    Term(
        "cookie, cookies, headers, cors, csrf, preflight",
        "wire.token_bytes wire.http_client wire.host",
        "simlib models no cookie and no preflight: requests have the heads of wire.http_client. "
        "Cookies cost bytes, as a longer token does.",
    ),
    # -- servers ----------------------------------------------------------------------------
    Term(
        "gunicorn, sync, gunicorn sync, sync worker, sync workers, worker_class, gevent, eventlet, "
        "gthread, gunicorn gthread, gunicorn gevent, gunicorn workers, wsgi, flask, django, "
        "mod_wsgi, uwsgi, php-fpm, pm.max_children, puma, unicorn",
        f"{_POOL} network.connections_per_user",
        _SYNC_WORKERS,
    ),
    Term(
        "uvicorn, hypercorn, daphne, asgi, fastapi, starlette, django channels, channels-redis, "
        "event loop, async, asyncio, node.js, express, fastify, nestjs server, pm2, cluster mode",
        _POOL,
        "An event loop is one worker: it does its jobs in order, and holds as many connections as "
        'server.max_connections says. sl.server("uvicorn") and "gunicorn gevent" have theirs.',
    ),
    Term(
        "worker timeout, gunicorn timeout, graceful_timeout, max_requests, worker recycling",
        "faults.*.kind faults.*.age_s server.ends_streams",
        "The fault lifetime ends each connection at an age, as a worker that is killed for its "
        "time-out does (gunicorn's timeout, 30 s, of sync workers), or after its last requests.",
    ),
    Term(
        "concurrency, limit_concurrency, max concurrency, concurrent connections, "
        "concurrent requests",
        "server.max_connections server.workers server.shed_wait_s",
    ),
    Term(
        "number of servers, server count, number of nodes, how many instances, spot instance, "
        "instance type, preemption",
        _NODES + " server.workers",
        "sl.fewest says how many are enough. What one costs is sl.Prices(per_server_hour=...); how "
        "fast it is, the times of its jobs say.",
    ),
    Term(
        "redundancy, redundant, high availability, ha, n+1, one server down, one node down, "
        "node failure",
        _NODES + " " + _FAULTS,
        "sl.fewest says how few nodes are enough: add as many as may be missing. The fault "
        "rolling_deploy takes one after the other away, restart all of them. sl.decide pays for "
        "sl.Needs(least_nodes=2).",
    ),
    Term(
        "how many workers, number of workers, worker processes",
        "server.workers server.max_connections",
        'sl.fewest(scenario, "server.workers", ...) says how many are enough.',
    ),
    Term(
        "capacity, how many users, how many clients, scalability",
        "clients tabs_per_user sessions.arrivals server.nodes",
        "sl.find_limit says how many clients a server bears, sl.fewest how many nodes they need.",
    ),
    Term(
        "celery, background job, background jobs, task queue, cron",
        "updates.rate_per_s updates.kind",
        "simlib models no jobs in the background: what they change comes to the clients as "
        "changes, what they take from the server's processors is left out.",
    ),
    Term("listen queue, accept queue", "server.backlog"),
    Term(
        "spring, spring boot, tomcat, kotlin, java",
        "",
        'sl.server("spring: the guide\'s loop") and "spring: the loop repaired" have measured '
        "values.",
    ),
    Term(
        "threads, thread pool, worker threads, processes, cores, cpu, cpus, gil",
        "server.workers server.poll_s server.send_s server.service",
        "A worker is busy for the times of its jobs: measure yours. The processor's share is the "
        "utilisation of a run.",
    ),
    Term(
        "gc, garbage collection, jit",
        "server.service server.service_cv",
        "simlib does not model pauses of a server: a service time that varies comes nearest.",
    ),
    Term("ram, memory, heap, oom", "server.connection_bytes server.buffer_bytes"),
    Term(
        "file descriptors, fd, nofile, epoll, connection limit",
        "server.max_connections server.backlog",
    ),
    Term(
        "database, db, sql, query cost, postgres, postgresql, mysql, mongo, orm, read replica, "
        "connection pool, slow query, query time, query duration",
        "server.poll_s server.snapshot_s server.cache_s polling.etag server.workers",
        "simlib has no database of its own: what a query takes is in the times of the jobs that "
        "make it, and as many run at a time as there are workers.",
    ),
    Term(
        "redis, nats, pub/sub, broker, message broker, message queue, adapter",
        "server.hop_s server.broker_s server.nodes",
    ),
    Term(
        "kafka, rabbitmq, sqs, sns, kinesis, postgres notify, listen/notify",
        "server.hop_s server.broker_s server.nodes",
        "Any broker is a time from node to node and a time for each change: the defaults are not "
        "its own. Partitions, consumer groups and redeliveries are not modelled.",
    ),
    Term(
        "pods, pod, k8s, docker, containers, machines, cluster",
        _NODES + " server.workers",
    ),
    Term(
        "hpa, autoscaling, autoscaler, scaling, scale out, scale up, scale, keda",
        "server.nodes " + _FAULTS,
        "No autoscaler decides during a run: the fault scale_out adds one node at a time that you "
        "give. sl.fewest says how many nodes are enough.",
    ),
    Term(
        "lambda, serverless, cold start, cold starts, edge function",
        _NODES + " server.max_connections server.handshake_s",
        "simlib does not model servers that start with a request: nodes are there from the "
        "beginning, or join by the fault scale_out.",
    ),
    # -- between ----------------------------------------------------------------------------
    Term(
        "sticky, sticky sessions, stickiness, affinity, session affinity, ip hash, "
        "consistent hashing",
        _NODES + " websocket.resync",
        "A connection stays on its node, and a client that comes back goes to any: no balancer "
        "here remembers clients. What a node alone knows (replay, recovery) is then lost to it.",
    ),
    Term(
        "middlebox, middleboxes",
        "network.idle_s faults.*.kind network.stream_buffer_bytes network.stream_held_frac",
        "It cuts what is silent (network.idle_s), answers or swallows upgrades (the fault "
        "block_upgrades), or holds streams back (network.stream_buffer_bytes; for a share of the "
        "clients network.stream_held_frac).",
    ),
    Term(
        "bad_proxy_frac, bad proxy, bad proxies, proxies_answer, trouble.bad_proxy_frac",
        "faults.*.kind faults.*.share faults.*.answered network.stream_held_frac",
        'It is a field of sl.Needs: trouble={"bad_proxy_frac": 0.03}. A scenario has the fault '
        "block_upgrades for such a share of the clients, and network.stream_held_frac for streams.",
    ),
    Term("load balancer, balancer, lb, elb, nlb, f5", _NODES + " network.idle_s"),
    Term(
        "proxy_buffering, x-accel-buffering, buffering, flush",
        "network.stream_buffer_bytes network.stream_delay_s server.ends_streams",
        'sl.proxy("nginx"), "nginx, unbuffered" and "compression middleware" have what was '
        "observed.",
    ),
    Term("nginx, haproxy", "", 'sl.proxy("nginx") and sl.proxy("haproxy") have what they do.'),
    Term(
        "ingress, ingress-nginx, traefik, istio, service mesh, linkerd, reverse proxy, "
        "api gateway, kong",
        _BETWEEN + " server.balancing rate_limit",
        "It is a proxy: give what it does to silent connections and to streams. sl.proxy has "
        "nginx and HAProxy.",
    ),
    Term(
        "cloudflare, cloudfront, fastly, akamai, cdn, edge",
        "network.idle_s network.rtt_quantiles server.cache_s network.stream_buffer_bytes",
        "simlib has no preset of it. It is a proxy with an idle time-out and a round trip; polls "
        "that it answers itself come nearest to server.cache_s, which every node has.",
    ),
    Term(
        "firewall, waf, vpn, corporate proxy, antivirus, zscaler, blocked",
        "faults.*.kind faults.*.answered network.stream_held_frac fallback network.idle_s",
        "The fault block_upgrades is a proxy that lets no WebSocket through, "
        "network.stream_held_frac one that passes on no stream; a path that dies without a word "
        "is path_loss.",
    ),
    Term(
        "nat, dead connection, half-open, silent drop",
        "faults.*.kind network.idle_s network.unanswered_s heartbeat.timeout_s",
    ),
    Term("ssl, https, certificate, certificates", "network.tls server.handshake_s"),
    Term(
        "http3, quic, h3",
        "wire.http network.tls",
        "simlib does not model HTTP/3: HTTP/2 comes nearest.",
    ),
    Term(
        "h2, multiplex, multiplexing, six connections, connection limit of browsers",
        "wire.http network.connections_per_user tabs_per_user sse.streams_per_tab",
    ),
    Term(
        "region, regions, multi-region, availability zone, geography",
        "network.rtt_quantiles network.rtt_spread server.hop_s",
        "All nodes are as far from a client: regions that have their own servers are boards of "
        "their own.",
    ),
    Term(
        "mobile, wifi, 4g, 5g, battery, sleep, laptop, laptop lid",
        _FAULTS + " network.rtt_spread hidden",
        "A device that changes its network or sleeps is the fault path_loss, for a share of the "
        "clients; batteries are not modelled.",
    ),
    Term(
        "offline, netsplit, network partition, partition, black hole, packet loss",
        _FAULTS + " faults.*.share network.unanswered_s",
        "Single packets are never lost: the fault path_loss takes a path away, latency and "
        "bandwidth make it slower.",
    ),
    Term("bandwidth", "network.shared_down_bytes_per_s faults.*.bytes_per_s faults.*.kind"),
    Term(
        "pushpin, fanout.io",
        "transport server.max_connections network.stream_buffer_bytes",
        "simlib has no preset of it. A proxy that holds the streams in the server's place has "
        "connections of its own: give server.max_connections what it bears.",
    ),
    Term(
        "grpc, webtransport, webrtc, http streaming, ndjson",
        "transport",
        "simlib does not model it. A stream that the server writes to (sse) comes nearest.",
    ),
    # -- when it goes wrong -----------------------------------------------------------------
    Term("crash, kill, outage, downtime, failover, chaos, maintenance", _FAULTS),
    Term(
        "deploy, deployment, zero downtime, draining, rolling update, rolling restart, sigterm, "
        "graceful, graceful shutdown, shutdown",
        "faults.*.kind faults.*.every_s faults.*.surge faults.*.batches server.ends_streams faults",
    ),
    Term(
        "blue-green, blue and green",
        "faults.*.surge faults.*.kind faults.*.every_s Plan.stages",
        "As a deploy it is the fault rolling_deploy with a surge of server.nodes; of users, a plan "
        "with one stage.",
    ),
    Term(
        "backoff, exponential backoff",
        "reconnect.policy reconnect.base_s reconnect.cap_s reconnect.factor polling.retries "
        "polling.retry_base_s",
    ),
    Term(
        "thundering herd, herd, stampede, reconnect storm, spike",
        "reconnect.policy reconnect.jitter_frac notify.spread_s server.admit_per_s server.backlog "
        "server.cache_s",
    ),
    Term(
        "slow client, slow clients, slow consumer, backpressure",
        "server.slow_consumers server.buffer_bytes server.socket_bytes server.write_timeout_s",
    ),
    # -- browsers and their libraries -------------------------------------------------------
    Term(
        "react query, axios, fetch api, usequery",
        "polling.interval_s polling.retries polling.stale_s polling.refetch_on_focus",
    ),
    Term(
        "eventsource, server-sent events, sse-starlette, streamingresponse, text/event-stream",
        "transport reconnect.base_s sse.retries_http_errors sse.retries_ended sse.watches "
        "heartbeat.direction network.stream_buffer_bytes network.connections_per_user",
        'sl.library("eventsource") and sl.library("fetch-event-source") have their defaults.',
    ),
    Term(
        "sse comment, keepalive comment",
        "heartbeat.direction heartbeat.interval_s sse.watches heartbeat.any_message",
    ),
    Term(
        "client library, client libraries",
        "reconnect.policy heartbeat.interval_s websocket.open_timeout_s sse.retries_http_errors",
        'sl.library("?") lists those whose defaults there are.',
    ),
    Term("debounce", "notify.spread_s notify.on_hint"),
    Term(
        "visibilitychange, page visibility, background tab, inactive tab",
        "hidden polling.pause_while_hidden polling.hidden_interval_s timer_throttling "
        "reconnect.while_hidden",
    ),
    Term(
        "sharedworker, service worker, broadcastchannel, leader election, web locks",
        "tabs_per_user clients",
        "simlib does not model tabs that share a connection: a board with a client for each user "
        "comes nearest.",
    ),
    Term(
        "zstd, brotli compression, websocket compression",
        "wire.gzip_ratio wire.deflate_ratio server.send_s server.connection_bytes",
    ),
    # -- rollouts, and what is no setting ---------------------------------------------------
    Term(
        "canary, rollout, ramp up, percentage",
        "Plan.stages Plan.stages.*.percent Plan.stages.*.bake_s",
        _OF_A_PLAN,
    ),
    Term(
        "feature flag, feature flags, feature toggle, unleash, growthbook, a/b, a/b test, "
        "experiment",
        "Plan.bucketing.rule Plan.flag.propagation Plan.flag.every_s",
        _OF_A_PLAN,
    ),
    Term(
        "kill switch, rollback",
        "Plan.kill_s Plan.rollback.percents Plan.rollback.sockets Plan.rollback.window_s",
        _OF_A_PLAN,
    ),
    Term(
        "cost, costs, price, prices, money, bill, budget, cheap, expensive, per month",
        says=_RESULT + "see sl.Prices.",
    ),
    Term(
        "egress, egress cost, ingress cost, traffic, network traffic, data transfer, gb, gigabytes",
        "updates.delta_bytes updates.snapshot_bytes wire.gzip_ratio wire.deflate_ratio",
        _RESULT + "run.summary() has the bytes of a client, sl.Prices(per_gb_down=...) what they "
        "cost.",
    ),
    Term(
        "payload, payload size, message size, json size, response size",
        "updates.delta_bytes updates.snapshot_bytes wire.gzip_ratio wire.deflate_ratio",
    ),
    Term(
        "load test, load testing, soak test",
        "clients ramp_s horizon_s",
        "sl.measure runs a scenario on real sockets of this machine; sl.corrected_guide writes a "
        "load test for yours.",
    ),
    Term(
        "alert, alerts, alerting, monitoring",
        "Plan.guardrails Plan.guardrails.*.metric Plan.check_every_s",
        _OF_A_PLAN,
    ),
    Term(
        "shadow, shadow traffic, dark launch, mirroring",
        "Plan.stages websocket.safety_poll_s",
        "simlib does not model traffic that nobody sees. Clients that are pushed to and poll "
        "beside it have websocket.safety_poll_s.",
    ),
    Term(
        "slo, sla, uptime, availability, staleness, freshness, p50, p95, p99, percentile, "
        "error rate, error budget",
        says=_RESULT + "run.summary() has it, sl.Needs judges by it and Plan.guardrails too.",
    ),
    Term(
        "seed, replications, replicate, engine",
        says="It is given to the call, not to the scenario: sl.simulate(scenario, seed=1).",
    ),
)
"""Rows in which no word stands twice."""


@cache
def _by_word() -> dict[str, Term]:
    return {plain(word): term for term in TERMS for word in term.words.split(",")}


def term_of(word: str) -> Term | None:
    """Return what a word is about, or None if nothing is said of it.

    Names of client libraries lead to their presets.

    Examples
    --------
    >>> term_of("Sticky sessions").paths
    'server.nodes server.balancing websocket.resync'
    >>> term_of("LiveView").says
    'sl.library("phoenix") has its defaults.'
    >>> term_of("xyzzy") is None
    True
    """
    asked = plain(word)
    if asked in _by_word():
        return _by_word()[asked]
    presets = {**{plain(name): name for name in LIBRARY_ALIASES.values()}, **LIBRARY_ALIASES}
    if asked in presets:
        return Term(word, "", f'sl.library("{presets[asked]}") has its defaults.')
    without = library_without_preset(word)
    if without in NO_PRESET:
        paths = "reconnect.policy reconnect.base_s reconnect.cap_s heartbeat.interval_s"
        return Term(word, paths, f"There is no preset of it: {NO_PRESET[without]}.")
    return None
