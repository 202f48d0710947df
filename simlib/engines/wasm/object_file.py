"""From LLVM's object file to a WebAssembly module, without a linker.

An object is a module that lacks its exports. What a linker would fill in, LLVM has filled in as it
is right where nothing else is linked: functions keep their numbers, and data begin at address 0.
So the custom sections that tell a linker what to do go, and a section of exports comes in.

The format is that of the `tool conventions
<https://github.com/WebAssembly/tool-conventions/blob/main/Linking.md>`_, version 2.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

MAGIC = b"\0asm\1\0\0\0"
_CUSTOM, _EXPORT = 0, 7
_SYMBOLS = 8
_FUNCTION, _DATA, _SECTION = 0, 1, 3
_UNDEFINED, _HAS_NAME = 0x10, 0x40


class _Section(NamedTuple):
    number: int
    body: bytes


def module_of(object_file: bytes, exports: Iterable[str], notes: Mapping[str, bytes]) -> bytes:
    """Return an object file as a module that exports some of its functions.

    Parameters
    ----------
    object_file : bytes
    exports : iterable of str
        The names of functions.
    notes : mapping of str to bytes
        Custom sections that it gets, by name.

    Raises
    ------
    ValueError
        If it is no object file, or lacks one of the functions.
    """
    sections = list(_sections(object_file))
    places = _functions(sections)
    if missing := [name for name in exports if name not in places]:
        raise ValueError(f"the object file lacks {', '.join(missing)}")
    entries = [_name(name) + b"\0" + _number(places[name]) for name in exports]
    exported = _Section(_EXPORT, _number(len(entries)) + b"".join(entries))
    kept = [section for section in sections if section.number != _CUSTOM]
    before = [section for section in kept if section.number < _EXPORT]
    after = [section for section in kept if section.number > _EXPORT]
    after += [_Section(_CUSTOM, _name(name) + text) for name, text in notes.items()]
    return _joined((*before, exported, *after))


def without_notes(module: bytes) -> bytes:
    """Return a module without its custom sections, which nothing needs that runs it."""
    return _joined(section for section in _sections(module) if section.number != _CUSTOM)


def _joined(sections: Iterable[_Section]) -> bytes:
    return MAGIC + b"".join(
        bytes([section.number]) + _number(len(section.body)) + section.body for section in sections
    )


def custom_section(module: bytes, name: str) -> bytes:
    """Return a custom section of a module.

    Raises
    ------
    ValueError
        If it is no module, or has no such section.
    """
    for section in _sections(module):
        reader = _Reader(section.body)
        if section.number == _CUSTOM and reader.text() == name:
            return section.body[reader.at :]
    raise ValueError(f"the module has no section {name}")


def _sections(data: bytes) -> Iterator[_Section]:
    if not data.startswith(MAGIC):
        raise ValueError(f"must begin with {MAGIC!r}, got {data[:8]!r}")
    reader = _Reader(data, len(MAGIC))
    while reader.at < len(data):
        yield _Section(reader.byte(), reader.taken(reader.number()))


def _functions(sections: list[_Section]) -> dict[str, int]:
    """Return the number of each function that the object's table of symbols names."""
    for section in sections:
        reader = _Reader(section.body)
        if section.number == _CUSTOM and reader.text() == "linking":
            reader.number()  # the version
            while reader.at < len(section.body):
                kind, body = reader.byte(), reader.taken(reader.number())
                if kind == _SYMBOLS:
                    return _symbols(_Reader(body))
    return {}


def _symbols(reader: _Reader) -> dict[str, int]:
    found = {}
    for _ in range(reader.number()):
        kind, flags = reader.byte(), reader.number()
        if kind == _DATA:
            reader.text()
            for _each in () if flags & _UNDEFINED else ("segment", "offset", "size"):
                reader.number()
            continue
        place = reader.number()
        if kind != _SECTION and (not flags & _UNDEFINED or flags & _HAS_NAME):
            name = reader.text()
            if kind == _FUNCTION and not flags & _UNDEFINED:
                found[name] = place
    return found


class _Reader:
    def __init__(self, data: bytes, at: int = 0) -> None:
        self._data, self.at = data, at

    def byte(self) -> int:
        self.at += 1
        return self._data[self.at - 1]

    def number(self) -> int:
        value = shift = 0
        while True:
            byte = self.byte()
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return value

    def taken(self, length: int) -> bytes:
        self.at += length
        return self._data[self.at - length : self.at]

    def text(self) -> str:
        return self.taken(self.number()).decode()


def _number(value: int) -> bytes:
    written = bytearray()
    while True:
        value, low = value >> 7, value & 0x7F
        written.append(low | (0x80 if value else 0))
        if not value:
            return bytes(written)


def _name(text: str) -> bytes:
    return _number(len(text.encode())) + text.encode()
