"""WebSocket frames (RFC 6455 section 5.2)."""

from __future__ import annotations


def frame_bytes(payload_bytes: int, masked: bool) -> int:
    """Return the size of one unfragmented WebSocket frame (RFC 6455 section 5.2).

    Examples
    --------
    >>> [frame_bytes(n, masked=False) for n in (0, 125, 126, 65535, 65536)]
    [2, 127, 130, 65539, 65546]
    """
    extended = 0 if payload_bytes <= 125 else 2 if payload_bytes <= 65535 else 8
    return 2 + extended + (4 if masked else 0) + payload_bytes


def websocket_frame(payload: bytes, opcode: int = 1, mask: bytes = b"") -> bytes:
    """Return one unfragmented frame; `mask` is four bytes from a client, none from a server.

    Examples
    --------
    >>> websocket_frame(b"Hello").hex(" ")
    '81 05 48 65 6c 6c 6f'
    >>> websocket_frame(b"Hello", mask=bytes.fromhex("37fa213d")).hex(" ")
    '81 85 37 fa 21 3d 7f 9f 4d 51 58'
    """
    n = len(payload)
    width = frame_bytes(n, masked=False) - n - 2  # of the extended length
    code = {0: n, 2: 126, 8: 127}[width] | (128 if mask else 0)
    length = bytes([code]) + (n.to_bytes(width, "big") if width else b"")
    if mask:
        key = (mask * (n // 4 + 1))[:n]
        payload = (int.from_bytes(payload, "big") ^ int.from_bytes(key, "big")).to_bytes(n, "big")
    return bytes([128 | opcode]) + length + mask + payload
