"""What the columns of a Hugging Face dataset mean, from a schema's metadata, dataset_info.json or a README."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final, Literal

import msgspec
import pyarrow as pa
import yaml

from curate.formats.base import ClassInfo
from curate.formats.files import read_head
from curate.formats.values import is_shallow, mapping, sequence, text

CURATE: Final = b"curate"
"""Key, in a schema's metadata, of what only curate knows of a dataset: JSON."""

HUGGINGFACE: Final = b"huggingface"
"""Key, in a schema's metadata, of `datasets.Features` as JSON."""

_CARD_BYTES: Final = 1 << 20
_LISTS: Final = frozenset({"List", "LargeList", "Sequence"})
_SPLIT_OF_CARD: Final = "---"


@dataclass(frozen=True)
class Feature:
    """One column, without the lists around it.

    Attributes:
        kind: 'image', 'class' (a number that stands for a name), 'struct', or 'value' for everything else.
        names: Of a class.
        fields: Of a struct.
    """

    kind: Literal["image", "class", "struct", "value"] = "value"
    names: tuple[str, ...] = ()
    fields: dict[str, Feature] = field(default_factory=dict)


Features = dict[str, Feature]
"""Features by column."""


def features_of(schema: pa.Schema, beside: Features) -> Features:
    """What is said of the columns of a file.

    Args:
        schema: The file's.
        beside: What the dataset says elsewhere (`features_beside`); the schema goes before it.
    """
    said = mapping(_json((schema.metadata or {}).get(HUGGINGFACE, b"")))
    own = mapping(mapping(said.get("info")).get("features"))
    found = {name: _feature(value) for name, value in own.items()} if own else dict(beside)
    for column in schema:
        if _has_bytes(column.type) and found.get(column.name, Feature()).kind == "value":
            found[column.name] = replace(found.get(column.name, Feature()), kind="image")
    return {name: feature for name, feature in found.items() if name in schema.names}


def features_beside(root: Path) -> Features:
    """Features that dataset_info.json, dataset_infos.json or the README of a folder name; empty where none does."""
    said = mapping(_json(_bytes(root / "dataset_info.json"))).get("features")
    if not mapping(said):
        configs = mapping(_json(_bytes(root / "dataset_infos.json")))
        said = next((mapping(config).get("features") for config in configs.values()), None)
    if mapping(said):
        return {name: _feature(value) for name, value in mapping(said).items()}
    info = _card(root / "README.md").get("dataset_info")
    config = mapping(next(iter(info), None) if isinstance(info, list) else info)
    return _card_fields(config.get("features"))


def own_notes(schema: pa.Schema) -> dict[str, Any]:
    """What curate wrote into a schema's metadata; empty if it did not."""
    return mapping(_json((schema.metadata or {}).get(CURATE, b"")))


def class_infos(feature: Feature) -> list[ClassInfo]:
    """The classes of a ClassLabel, by number."""
    return [ClassInfo(name, number) for number, name in enumerate(dict.fromkeys(feature.names))]


def _feature(said: Any) -> Feature:
    """A feature from `datasets.Features` as JSON; a list of one feature, 'List' and 'Sequence' all mean lists."""
    if isinstance(said, list):
        return _feature(said[0]) if len(said) == 1 else Feature()
    kind = mapping(said).get("_type")
    if kind is None or isinstance(kind, dict):  # a struct may have a field of this name
        return Feature("struct", fields={name: _feature(value) for name, value in mapping(said).items()})
    if kind in _LISTS:
        return _feature(said.get("feature"))
    if kind == "ClassLabel":
        return Feature("class", tuple(str(name) for name in sequence(said.get("names"))))
    return Feature("image") if kind == "Image" else Feature()


def _card_fields(said: Any) -> Features:
    """Features from a README's list of ``{name, dtype | sequence | list | struct}``."""
    return {
        text(mapping(entry).get("name")): _card_feature(mapping(entry))
        for entry in sequence(said)
        if text(mapping(entry).get("name"))
    }


def _card_feature(said: Mapping[str, Any]) -> Feature:
    for key in ("struct", "list", "sequence"):
        if isinstance(said.get(key), list):
            return Feature("struct", fields=_card_fields(said[key]))
        if key in said:
            inner = said[key]
            return _card_feature(
                inner if isinstance(inner, dict) and inner.keys() - {"class_label"} else {"dtype": inner}
            )
    kind = said.get("dtype")
    if kind == "image":
        return Feature("image")
    names = mapping(kind).get("class_label")
    if names is None:
        return Feature()
    names = mapping(names).get("names")
    listed = list(names.values()) if isinstance(names, dict) else sequence(names)
    return Feature("class", tuple(str(name) for name in listed))


def _card(path: Path) -> dict[str, Any]:
    """The YAML at the head of a README; empty if there is none."""
    parts = read_head(path, _CARD_BYTES).split(f"{_SPLIT_OF_CARD}\n", 2) if path.is_file() else []
    if len(parts) < 3 or parts[0].strip():
        return {}
    with contextlib.suppress(yaml.YAMLError, ValueError, RecursionError):
        tree = yaml.safe_load(parts[1])
        return mapping(tree) if is_shallow(tree) else {}
    return {}


def _json(data: bytes) -> Any:
    with contextlib.suppress(msgspec.DecodeError, ValueError, RecursionError):
        tree = msgspec.json.decode(data)
        return tree if is_shallow(tree) else None
    return None


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes() if path.is_file() else b""
    except OSError:
        return b""


def _has_bytes(kind: pa.DataType) -> bool:
    if pa.types.is_struct(kind):
        names = {kind.field(place).name: kind.field(place).type for place in range(kind.num_fields)}
        return "bytes" in names and is_binary(names["bytes"])
    return is_binary(kind)


def is_binary(kind: pa.DataType) -> bool:
    """Whether values of an Arrow type are bytes."""
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_binary_view(kind))
