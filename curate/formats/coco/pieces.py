"""Reading a large JSON file piece by piece: where its arrays are, and where they can be cut.

A COCO file is one JSON object with a few huge arrays. `index` walks the file once in blocks and notes where each array can be
cut between two elements; `curate.formats.coco.decoder` then decodes one piece at a time. So memory depends on the block size
and not on the file's, and a broken file is known to be broken before anything has been imported from it.
"""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, Final

import msgspec
import numpy as np

from curate.errors import FormatError

BLOCK_BYTES: Final = 2 * 1024 * 1024
"""Size of a piece: some 15,000 boxes, so that 10,000,000 of them need no more memory than 100,000."""

_BETWEEN_OBJECTS = re.compile(rb"\},\s*$")
_LONGEST_GAP, _GUESSES = 256, 16
_SPACE = re.compile(rb"\s*")
_LONE_SURROGATE = re.compile(rb"\\u[dD][89abAB]..(?!\\u[dD][c-fC-F])|(?<!\\u[dD][89abAB]..)\\u[dD][c-fC-F]", re.DOTALL)
_ESCAPE = re.compile(rb"\\.", re.DOTALL)
_QUOTE, _OPEN, _CLOSE, _COMMA = 1, 2, 3, 4
_STRUCTURE = bytes(
    {ord('"'): _QUOTE, ord("["): _OPEN, ord("{"): _OPEN, ord("]"): _CLOSE, ord("}"): _CLOSE, ord(","): _COMMA}.get(
        byte, 0
    )
    for byte in range(256)
)


@dataclass(frozen=True)
class Piece:
    """Some whole elements of an array: the file's bytes from `start` up to `stop`, without the brackets around them."""

    start: int
    stop: int


@dataclass(frozen=True)
class JsonFile:
    """Where things are in a JSON file.

    Attributes:
        path: The file.
        arrays: Pieces of each top-level array by its key; the key is "" where the whole file is one array.
        values: The other top-level values by their key.
    """

    path: Path
    arrays: dict[str, list[Piece]] = field(default_factory=dict)
    values: dict[str, Any] = field(default_factory=dict)

    def pieces(self, key: str) -> Iterator[bytes]:
        """The array of that key as JSON arrays of some elements each, in order; nothing if there is no such array."""
        if key not in self.arrays:
            return
        with open(self.path, "rb") as file:
            for piece in self.arrays[key]:
                file.seek(piece.start)
                yield b"".join((b"[", file.read(piece.stop - piece.start), b"]"))


class _Skip(msgspec.Struct, gc=False):
    """Any object: its fields are checked for syntax and left out."""


_SKIP = msgspec.json.Decoder(list[_Skip])


def index(path: Path, *, block_bytes: int = BLOCK_BYTES) -> JsonFile:
    """Find the top-level values of a JSON file, checking its syntax on the way.

    The literals NaN and Infinity, which Python writes but JSON does not know, are let through.

    Args:
        path: The file.
        block_bytes: Pieces of arrays are about this long, except where one element is longer.

    Raises:
        FormatError: The file cannot be read, is empty, is not UTF-8, or is not valid JSON; names the byte and the line.
    """
    try:
        with open(path, "rb") as file:
            return _Indexer(path, file, block_bytes).run()
    except OSError as error:
        raise FormatError(f"the file cannot be read: {error.strerror}", where=path) from error
    except FormatError:
        raise
    except (RecursionError, ValueError) as error:  # nested too deeply for Python's parser, a number of 5,000 digits
        raise FormatError(f"the JSON cannot be read: {error}", where=path, remedy="export it again") from error


class _Indexer:
    """A cursor over a file's bytes that keeps one block of them in memory."""

    def __init__(self, path: Path, file: BinaryIO, block_bytes: int) -> None:
        self.file = file
        self.block_bytes = block_bytes
        self.result = JsonFile(path)
        self.start = 0  # of the block in the file
        self.at = 0  # of the cursor in the block
        self.block = b""

    def run(self) -> JsonFile:
        self._fill(0)
        if self.block.startswith((b"\xff\xfe", b"\xfe\xff")):
            raise self._error("the file is UTF-16, not UTF-8")
        if self.block.startswith(b"\xef\xbb\xbf"):  # byte order mark of UTF-8
            self.at = 3
        opening = self._peek()
        if opening == b"":
            raise FormatError("the file is empty", where=self.result.path, remedy="export it again")
        if opening == b"[":
            self._array("")
        elif opening == b"{":
            self._object()
        else:
            raise self._error("the file is not JSON: it must start with { or [")
        if self._peek():
            raise self._error("there is more text after the end of the JSON")
        return self.result

    def _object(self) -> None:
        self.at += 1
        if self._peek() == b"}":
            self.at += 1
            return
        while True:
            if self._peek() != b'"':
                raise self._error("a key in double quotes is expected")
            key = str(self._value())
            self._expect(b":")
            if self._peek() == b"[":
                self._array(key)
            else:
                self.result.values[key] = self._value()
            if self._peek() == b"}":
                self.at += 1
                return
            self._expect(b",")

    def _array(self, key: str) -> None:
        """Cut an array into pieces. The cursor is on its opening bracket, and goes behind the closing one."""
        pieces: list[Piece] = []
        self.at += 1
        ended = self._peek() == b"]"
        self.at += ended
        wanted = self.block_bytes
        while not ended:
            self._fill(self.start + self.at, wanted)
            cut, ended = self._cut()
            if cut == 0 and not ended:  # not one whole element in the block
                if len(self.block) < wanted:
                    self.at = len(self.block)
                    raise self._error(f"the file ends inside its array '{key}': it is truncated")
                wanted *= 2
                continue
            wanted = self.block_bytes
            pieces.append(Piece(self.start, self.start + cut))
            self.at = cut + 1  # behind the comma or the closing bracket
            self._peek()
        self.result.arrays[key] = pieces

    def _cut(self) -> tuple[int, bool]:
        """Length of the whole elements at the block's start, and whether the array ends behind them.

        The guess costs a thousandth of a second per megabyte: if the text up to the last ``},{`` is a valid array when it
        is put into brackets, then that place is between two elements of this array, because the only state of a JSON parser
        in which a closing bracket completes the text is the one in which it began.
        """
        guess = self._guess()
        if guess:
            # It fails inside a string or a nested array, behind the array's end, and where the JSON is not strict.
            with contextlib.suppress(msgspec.DecodeError):
                piece = b"".join((b"[", memoryview(self.block)[:guess], b"]"))
                _SKIP.decode(piece)
                if not piece.isascii():
                    self._check_text(guess)
                return guess, False
        commas, end = _separators(self.block)
        cut = end if end is not None else int(commas[-1]) if len(commas) else 0
        if cut:
            self._check_text(cut)
            self._check_syntax(cut)
        return cut, end is not None

    def _guess(self) -> int:
        """Where the block's last ``},{`` has its comma; 0 if there is none near its end."""
        brace = len(self.block)
        for _ in range(_GUESSES):
            brace = self.block.rfind(b"{", 0, brace)
            before = self.block[max(0, brace - _LONGEST_GAP) : max(0, brace)]
            match = _BETWEEN_OBJECTS.search(before)
            if match:
                return brace - len(before) + match.start() + 1
        return 0

    def _check_text(self, stop: int) -> None:
        piece = self.block[:stop]
        if piece.isascii():
            return
        try:
            piece.decode("utf-8")
        except UnicodeDecodeError as error:
            self.at = error.start
            raise self._error("the file is not UTF-8") from error

    def _check_syntax(self, stop: int) -> None:
        with contextlib.suppress(msgspec.DecodeError):
            _SKIP.decode(b"[" + self.block[:stop] + b"]")
            return
        try:  # Latin-1 has one character per byte, so that positions in the text are positions in the file
            json.loads("[" + self.block[:stop].decode("latin-1") + "]", strict=False)
        except json.JSONDecodeError as error:
            self.at = max(0, error.pos - 1)
            raise self._error(f"the JSON is not valid: {error.msg}") from error

    def _value(self) -> Any:
        """Read a value that is not a large array; the cursor goes behind it."""
        wanted = 65536
        self._peek()
        while True:
            self._fill(self.start + self.at, wanted)
            try:
                _, end = json.JSONDecoder(strict=False).raw_decode(self.block.decode("latin-1"))
                if end == len(self.block) == wanted:
                    raise json.JSONDecodeError("may go on", "", end)  # a number or literal cut by the block's end
                self._check_text(end)
                self.at = end
                return loads(self.block[:end])
            except json.JSONDecodeError as error:
                if len(self.block) < wanted:
                    self.at = error.pos
                    raise self._error(f"the JSON is not valid or is truncated: {error.msg}") from error
                wanted *= 4

    def _peek(self) -> bytes:
        """Skip white space; the byte at the cursor, or b"" at the file's end."""
        while True:
            found = _SPACE.match(self.block, self.at)
            self.at = found.end() if found else self.at
            if self.at < len(self.block):
                return self.block[self.at : self.at + 1]
            self._fill(self.start + self.at)
            if not self.block:
                return b""

    def _expect(self, byte: bytes) -> None:
        if self._peek() != byte:
            raise self._error(f"'{byte.decode()}' is expected")
        self.at += 1

    def _fill(self, start: int, count: int | None = None) -> None:
        """Make the block begin at `start`, where the cursor then is."""
        count = self.block_bytes if count is None else count
        self.file.seek(start)
        self.block = self.file.read(count)
        self.start, self.at = start, 0

    def _error(self, what: str) -> FormatError:
        byte = self.start + self.at
        self.file.seek(0)
        line, left = 1, byte
        while left > 0 and (text := self.file.read(min(left, BLOCK_BYTES))):
            line += text.count(b"\n")
            left -= len(text)
        return FormatError(
            what, where=f"{self.result.path}, byte {byte}, line {line}", remedy="export it again, or mend that place"
        )


def loads(text: bytes) -> Any:
    """A JSON value, read as Python does: NaN, infinity and control characters are let through.

    Halves of surrogate pairs, which JSON can escape and UTF-8 cannot hold, become question marks.
    """
    value = json.loads(text, strict=False)
    return _without_surrogates(value) if has_lone_surrogate(text) else value


def has_lone_surrogate(text: bytes) -> bool:
    """Whether JSON text may escape half of a surrogate pair."""
    # One byte is looked for four times as fast as two.
    return b"\\" in text and b"\\u" in text and _LONE_SURROGATE.search(text) is not None


def _without_surrogates(value: Any) -> Any:
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode()
    if isinstance(value, list):
        return [_without_surrogates(each) for each in value]
    if isinstance(value, dict):
        return {_without_surrogates(key): _without_surrogates(each) for key, each in value.items()}
    return value


def elements(piece: bytes) -> Iterator[bytes]:
    """The elements of a JSON array as text, one by one."""
    body = piece[1:-1]
    start = 0
    for comma in _separators(body)[0].tolist():
        yield body[start:comma]
        start = comma + 1
    if body[start:].strip():
        yield body[start:]


def _separators(block: bytes) -> tuple[np.ndarray[Any, np.dtype[np.int64]], int | None]:
    """Where the commas between an array's elements are, and its closing bracket if it is there.

    Args:
        block: Text that begins inside the array, between two elements.
    """
    plain = _ESCAPE.sub(b"__", block) if b"\\" in block else block
    codes = np.frombuffer(plain.translate(_STRUCTURE), dtype=np.uint8)
    at = np.flatnonzero(codes)
    kind = codes[at]
    inside = np.cumsum(kind == _QUOTE) % 2 == 1
    at, kind = at[~inside], kind[~inside]
    depth = np.cumsum((kind == _OPEN).astype(np.int64) - (kind == _CLOSE))
    ends = np.flatnonzero(depth < 0)
    if len(ends):
        at, kind, depth, end = at[: ends[0]], kind[: ends[0]], depth[: ends[0]], int(at[ends[0]])
        return at[(kind == _COMMA) & (depth == 0)], end
    return at[(kind == _COMMA) & (depth == 0)], None
