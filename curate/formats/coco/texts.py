"""JSON text of whole columns: what stands in each of n rows, as Arrow strings, without a Python object for each."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Any, Final

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from curate.formats.columns import Flags, Floats, Ints

ENCODER: Final = msgspec.json.Encoder()

_COMMA, _CLOSE = b",]"
_TO_ESCAPE: Final = r'["\\\x00-\x1f]'
_ESCAPES: Final = {chr(code): ENCODER.encode(chr(code))[1:-1].decode() for code in (92, 34, *range(32))}
"""The backslash is first: the others' escapes have one."""
_LARGEST_WHOLE: Final = 2**53


def join(*parts: pa.Array | str) -> pa.Array:
    """Texts of each row one after another; null where one of them is."""
    return pc.binary_join_element_wise(*parts, "")


def quoted(texts: pa.Array) -> pa.Array:
    """n texts as JSON strings; null stays null."""
    if pc.any(pc.match_substring_regex(texts, _TO_ESCAPE)).as_py():
        for character, escape in _ESCAPES.items():
            texts = pc.replace_substring(texts, character, escape)
    return join('"', texts, '"')


def numbers(values: Floats, *, shorten: bool = True) -> pa.Array:
    """n numbers, 'null' for NaN and infinity.

    Args:
        values: Shape (n,).
        shorten: Whether whole numbers are written as integers, 12.0 as 12.
    """
    data, ends = _encoded(values, shorten)
    kept = np.ones(len(data), dtype=np.bool_)
    kept[[0, -1]] = kept[ends] = False
    return _strings(data[kept], np.r_[0, ends - 1 - np.arange(len(ends))])


def number_lists(values: Floats, lengths: Ints) -> pa.Array:
    """n JSON arrays of numbers, whole ones as integers.

    Args:
        values: All numbers, shape (sum of lengths,).
        lengths: How many are in each array, shape (n,).
    """
    filled = lengths > 0
    data, ends = _encoded(values, shorten=True)
    ends = ends[np.cumsum(lengths[filled]) - 1]
    data[ends] = _CLOSE  # what was the comma between two rows
    texts = join("[", _strings(data[1:], np.r_[0, ends]))
    return texts if filled.all() else pc.fill_null(scatter(texts, filled), "[]")


def text_lists(column: pa.Array) -> pa.Array:
    """n lists of JSON texts as JSON arrays; null stays null."""
    return join("[", pc.binary_join(column, ","), "]")


def scatter(texts: pa.Array, rows: Flags) -> pa.Array:
    """Texts of some of n rows as a column of all of them, null in the others; `rows` has the shape (n,)."""
    if rows.all():
        return texts
    return texts.take(pa.array(np.cumsum(rows) - 1, mask=~rows))


def objects(fields: Iterable[tuple[str, pa.Array]]) -> pa.Array:
    """n JSON objects, each after a comma and a new line.

    Args:
        fields: Keys, and the JSON text of each row's value; the key is left out where that is null. The first has no null.
            The key '' stands for members that are written out, each after a comma.
    """
    parts: list[pa.Array | str] = []
    for key, texts in fields:
        start = "," if parts else ",\n{"
        prefix = f"{start}{ENCODER.encode(key).decode()}:" if key else ""
        if texts.null_count == 0:
            parts += [prefix, texts]
        elif texts.null_count < len(texts):
            parts.append(join(prefix, texts) if key else texts)
    return pc.binary_join_element_wise(*parts, "}", "", null_handling="replace")


def members(
    texts: pa.Array, keys: Iterable[str], key: str, rewrite: Callable[[int, dict[str, Any]], dict[str, Any]]
) -> pa.Array:
    """The members of n JSON objects, each after a comma, for `objects`; null where an object has none.

    Args:
        texts: The objects, distinct: those that are alike are one.
        keys: What `rewrite` looks for; objects without any of these are written as they are.
        key: Where the objects that are written as they are go; '' for their members themselves.
        rewrite: From an object's place among the texts, and the object, to the members to write.

    Raises:
        msgspec.DecodeError: Some text is no JSON object.
    """
    special = np.ones(len(texts), dtype=np.bool_)
    if _are_compact(texts):
        names = "|".join(re.escape(ENCODER.encode(each).decode()[1:-1]) for each in keys)
        pattern = rf'\\u|"(?:{names})":'  # a key that is written with codes might be one of them
        special = pc.match_substring_regex(texts, pattern).to_numpy(zero_copy_only=False)
    plain = texts.filter(pa.array(~special))
    plain = (
        join(f",{ENCODER.encode(key).decode()}:", plain) if key else join(",", pc.utf8_slice_codeunits(plain, 1, -1))
    )
    decode = msgspec.json.Decoder(dict[str, Any]).decode
    chosen = zip(np.flatnonzero(special).tolist(), texts.filter(pa.array(special)).to_pylist(), strict=True)
    changed = [rewrite(place, decode(text or "{}")) for place, text in chosen]
    rewritten = pa.array(["," + ENCODER.encode(each)[1:-1].decode() if each else None for each in changed], pa.string())
    every = pc.coalesce(scatter(plain, ~special), scatter(rewritten, special))
    return pc.if_else(pc.is_in(texts, pa.array(["", "{}"])), pa.scalar(None, pa.string()), every)


def content(texts: pa.Array) -> bytes:
    """All texts, one after another."""
    _, ends, data = texts.buffers()
    if data is None or len(texts) == 0:
        return b""
    first, last = np.frombuffer(ends, np.int32)[[texts.offset, texts.offset + len(texts)]].tolist()
    text: bytes = data.slice(first, last - first).to_pybytes()
    return text


def _are_compact(texts: pa.Array) -> bool:
    """Whether all texts are JSON objects without blanks between their parts."""
    if not pc.all(pc.starts_with(texts, "{")).as_py():
        return False
    text = "[" + ",".join(texts.to_pylist()) + "]"
    return msgspec.json.format(text, indent=-1) == text


def _encoded(values: Floats, shorten: bool) -> tuple[npt.NDArray[np.uint8], Ints]:
    """Numbers as a JSON array, and where in it the comma or bracket after each of them is."""
    whole = (np.trunc(values) == values) & (np.abs(values) < _LARGEST_WHOLE) if shorten else np.zeros(1, dtype=np.bool_)
    if shorten and whole.any():
        mixed = values.astype(object)
        mixed[whole] = values[whole].astype(np.int64).astype(object)
        written = ENCODER.encode(mixed.tolist())
    else:
        written = ENCODER.encode(values.tolist())
    data = np.frombuffer(bytearray(written), np.uint8)
    ends: Ints = np.flatnonzero(data == _COMMA)
    return data, np.r_[ends, len(data) - 1] if len(values) else ends


def _strings(data: npt.NDArray[np.uint8], ends: Ints) -> pa.Array:
    """Texts that stand one after another in `data`, without the first, which only starts there; `ends` has n + 1 places."""
    starts = pa.py_buffer(ends.astype(np.int32))
    return pa.StringArray.from_buffers(len(ends) - 1, starts, pa.py_buffer(np.ascontiguousarray(data)))
