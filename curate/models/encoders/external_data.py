"""Which files beside an ONNX graph hold its weights, read from the graph.

Exporters put large weights beside the graph under any name ('external data'; see onnx.proto3). The package onnx would tell,
but is not needed to run a graph. A graph is a Protocol Buffers message: numbered fields, and messages in fields of messages.
Only the way from the model to its tensors is followed here, and everything else skipped by its length.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

# Which messages have the messages on the way, by the number of the field.
_INSIDE: Final[Mapping[str, Mapping[int, str]]] = {
    "Model": {7: "Graph", 20: "TrainingInfo", 25: "Function"},
    "TrainingInfo": {1: "Graph", 2: "Graph"},
    "Function": {7: "Node", 11: "Attribute"},
    "Graph": {1: "Node", 5: "Tensor", 15: "SparseTensor"},
    "Node": {5: "Attribute"},
    "Attribute": {5: "Tensor", 6: "Graph", 10: "Tensor", 11: "Graph", 22: "SparseTensor", 23: "SparseTensor"},
    "SparseTensor": {1: "Tensor", 2: "Tensor"},
    "Tensor": {13: "Entry"},
}
_KEY, _VALUE = 1, 2  # fields of an entry
_LOCATION: Final = b"location"

_VARINT, _EIGHT_BYTES, _BYTES, _FOUR_BYTES = 0, 1, 2, 5  # how a field is written


def external_files(graph: Path) -> list[Path]:
    """The files that a graph names and that are there, sorted; none if it is no graph at all.

    Args:
        graph: An ONNX file.

    Raises:
        OSError: It cannot be read.
    """
    with graph.open("rb") as file:
        try:
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
                names = set(_locations(data))
        except (ValueError, IndexError):  # empty, or not such a message
            return []
    return [path for path in (graph.parent / name for name in sorted(names)) if path.is_file()]


def _locations(data: mmap.mmap) -> Iterator[str]:
    pending = [("Model", 0, len(data))]
    while pending:
        message, start, end = pending.pop()
        if message == "Entry":
            entry = {number: data[at:to] for number, at, to in _fields(data, start, end)}
            if entry.get(_KEY) == _LOCATION:
                yield entry.get(_VALUE, b"").decode()
            continue
        inside = _INSIDE[message]
        pending += [(inside[number], at, to) for number, at, to in _fields(data, start, end) if number in inside]


def _fields(data: mmap.mmap, at: int, end: int) -> Iterator[tuple[int, int, int]]:
    """Number, start and end of each field of bytes in a message."""
    while at < end:
        key, at = _varint(data, at)
        number, kind = key >> 3, key & 7
        if kind == _BYTES:
            length, at = _varint(data, at)
            if at + length > end:
                raise ValueError("a field longer than its message")
            yield number, at, at + length
            at += length
        elif kind == _VARINT:
            _, at = _varint(data, at)
        elif kind in (_FOUR_BYTES, _EIGHT_BYTES):
            at += 4 if kind == _FOUR_BYTES else 8
        else:
            raise ValueError("no kind of field")


def _varint(data: mmap.mmap, at: int) -> tuple[int, int]:
    """A whole number of seven bits a byte, the lowest first, and where it ends."""
    value = shift = 0
    while True:
        byte = data[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return value, at
