"""One kept frame: a folder with the picture, what a package said of it, and why it was kept.

    image.jpg         the frame (image.png where nothing may be lost)
    entry.json        reasons, package, source, time, prediction; SHA-256 and size of every other file
    prediction.npz    a map of classes, where the package gives one; other.npz: the second package's

Whoever reads one checks it against its digests, so an entry is whole or it is no entry.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from curate.edge.runner import Result
from curate.edge.runtime.keeper import FrameContext
from curate.errors import InputError

FORMAT: Final = 1
"""Version of an entry's layout."""

FACTS: Final = "entry.json"
SUFFIXES: Final = (".jpg", ".png")
"""Of the picture's file."""

LARGEST_SIDE: Final = 65_535
"""Pixels: a JPEG file cannot have more."""

REASONS: Final = ("unsure", "asked", "drift", "disagreement")
"""Why a frame may be kept: a score near the threshold; one in the band in which a person is asked; unlike the training images;
two packages say different things."""

_KEPT: Final = tuple(each.name for each in fields(FrameContext) if each.name != "other")
_LISTS: Final = {"probabilities": np.float32, "boxes": np.float64, "labels": np.int64, "scores": np.float64}
_FILES: Final = frozenset({"image.jpg", "image.png", "prediction.npz", "other.npz"})
_QUALITY: Final = 95
_STEPS: Final = 255  # in which a pixel's confidence is kept


@dataclass(frozen=True)
class HardFrame:
    """What is to be kept of one frame.

    Attributes:
        pixels: uint8 of shape (height, width, 3), RGB.
        result: What the package said of it.
        context: Where it came from, and what else is known of it.
        reasons: How strongly each of `REASONS` that holds does, in [0, 1]; at least one.
    """

    pixels: npt.NDArray[np.uint8]
    result: Result
    context: FrameContext
    reasons: Mapping[str, float]

    @property
    def score(self) -> float:
        """How hard it is: as its strongest reason says."""
        return self.reasons[self.reason]

    @property
    def reason(self) -> str:
        """The strongest of its reasons."""
        return max(self.reasons, key=lambda name: self.reasons[name])


@dataclass(frozen=True)
class Entry:
    """A frame that was kept, read back and found whole. Maps of classes stay packed until they are asked for.

    Attributes:
        id: Its own for good.
        image: The picture's bytes.
        suffix: Of the picture's file: '.jpg' or '.png'.
        context: As it was kept, but for what a second package said.
        reasons: The same.
        score: How hard it is.
        said: What the package said, and what a second one did (or None), as `entry.json` has it.
        maps: Files that these name.
    """

    id: str
    image: bytes
    suffix: str
    context: FrameContext
    reasons: Mapping[str, float]
    score: float
    said: tuple[Mapping[str, Any], Mapping[str, Any] | None]
    maps: Mapping[str, bytes]

    @property
    def size(self) -> tuple[int, int]:
        """Height and width in pixels."""
        height, width = self.said[0]["size"]
        return int(height), int(width)

    @property
    def result(self) -> Result:
        """What the package said."""
        return _decode_result(self.said[0], self.maps)

    @property
    def other(self) -> Result | None:
        """What a second package said; None without one."""
        return None if self.said[1] is None else _decode_result(self.said[1], self.maps)


def encode(frame: HardFrame, identity: str, *, lossless: bool = False) -> dict[str, bytes]:
    """A frame as the files of its entry, by name.

    Args:
        frame: What is kept.
        identity: The entry's id.
        lossless: Keep the picture as PNG instead of JPEG of quality 95 without colour subsampling: four times the bytes.
    """
    context = frame.context
    lossless = lossless or max(frame.pixels.shape[:2]) > LARGEST_SIDE
    files = {"image.png" if lossless else "image.jpg": _picture(frame.pixels, lossless)}
    facts: dict[str, Any] = {
        "format": FORMAT,
        "id": identity,
        "reasons": dict(frame.reasons),
        "score": frame.score,
        **{name: getattr(context, name) for name in _KEPT},
        "prediction": _encode_result(frame.result, "prediction.npz", files),
        "other": None if context.other is None else _encode_result(context.other, "other.npz", files),
    }
    facts["files"] = {name: {"sha256": _digest(data), "bytes": len(data)} for name, data in files.items()}
    files[FACTS] = json.dumps(facts, ensure_ascii=True, allow_nan=False).encode()
    return files


def read_entry(folder: Path) -> Entry:
    """Read an entry and check it.

    Raises:
        FileNotFoundError: It is not there; the ring may have let go of it meanwhile.
        InputError: It is damaged, or was written by a later version.
    """
    try:
        facts = json.loads((folder / FACTS).read_bytes())
        if facts["format"] != FORMAT:
            what = f"an entry of format {facts['format']}; this curate reads {FORMAT}"
            raise InputError(what, where=folder, remedy="update the curate that imports it")
        files = {str(name): _checked(folder, str(name), about) for name, about in facts["files"].items()}
        image = next(name for name in files if name.startswith("image."))
        reasons = {str(name): float(value) for name, value in facts["reasons"].items()}
        if not reasons or not set(reasons) <= set(REASONS):
            raise ValueError(f"reasons {sorted(facts['reasons'])}")
        entry = Entry(
            str(facts["id"]),
            files.pop(image),
            Path(image).suffix,
            FrameContext(**{name: facts[name] for name in _KEPT}),
            reasons,
            float(facts["score"]),
            (facts["prediction"], facts["other"]),
            files,
        )
        entry.result, entry.other  # noqa: B018  that they can be read is found out now
        return entry
    except InputError:
        raise
    except (KeyError, TypeError, ValueError, StopIteration, AttributeError, OverflowError) as error:
        raise InputError(f"the entry is damaged: {error!r}", where=folder, remedy="delete its folder") from error


def _checked(folder: Path, name: str, about: Mapping[str, Any]) -> bytes:
    """A file's bytes, if they are those that were written."""
    if name not in _FILES:
        raise ValueError(f"a file '{name}'")
    data = (folder / name).read_bytes()
    if _digest(data) != about["sha256"]:
        raise InputError(
            f"the entry is damaged: {name} is not what was written",
            where=folder,
            remedy="delete its folder; the others are not concerned",
        )
    return data


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _picture(pixels: npt.NDArray[np.uint8], lossless: bool) -> bytes:
    from PIL import Image

    stream = io.BytesIO()
    picture = Image.fromarray(np.ascontiguousarray(pixels))
    if lossless:
        picture.save(stream, "PNG", compress_level=1)
    else:
        picture.save(stream, "JPEG", quality=_QUALITY, subsampling=0)
    return stream.getvalue()


def _encode_result(result: Result, name: str, files: dict[str, bytes]) -> dict[str, Any]:
    """A result as JSON-ready values; a map of classes as one more file."""
    said: dict[str, Any] = {"task": result.task, "size": [int(side) for side in result.size]}
    for key in _LISTS:
        array = getattr(result, key)
        if array is not None:
            said[key] = np.asarray(array, np.float64).tolist() if array.dtype.kind == "f" else array.tolist()
    if result.class_map is not None and result.confidence is not None:
        stream = io.BytesIO()
        confidence = np.round(result.confidence.clip(0, 1) * _STEPS).astype(np.uint8)
        np.savez_compressed(stream, class_map=result.class_map, confidence=confidence)
        files[name] = stream.getvalue()
        said["file"] = name
    return said


def _decode_result(said: Mapping[str, Any], files: Mapping[str, bytes]) -> Result:
    height, width = (int(side) for side in said["size"])
    arrays = {key: np.asarray(said[key], dtype) for key, dtype in _LISTS.items() if key in said}
    if "boxes" in arrays:
        arrays["boxes"] = arrays["boxes"].reshape(-1, 4)
    result = Result(str(said["task"]), (height, width), **arrays)
    if "file" in said:
        with np.load(io.BytesIO(files[said["file"]]), allow_pickle=False) as held:
            class_map, confidence = held["class_map"], held["confidence"].astype(np.float32) / np.float32(_STEPS)
        if class_map.shape != (height, width) or confidence.shape != (height, width):
            raise ValueError(f"a map of {class_map.shape} for an image of {(height, width)}")
        result = replace(result, class_map=class_map, confidence=confidence)
    return result
