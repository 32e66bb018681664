"""Damage for files of annotations: a random change of one file of a folder, of the kinds that exports really suffer."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import Element, ParseError, fromstring, tostring

import numpy as np

Damage = Callable[[bytes, random.Random], bytes]

_VALUES: list[Any] = [
    *(None, True, False, 0, -1, 1, 2, 2**31, 2**63, 2**70, -(2**40), 1e308, -1e308, 0.5, float("nan"), float("inf")),
    *("", "0", "-1", "nan", "1e999", "true", "../../outside", "/etc/hostname", "C:\\x\\y.jpg", "\x00", "é" * 40, "{", "a.jpg"),
    *([], {}, [[]], [{}], [None], [1], [1, 2, 3], ["x"], {"x": 1}, {"": None}, [[0, 0], [1]], [1e400, 2], [[[[[[[[[]]]]]]]]]),
]  # fmt: skip
_TEXTS = [
    *("", "0", "-1", "nan", "inf", "-inf", "1e308", "1e999", "99999999999999999999", "0x10", "1,2;3", ";", ",", "x"),
    *("../../outside", "/etc/hostname", "1 2 3", "é\u202e", "true", "\t", "[]", "{}", '"', "\ufeff", "0,0,0,0", "1,1;1,1;1,1"),
]  # fmt: skip


def damage_folder(folder: Path, chance: random.Random) -> str:
    """Change, empty or delete one file of a folder; returns what was done, for the failure's message."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    # Annotations are changed more often than images.
    weights = [1 if path.suffix.lower() in {".jpg", ".jpeg", ".png", ".mp4", ".bmp"} else 6 for path in files]
    path = chance.choices(files, weights)[0]
    name = path.relative_to(folder)
    if chance.random() < 0.05:
        path.unlink()
        return f"deleted {name}"
    if chance.random() < 0.03:
        path.unlink()
        path.mkdir()
        return f"made a folder of {name}"
    kinds = [*_KINDS.get(path.suffix.lower(), ()), *_ANY]
    kind = chance.choice(kinds if chance.random() < 0.3 else kinds[: max(1, len(kinds) - len(_ANY))])
    data = path.read_bytes()
    for _ in range(chance.choice([1, 1, 2, 4])):
        data = kind(data, chance)
    path.unlink()  # it may be a hard link to the original
    path.write_bytes(data)
    return f"{kind.__name__} on {name}"


def cut_short(data: bytes, chance: random.Random) -> bytes:
    """The beginning only."""
    return data[: chance.randrange(len(data) + 1)]


def flip_bytes(data: bytes, chance: random.Random) -> bytes:
    """Some bytes at random."""
    changed = bytearray(data)
    for _ in range(min(len(data), chance.choice([1, 2, 10, 100]))):
        changed[chance.randrange(len(data))] = chance.randrange(256)
    return bytes(changed)


def insert_bytes(data: bytes, chance: random.Random) -> bytes:
    """A few bytes more somewhere, or a part twice."""
    place = chance.randrange(len(data) + 1)
    other = chance.choice([chance.randbytes(5), data[place : place + 50], b"\x00", b"<", b"}", b"]", b'"', b"\xff\xfe"])
    return data[:place] + other + data[place:]


def change_json(data: bytes, chance: random.Random) -> bytes:
    """One value of the tree replaced, deleted or given twice."""
    try:
        tree = json.loads(data)
    except ValueError:
        return flip_bytes(data, chance)
    places = list(_json_places(tree))
    if not places:
        return json.dumps(chance.choice(_VALUES)).encode()
    parent, key = chance.choice(places)
    how = chance.random()
    if how < 0.75:
        parent[key] = chance.choice(_VALUES)
    elif how < 0.9 or isinstance(parent, dict):
        del parent[key]
    else:
        parent.append(parent[key])
    return json.dumps(tree).encode()


def change_xml(data: bytes, chance: random.Random) -> bytes:
    """One element's text or attribute replaced, or the element deleted, renamed or given twice."""
    try:
        root = fromstring(data)
    except (ParseError, ValueError):
        return flip_bytes(data, chance)
    parents = [(parent, child) for parent in root.iter() for child in parent]
    parent, element = chance.choice(parents) if parents else (root, root)
    how = chance.random()
    if how < 0.35 or element is root:
        element.text = _xml_text(chance)
    elif how < 0.7 and element.attrib:
        element.attrib[chance.choice(sorted(element.attrib))] = _xml_text(chance)
    elif how < 0.8 and element.attrib:
        del element.attrib[chance.choice(sorted(element.attrib))]
    elif how < 0.9:
        parent.remove(element)
    elif how < 0.95:
        element.tag = chance.choice(sorted({each.tag for each in root.iter()}))
    else:
        parent.append(element)
    return _xml_bytes(root)


def change_text(data: bytes, chance: random.Random) -> bytes:
    """One word of a line replaced, or a line deleted or given twice."""
    lines = data.decode("latin-1").split("\n")
    row = chance.randrange(len(lines))
    how = chance.random()
    if how < 0.1:
        del lines[row]
    elif how < 0.2:
        lines.insert(row, lines[row])
    else:
        separator = "," if "," in lines[row] else " "
        words = lines[row].split(separator)
        words[chance.randrange(len(words))] = chance.choice(_TEXTS).encode().decode("latin-1")
        lines[row] = separator.join(words)
    return "\n".join(lines).encode("latin-1")


def _json_places(tree: Any) -> Iterator[tuple[Any, Any]]:
    stack = [tree]
    while stack:
        node = stack.pop()
        keys: Any = list(node) if isinstance(node, dict) else range(len(node)) if isinstance(node, list) else ()
        # Long lists of numbers would take nearly every draw.
        if isinstance(node, list) and len(node) > 20:
            keys = [int(key) for key in np.linspace(0, len(node) - 1, 20)]
        for key in keys:
            yield node, key
            if isinstance(node[key], dict | list):
                stack.append(node[key])


def _xml_text(chance: random.Random) -> str:
    return chance.choice(_TEXTS).replace("\ufeff", "")


def _xml_bytes(root: Element) -> bytes:
    text: bytes = tostring(root)
    return text


_ANY: list[Damage] = [cut_short, flip_bytes, insert_bytes]
_KINDS: dict[str, list[Damage]] = {
    ".json": [change_json],
    ".jsonl": [change_text],
    ".xml": [change_xml],
    ".txt": [change_text],
    ".csv": [change_text],
    ".yaml": [change_text],
    ".yml": [change_text],
    ".data": [change_text],
    ".names": [change_text],
}
