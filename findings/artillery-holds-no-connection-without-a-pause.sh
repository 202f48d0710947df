#!/usr/bin/env bash
# Artillery's WebSocket engine: virtual users are not connections that are held.
#
# One may expect that a scenario of the engine `ws` opens a connection for each virtual user and
# keeps it: an arrival rate of 10 a second for 10 s would hold 100 connections. Shown here, with a
# plain server of the package ws that counts:
#
# - a scenario without a flow is refused, and no connection is ever made;
# - a scenario that sends one message closes each connection some milliseconds after it has opened:
#   100 virtual users hold one or two connections at a time, and Artillery reports no failure;
# - only a `think` in the flow holds them: 30 virtual users, 30 connections.
#
# The documentation of the engine says that a connection is opened for each virtual user, not that
# it is closed at the end of the flow. What to do: end the flow with a `think` as long as a session.
set -euo pipefail

ARTILLERY=2.0.34
WS=8.23.0
PORT=${PORT:-38117}

folder=$(mktemp -d)
server=
trap '[ -z "$server" ] || kill "$server" 2>/dev/null || true; rm -rf "$folder"' EXIT
cd "$folder"
export ARTILLERY_DISABLE_TELEMETRY=true
echo '{"private": true}' > package.json
npm install --silent --no-audit --no-fund --ignore-scripts "artillery@$ARTILLERY" "ws@$WS"
echo "artillery $ARTILLERY, ws $WS, node $(node --version)"

cat > server.mjs <<'JS'
import { WebSocketServer } from "ws";
const server = new WebSocketServer({ host: "127.0.0.1", port: Number(process.argv[2]) });
let open = 0, peak = 0, total = 0;
server.on("listening", () => console.log("listening"));
server.on("connection", (socket) => {
  total += 1;
  peak = Math.max(peak, ++open);
  socket.on("close", () => (open -= 1));
});
process.on("SIGTERM", () => {
  console.log(`${total} ${peak}`);
  process.exit(0);
});
JS

# run NAME SECONDS FLOW...: writes a scenario, runs it, and sets status, total and peak.
run() {
  local name=$1 seconds=$2
  shift 2
  {
    printf 'config:\n  target: "ws://127.0.0.1:%s"\n' "$PORT"
    printf '  phases:\n    - duration: %s\n      arrivalRate: 10\n' "$seconds"
    printf 'scenarios:\n  - name: "%s"\n    engine: ws\n    weight: 100\n' "$name"
    printf '%s\n' "$@"
  } > "$name.yml"
  node server.mjs "$PORT" > counted &
  server=$!
  for _ in $(seq 100); do grep -q listening counted && break; sleep 0.1; done
  status=0
  timeout 120 node node_modules/artillery/bin/run run "$name.yml" > said 2>&1 || status=$?
  kill "$server"
  wait "$server" || true
  server=
  read -r total peak < <(tail -n 1 counted)
  failed=$(sed -n 's/^vusers\.failed: \.* *//p' said | tail -n 1)
  echo "$name: exit $status, $total connections, at most $peak at once, failed: ${failed:-none counted}"
}

expect() {
  if ! [ "$1" "$2" "$3" ]; then
    echo "the behaviour has changed: $4 is $1, expected $2 $3" >&2
    exit 1
  fi
}

run "without-a-flow" 10
grep -E "flow.*required" said
expect "$status" -ne 0 "exit status without a flow"
expect "$total" -eq 0 "connections without a flow"

run "one-message" 10 '    flow:' '      - send: "hello"'
expect "$status" -eq 0 "exit status with one message"
expect "$total" -eq 100 "connections with one message"
expect "$peak" -le 5 "connections at once with one message"
expect "$failed" -eq 0 "virtual users that failed"

run "a-pause" 3 '    flow:' '      - think: 8'
expect "$total" -eq 30 "connections with a pause"
expect "$peak" -eq 30 "connections at once with a pause"
echo "as described"
