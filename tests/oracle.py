"""A naive second opinion on small cases without queues: its own arithmetic, none of simlib's rules.

It knows one client at a time, walks its life in plain loops, and returns what the client has seen
and when. Constant service, as many workers as it takes, no faults.
"""

from __future__ import annotations


def polled(workload, scenario, client, drags):
    """(version, time) pairs that a polling client sees, in order; drags as (start, end) pairs."""
    trip = float(workload.rtt_s[client])
    fetch = trip + scenario.server.poll_s
    horizon, end = scenario.horizon_s, float(workload.end_s[client])
    t = float(workload.start_s[client])
    seen = sum(1 for p in workload.publish_s if p < t)
    drops = [stop for _, stop in drags]
    out, first = [], True
    while True:
        # The first fetch pays for its connection: TCP, and TLS where there is any.
        setup = trip * (2 if scenario.network.tls else 1) if first else 0.0
        first = False
        back = t + setup + fetch
        if back >= min(end, horizon):
            return out
        read = t + setup + trip / 2 + scenario.server.poll_s
        for version, published in enumerate(workload.publish_s, start=1):
            if seen < version and published <= read:
                out.append((version, back))
                seen = version
        # The next tick, unless a drag stands over it: then the drop is when it happens. A drag
        # that begins and ends in between also ends with a fetch.
        t = back + scenario.polling.interval_s
        inside = [stop for start, stop in drags if start <= back < stop]
        later = [stop for start, stop in drags if back <= start < t]
        if inside:
            t = inside[0]
        elif later:
            t = min(later)
        assert t in drops or t == back + scenario.polling.interval_s


def pushed(workload, scenario, client):
    """(version, time) pairs that a pushed client sees, in order, when sends cost nothing."""
    trip = float(workload.rtt_s[client])
    server = scenario.server
    # TCP, TLS and the upgrade are a round trip each; the token needs half of one more.
    stages = 3 if scenario.network.tls else 2
    upgraded = float(workload.start_s[client]) + trip * stages + server.handshake_s
    listening = upgraded + trip / 2 + server.authenticate_s
    ready = listening + trip / 2
    end = min(float(workload.end_s[client]), scenario.horizon_s)
    start = float(workload.start_s[client])
    out = []
    for version, published in enumerate(workload.publish_s, start=1):
        if published < start:
            continue
        if published <= listening:
            if scenario.websocket.resync == "snapshot" and ready < end:
                out.append((version, ready))
        elif published + trip / 2 < end:
            out.append((version, published + trip / 2))
    return out
