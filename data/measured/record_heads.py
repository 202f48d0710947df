"""Record the request heads that real clients send, into ``heads.json`` beside this file.

Run it by hand (``python data/measured/record_heads.py``) on a machine with Chromium, the openssl
command line and the packages aiohttp, websockets and hpack; it takes about fifteen seconds and
touches loopback only. A TLS server on 127.0.0.1 stands for ``https://app.example.com``: a page
sets three cookies, polls with an ``Authorization`` header (the third time the browser adds
``If-None-Match`` by itself) and opens a WebSocket. The same page is loaded over HTTP/1.1 and
over HTTP/2. TLS matters: browsers send client hints, ``Sec-Fetch-*`` and ``zstd`` to secure
origins only.

Cookie, token, key and ETag are replaced by ``{cookie}``, ``{token}``, ``{key}``, ``{etag}``. For
TLS the bytes of the full handshake are stored, session tickets included.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import json
import os
import platform
import re
import shutil
import signal
import socket
import ssl
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from importlib.metadata import version as package_version
from pathlib import Path
from typing import Any

import aiohttp
import hpack
import websockets

HOST = "app.example.com"
COOKIES = {
    "JSESSIONID": "8C2F5E0B7A9D41436B1E0F2D9C8A7B65",
    "XSRF-TOKEN": "3f2b8c1e-9d47-4a6b-8e05-1c7d2a9f6b34",
    "_ga": "GA1.1.1406724893.1790150400",
}
TOKEN = "eyJhbGciOiJIUzI1NiJ9." + "x" * 180
ETAG = '"0000000042"'
COOKIE = "; ".join(f"{name}={value}" for name, value in COOKIES.items())
PAGE = f"""<!doctype html><link rel="icon" href="data:,"><script>
const poll = headers => fetch("/api/matters", {{headers}}).then(reply => reply.text());
(async () => {{
  const bearer = {{Authorization: "Bearer {TOKEN}"}};
  await poll({{}}); await poll(bearer); await poll(bearer); await poll(bearer);
  const socket = new WebSocket("wss://{HOST}/ws/matters");
  socket.onopen = socket.onerror = () => fetch("/done");
}})();
</script>"""

Headers = list[tuple[str, str]]


class Tls:
    """A blocking TLS server connection over memory BIOs, which shows every byte."""

    def __init__(self, sock: socket.socket, context: ssl.SSLContext) -> None:
        self.sock, self.incoming, self.outgoing = sock, ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(self.incoming, self.outgoing, server_side=True)
        up = down = 0
        while True:
            try:
                self.tls.do_handshake()
            except ssl.SSLWantReadError:
                down += self._flush()
                up += self._fill()
            else:
                break
        self.handshake = {"up": up - self.incoming.pending, "down": down + self._flush()}

    def _flush(self) -> int:
        data = self.outgoing.read()
        self.sock.sendall(data)
        return len(data)

    def _fill(self) -> int:
        data = self.sock.recv(65536)
        if not data:
            raise EOFError
        return self.incoming.write(data)

    def read(self) -> bytes:
        """Return what the client sent next, decrypted."""
        while True:
            try:
                data = self.tls.read(65536)
            except ssl.SSLWantReadError:
                self._fill()
            else:
                if not data:
                    raise EOFError
                return data

    def write(self, data: bytes) -> None:
        """Encrypt and send."""
        self.tls.write(data)
        self._flush()


class Recorder:
    """The server: replies to the page's requests and keeps every head it is sent."""

    def __init__(self, context: ssl.SSLContext) -> None:
        self.context = context
        self.heads: list[str] = []
        self.requests: list[dict[str, Any]] = []  # HTTP/2
        self.setup: list[dict[str, Any]] = []  # HTTP/2 frames before the first request
        self.handshakes: list[dict[str, int]] = []
        self.done = threading.Event()
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self.listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                sock, _ = self.listener.accept()
                threading.Thread(target=self._serve, args=(sock,), daemon=True).start()

    def _serve(self, sock: socket.socket) -> None:
        with sock, contextlib.suppress(EOFError, OSError):
            sock.settimeout(20)
            connection = Tls(sock, self.context)
            self.handshakes.append(connection.handshake)
            http2 = connection.tls.selected_alpn_protocol() == "h2"
            (self._http2 if http2 else self._http1)(connection)

    def reply(self, path: str, polls: int) -> tuple[Headers, bytes]:
        """Headers and body to answer with; from the second bearer poll on with an ETag."""
        if path == "/":
            cookies = [("set-cookie", f"{k}={v}; Path=/; Secure") for k, v in COOKIES.items()]
            return [("content-type", "text/html"), *cookies], PAGE.encode()
        validators = [("etag", ETAG), ("cache-control", "no-cache")] if polls > 2 else []
        return [("content-type", "application/json"), *validators], b"[]"

    def _http1(self, connection: Tls) -> None:
        data, polls = b"", 0
        while True:
            while b"\r\n\r\n" not in data:
                data += connection.read()
            raw, data = data.split(b"\r\n\r\n", 1)
            head = raw.decode("ascii")
            path = head.split(" ")[1]
            fields = dict(line.split(": ", 1) for line in head.split("\r\n")[1:])
            self.heads.append(head)
            if path == "/done":
                self.done.set()
            if "Sec-WebSocket-Key" in fields:
                magic = fields["Sec-WebSocket-Key"] + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
                accept = base64.b64encode(hashlib.sha1(magic.encode()).digest()).decode()
                connection.write(
                    b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n"
                    b"Connection: Upgrade\r\nSec-WebSocket-Accept: " + accept.encode() + b"\r\n\r\n"
                )
                continue
            polls += path == "/api/matters"
            headers, body = self.reply(path, polls)
            status = "304 Not Modified" if "If-None-Match" in fields else "200 OK"
            body = b"" if "If-None-Match" in fields else body
            lines = [f"HTTP/1.1 {status}", *(f"{k}: {v}" for k, v in headers)]
            lines += [f"content-length: {len(body)}"] if status == "200 OK" else []
            connection.write("\r\n".join([*lines, "", ""]).encode() + body)

    def _http2(self, connection: Tls) -> None:
        data, polls, setup = b"", 0, []
        decoder, encoder = hpack.Decoder(), hpack.Encoder()

        def frame(kind: int, flags: int, stream: int, body: bytes) -> bytes:
            return len(body).to_bytes(3) + bytes([kind, flags]) + stream.to_bytes(4) + body

        def take(n: int) -> bytes:
            nonlocal data
            while len(data) < n:
                data += connection.read()
            taken, data = data[:n], data[n:]
            return taken

        take(24)
        connection.write(frame(4, 0, 0, b""))
        while True:
            header = take(9)
            length, kind, flags = int.from_bytes(header[:3]), header[3], header[4]
            stream, body = int.from_bytes(header[5:]), take(length)
            if kind == 4 and not flags & 1:
                connection.write(frame(4, 1, 0, b""))
            if kind != 1:
                setup.append({"type": kind, "bytes": 9 + length})
                continue
            if len(self.setup) == 0:
                self.setup = setup[:]
            block = body[5:] if flags & 0x20 else body  # 5 bytes of priority fields
            headers = [(str(h[0]), str(h[1])) for h in decoder.decode(block)]
            path = dict(headers)[":path"]
            self.requests.append(
                {"headers": headers, "frame_bytes": 9 + length, "block_bytes": len(block)}
            )
            if path == "/done":
                self.done.set()
            conditional = "if-none-match" in dict(headers)
            polls += path == "/api/matters"
            extra, text = self.reply(path, polls)
            status = "304" if conditional else "200"
            answer = encoder.encode([(":status", status), *extra])
            connection.write(frame(1, 4, stream, answer))
            connection.write(frame(0, 1, stream, b"" if conditional else text))


def certificate(folder: Path) -> tuple[Path, Path]:
    """Make a self-signed EC P-256 certificate and its key with the openssl command line."""
    cert, key = folder / "cert.pem", folder / "key.pem"
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-nodes", "-days", "2"),
            *("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"),
            *("-subj", f"/CN={HOST}", "-addext", f"subjectAltName=DNS:{HOST}"),
            *("-keyout", str(key), "-out", str(cert)),
        ],
        check=True,
        capture_output=True,
    )
    return cert, key


def key_digest(cert: Path) -> str:
    """Base64 SHA-256 of the public key, by which Chromium is told to trust it.

    Plain ``--ignore-certificate-errors`` will not do: it turns the browser's cache off, and with
    it ``If-None-Match``.
    """
    command = ["openssl", "x509", "-in", str(cert), "-noout", "-pubkey"]
    pem = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    der = base64.b64decode("".join(pem.splitlines()[1:-1]))
    return base64.b64encode(hashlib.sha256(der).digest()).decode()


def server_context(cert: Path, key: Path, protocol: str) -> ssl.SSLContext:
    """Return a server's context that speaks one protocol."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, key)
    context.set_alpn_protocols([protocol])
    return context


@contextlib.contextmanager
def chromium(recorder: Recorder, trusted: str) -> Iterator[None]:
    """Run a headful Chromium without a display (headless mode would say so in its heads)."""
    binary = shutil.which("chromium") or shutil.which("google-chrome")
    if binary is None:
        raise SystemExit("record_heads: no chromium on the PATH")
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        process = subprocess.Popen(
            [
                binary,
                "--ozone-platform=headless",
                "--no-sandbox",
                "--disable-gpu",
                "--no-first-run",
                "--disable-background-networking",
                "--disable-component-update",
                "--disable-sync",
                "--lang=en-US",
                f"--ignore-certificate-errors-spki-list={trusted}",
                f"--user-data-dir={profile}",
                f"--host-resolver-rules=MAP {HOST} 127.0.0.1:{recorder.port}",
                f"https://{HOST}/",
            ],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        try:
            yield
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait(10)


async def aiohttp_client(port: int, context: ssl.SSLContext) -> None:
    """Poll with aiohttp's own client: bare, with a token, with a token and an ETag."""
    url = f"https://{HOST}:{port}/api/matters"
    cookie, bearer = {"Cookie": COOKIE}, {"Authorization": f"Bearer {TOKEN}"}

    class Resolver(aiohttp.abc.AbstractResolver):
        async def resolve(self, host: str, port: int = 0, family: Any = 0) -> list[Any]:
            return [
                {"hostname": host, "host": "127.0.0.1", "port": port}
                | {"family": family or socket.AF_INET, "proto": 0, "flags": socket.AI_NUMERICHOST}
            ]

        async def close(self) -> None: ...

    connector = aiohttp.TCPConnector(resolver=Resolver(), ssl=context)
    async with aiohttp.ClientSession(connector=connector) as session:
        for extra in ({}, bearer, bearer | {"If-None-Match": ETAG}):
            async with session.get(url, headers=cookie | extra) as reply:
                await reply.read()


async def websockets_client(port: int, context: ssl.SSLContext, compression: str | None) -> None:
    """Open and close one connection with websockets' own client."""
    async with websockets.connect(
        f"wss://{HOST}/ws/matters",
        host="127.0.0.1",
        port=port,
        ssl=context,
        compression=compression,
        additional_headers={"Cookie": COOKIE},
        close_timeout=0.1,
    ):
        pass


def placeholders(text: str) -> str:
    """Put names in the place of what differs from one user to another."""
    for value, name in ((COOKIE, "cookie"), (TOKEN, "token"), (ETAG, "etag")):
        text = text.replace(value, "{" + name + "}")
    return text


def parse(head: str) -> dict[str, Any]:
    """Split a head into its request line and its ordered fields, with placeholders."""
    line, *fields = placeholders(head).split("\r\n")
    pairs = [field.split(": ", 1) for field in fields]
    pairs = [[k, "{key}" if k == "Sec-WebSocket-Key" else v] for k, v in pairs]
    return {"line": line, "headers": pairs, "bytes": len(head) + 4}


def main() -> None:
    """Drive every client and write the file."""
    with tempfile.TemporaryDirectory() as folder:
        cert, key = certificate(Path(folder))
        trusted = key_digest(cert)
        one = Recorder(server_context(cert, key, "http/1.1"))
        with chromium(one, trusted):
            if not one.done.wait(30):
                raise SystemExit("record_heads: the HTTP/1.1 page did not finish in 30 s")
        two = Recorder(server_context(cert, key, "h2"))
        with chromium(two, trusted):
            if not two.done.wait(30):
                raise SystemExit("record_heads: the HTTP/2 page did not finish in 30 s")
        client = ssl.create_default_context(cafile=str(cert))
        three = Recorder(server_context(cert, key, "http/1.1"))
        asyncio.run(aiohttp_client(three.port, client))
        asyncio.run(websockets_client(three.port, client, None))
        asyncio.run(websockets_client(three.port, client, "deflate"))

    def pick(recorder: Recorder, path: str) -> list[dict[str, Any]]:
        return [parse(head) for head in recorder.heads if head.split(" ")[1] == path]

    binary = shutil.which("chromium") or "google-chrome"
    said = subprocess.run([binary, "--version"], capture_output=True, text=True).stdout.strip()
    polls1, (upgrade1,) = pick(one, "/api/matters"), pick(one, "/ws/matters")
    polls2 = [r for r in two.requests if dict(r["headers"])[":path"] == "/api/matters"]
    polls3, upgrades3 = pick(three, "/api/matters"), pick(three, "/ws/matters")
    for head in polls3:  # the aiohttp client must name the port that it connects to
        head["headers"] = [[k, v.removesuffix(f":{three.port}")] for k, v in head["headers"]]
        head["bytes"] -= len(f":{three.port}")
    names = ("poll", "poll_token", "poll_token_again", "poll_conditional")
    record = {
        "recorded": {
            "date": time.strftime("%Y-%m-%d"),
            "chromium": said,
            "aiohttp": package_version("aiohttp"),
            "websockets": package_version("websockets"),
            "hpack": package_version("hpack"),
            "python": platform.python_version(),
            "openssl": ssl.OPENSSL_VERSION,
            "system": platform.system(),
        },
        "values": {"host": HOST, "cookie": COOKIE, "token": TOKEN, "etag": ETAG},
        "chromium": dict(zip(names, polls1, strict=True)) | {"upgrade": upgrade1},
        "chromium_http2": {
            "setup_frames": two.setup,
            **{
                name: {
                    "headers": [[k, placeholders(v)] for k, v in request["headers"]],
                    "frame_bytes": request["frame_bytes"],
                    "block_bytes": request["block_bytes"],
                }
                for name, request in zip(names, polls2, strict=True)
            },
        },
        "aiohttp": dict(zip(("poll", "poll_token", "poll_conditional"), polls3, strict=True)),
        "websockets": dict(zip(("upgrade", "upgrade_deflate"), upgrades3, strict=True)),
        "tls_handshake_bytes": {
            "certificate": "self-signed leaf, EC P-256",
            "chromium": one.handshakes[0],
            "chromium_http2": two.handshakes[0],
            "python": three.handshakes[0],
        },
    }
    target = Path(__file__).with_name("heads.json")
    text = json.dumps(record, indent=2)
    string = r'("(?:[^"\\]|\\.)*")'
    text = re.sub(rf"\[\s+{string},\s+{string}\s+\]", r"[\1, \2]", text)  # one field, one line
    target.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
