#!/usr/bin/env bash
# nginx 1.22 ends the event stream of a server that was killed as if the server had ended it.
#
# A stream over HTTP/1.1 that breaks off lacks its last chunk, by which clients tell a crash from an
# end. nginx 1.22 asks its server by HTTP/1.0 (proxy_http_version), where the end of the connection
# is the end of the answer: when the server's process is killed, nginx adds the last chunk.
# Shown here, with nginx and @microsoft/fetch-event-source alone:
#
# - a server that is killed (FIN): behind nginx the stream comes to its proper end, by itself not;
# - fetch-event-source takes a proper end for an answer that is complete: it comes back a second after
#   the kill by itself, and never behind nginx, though the server is back;
# - a server that resets its connection (RST), and one that is silent for proxy_read_timeout: nginx
#   cuts the stream, without a last chunk;
# - with proxy_http_version 1.1 the killed server's stream is cut too: that is the remedy.
#
# nginx's documentation of proxy_http_version says that 1.0 is the default, not what that does to the
# ends of streams. What to do: proxy_http_version 1.1, or in the client an `onclose` that throws, as
# fetch-event-source's README shows.
#
# All of it was expected before the first run, and came out so with nginx 1.22.1 (Debian 12),
# fetch-event-source 2.0.1 and Node.js 20.20.2: by itself 2 streams, behind nginx 1, by 1.1 again 2.
#
# It needs Debian 12 (nginx is downloaded by apt-get, not installed), Node.js 20 and Python.
set -euo pipefail

NGINX=1.22.1-9+deb12u9
CLIENT=2.0.1
PORT=${PORT:-38131} # and the three above

folder=$(mktemp -d)
chmod 755 "$folder"
server=
proxy=
trap '[ -z "$server" ] || kill -9 "$server" 2>/dev/null || true
[ -z "$proxy" ] || kill "$proxy" 2>/dev/null || true
sleep 0.2; rm -rf "$folder"' EXIT
cd "$folder"
apt-get download -q "nginx=$NGINX" >/dev/null 2>&1
dpkg -x nginx_*.deb nginx
echo '{"private": true}' > package.json
npm install --silent --no-audit --no-fund --ignore-scripts "@microsoft/fetch-event-source@$CLIENT"
echo "$(nginx/usr/sbin/nginx -v 2>&1), fetch-event-source $CLIENT, node $(node --version)"

# The server: an event at once; /reset breaks the connection off by RST after a second.
cat > server.mjs <<'JS'
import http from "node:http";
http.createServer((request, response) => {
  response.writeHead(200, { "Content-Type": "text/event-stream", "X-Accel-Buffering": "no" });
  response.write("data: hello\n\n");
  if (request.url === "/reset") setTimeout(() => request.socket.resetAndDestroy(), 1000);
}).listen(Number(process.argv[2]), "127.0.0.1", () => console.log("listening"));
JS

# What comes of a stream: "proper" if the last thing is its last chunk, or "cut".
cat > read.py <<'PY'
import socket, sys
connection = socket.create_connection(("127.0.0.1", int(sys.argv[1])))
connection.settimeout(30)
connection.sendall(f"GET {sys.argv[2]} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
text = b""
try:
    while not text.endswith(b"\r\n0\r\n\r\n") and (piece := connection.recv(65536)):
        text += piece
except ConnectionResetError:
    pass
assert b"chunked" in text and b"hello" in text, text
print("proper" if text.endswith(b"\r\n0\r\n\r\n") else "cut")
PY

# How many streams the client opens in 8 s, and whether its promise is fulfilled. Node.js has no page.
cat > client.mjs <<'JS'
globalThis.window = globalThis;
globalThis.document = new EventTarget();
const { fetchEventSource } = await import("@microsoft/fetch-event-source");
let opened = 0, fulfilled = false;
fetchEventSource(`http://127.0.0.1:${process.argv[2]}/`, {
  openWhenHidden: true,
  onmessage: () => console.log(`open ${(opened += 1)}`),
}).then(() => (fulfilled = true));
setTimeout(() => {
  console.log(`${opened} ${fulfilled}`);
  process.exit(0);
}, 8000);
JS

cat > nginx.conf <<CONF
daemon off;
master_process off;
pid $folder/nginx.pid;
error_log $folder/errors;
events {}
http {
  access_log off;
  client_body_temp_path $folder/body;
  proxy_temp_path $folder/proxied;
  fastcgi_temp_path $folder/fastcgi;
  uwsgi_temp_path $folder/uwsgi;
  scgi_temp_path $folder/scgi;
  server { listen 127.0.0.1:$((PORT + 1)); location / { proxy_pass http://127.0.0.1:$PORT; } }
  server {
    listen 127.0.0.1:$((PORT + 2));
    location / { proxy_pass http://127.0.0.1:$PORT; proxy_http_version 1.1; }
  }
  server {
    listen 127.0.0.1:$((PORT + 3));
    location / { proxy_pass http://127.0.0.1:$PORT; proxy_read_timeout 2s; }
  }
}
CONF
nginx/usr/sbin/nginx -p "$folder" -c nginx.conf -e "$folder/errors" &
proxy=$!

start() {
  node server.mjs "$PORT" > said &
  server=$!
  for _ in $(seq 100); do grep -q listening said && return; sleep 0.1; done
  echo "the server did not start" >&2
  exit 1
}

kill_server() {
  kill -9 "$server"
  wait "$server" 2>/dev/null || true
  server=
}

expect() {
  echo "$1: $2"
  if [ "$2" != "$3" ]; then
    echo "the behaviour has changed: $1 is $2, expected $3" >&2
    exit 1
  fi
}

# ended NAME PORT EXPECTED: the stream of a server that is killed after a second.
ended() {
  start
  python3 read.py "$2" / > end &
  local reader=$!
  sleep 1.5
  kill_server
  wait "$reader"
  expect "a killed server, $1" "$(cat end)" "$3"
}

# returns NAME PORT EXPECTED: a client whose server is killed, and is back at once.
returns() {
  start
  node client.mjs "$2" > counted &
  local client=$!
  for _ in $(seq 70); do grep -q open counted && break; sleep 0.1; done
  kill_server
  start
  wait "$client"
  kill_server
  expect "streams of fetch-event-source, and whether it is done, $1" "$(tail -n 1 counted)" "$3"
}

ended "by itself" "$PORT" cut
ended "behind nginx" $((PORT + 1)) proper
ended "behind nginx with proxy_http_version 1.1" $((PORT + 2)) cut
start
expect "a reset connection, behind nginx" "$(python3 read.py $((PORT + 1)) /reset)" cut
expect "2 s of silence, behind nginx" "$(python3 read.py $((PORT + 3)) /)" cut
kill_server
returns "by itself" "$PORT" "2 false"
returns "behind nginx" $((PORT + 1)) "1 true"
returns "behind nginx with proxy_http_version 1.1" $((PORT + 2)) "2 false"
echo "as described"
