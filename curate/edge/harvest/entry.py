"""One kept frame: a folder with the picture, what a package said of it, and why it was kept.

    image.jpg         the frame (image.png where nothing may be lost)
    entry.json        reasons, package, source, time, prediction; SHA-256 and size of every other file
    prediction.npz    a map of classes, where the package gives one; other.npz: the second package's

Whoever reads one checks it against its digests, and every value of `entry.json` for what it may be, so an entry is whole or it is
no entry.
"""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from curate.edge.runtime.keeper import FrameContext
from curate.errors import InputError
from curate.runner import VOID, Result

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
_CHECKSUM: Final = "checksum"  # of entry.json, without itself; entries of before have none
_LATEST: Final = 1e11  # seconds since 1970: the year 5138
_SLACK: Final = 1e-6  # by which rounding may pass an end
_TASKS: Final = {
    "classify": frozenset({"probabilities"}),
    "detect": frozenset({"boxes", "labels", "scores"}),
    "segment": frozenset({"file"}),
}
_DAMAGE: Final = (
    *(KeyError, IndexError, TypeError, ValueError, AttributeError, ArithmeticError, StopIteration, RecursionError),
    *(EOFError, NotImplementedError, zipfile.BadZipFile, zlib.error),
)


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
    facts[_CHECKSUM] = _digest(_canonical(facts))
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
        if facts.pop(_CHECKSUM, None) not in (None, _digest(_canonical(facts))):
            raise ValueError(f"{FACTS} is not what was written")
        return _entry(folder, facts)
    except (InputError, FileNotFoundError):
        raise
    except OSError as error:
        what = f"the entry cannot be read: {error.strerror or error}"
        raise InputError(what, where=folder, remedy="look after its disk, or delete its folder") from error
    except _DAMAGE as error:
        raise InputError(f"the entry is damaged: {error!r}", where=folder, remedy="delete its folder") from error


def require_classes(entry: Entry, second: bool, count: int) -> None:
    """See that a package of so many classes can have said what it is said to.

    Args:
        entry: A frame that was kept.
        second: Whether the second package's word is looked at.
        count: Of classes.

    Raises:
        InputError: There are other classes in it.
    """
    result = entry.other if second else entry.result
    if result is None:
        return
    if result.probabilities is not None:
        fits = len(result.probabilities) == count
    else:
        numbers = result.labels if result.labels is not None else result.class_map
        fits = numbers is None or int(numbers.max(initial=VOID)) < count
    if not fits:
        what = f"the entry is damaged: it has classes that its package of {count} has not"
        raise InputError(what, where=entry.id, remedy="delete its folder")


def _entry(folder: Path, facts: Mapping[str, Any]) -> Entry:
    """An entry from its facts; raises one of `_DAMAGE` for what cannot be."""
    files = {str(name): _checked(folder, str(name), about) for name, about in facts["files"].items()}
    image = next(name for name in files if name.startswith("image."))
    reasons = {str(name): _number(value, 0, 1) for name, value in facts["reasons"].items()}
    if not reasons or not set(reasons) <= set(REASONS):
        raise ValueError(f"reasons {sorted(facts['reasons'])}")
    entry = Entry(
        _text(facts["id"]),
        files.pop(image),
        Path(image).suffix,
        _context(facts),
        reasons,
        _number(facts["score"], 0, 1),
        (facts["prediction"], facts["other"]),
        files,
    )
    _require_size(entry)
    for result in (entry.result, entry.other):  # that they can be read is found out now
        if result is not None and tuple(result.size) != entry.size:
            raise ValueError(f"a result for an image of {tuple(result.size)}")
    if (entry.other is None) != (entry.context.other_package is None):
        raise ValueError("a second result without its package, or a package without its result")
    return entry


def _context(facts: Mapping[str, Any]) -> FrameContext:
    """Where a frame came from, every value looked at."""
    number, asks, other = facts["number"], facts["asks"], facts["other_package"]
    if type(number) is not int or not 0 <= number < 1 << 62 or type(asks) is not bool:
        raise ValueError(f"a frame of number {number!r}, asks {asks!r}")
    return FrameContext(
        source=_text(facts["source"]),
        name=_text(facts["name"]),
        number=number,
        seconds=None if facts["seconds"] is None else _number(facts["seconds"], -_LATEST, _LATEST),
        time=_number(facts["time"], 0, _LATEST),
        package=_text(facts["package"]),
        uncertainty=_number(facts["uncertainty"], -_LATEST, _LATEST),  # of a model that gives no probabilities, any
        asks=asks,
        drift=None if facts["drift"] is None else _number(facts["drift"], 0, 1),
        other_package=None if other is None else _text(other),
        agreement=None if facts["agreement"] is None else _number(facts["agreement"], 0, 1),
    )


def _number(value: Any, least: float, most: float) -> float:
    """A number that may be; a truth value, a text, NaN or infinity is none."""
    if type(value) not in (int, float) or not least - _SLACK <= value <= most + _SLACK:
        raise ValueError(f"{value!r:.40} is no number from {least:g} to {most:g}")
    return float(value)


def _text(value: Any) -> str:
    if type(value) is not str or not value:
        raise ValueError(f"{value!r:.40} is no text")
    value.encode()  # half a surrogate pair can be written nowhere
    return value


def _require_size(entry: Entry) -> None:
    """See that the picture is one, of the size that the result is for."""
    from PIL import Image

    with Image.open(io.BytesIO(entry.image), formats=("JPEG", "PNG")) as picture:
        if picture.size != entry.size[::-1]:
            raise ValueError(f"a picture of {picture.size[::-1]}, and a result for {entry.size}")


def _canonical(facts: Mapping[str, Any]) -> bytes:
    return json.dumps(facts, ensure_ascii=True, sort_keys=True).encode()


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
    """A result as it was kept; raises one of `_DAMAGE` for what cannot be."""
    task, (height, width) = _text(said["task"]), said["size"]
    if {type(height), type(width)} != {int} or min(height, width) < 1:
        raise ValueError(f"an image of {said['size']}")
    if set(said) - {"task", "size"} != _TASKS[task]:
        raise ValueError(f"a result of '{task}' with {sorted(said)}")
    arrays = {key: np.asarray(said[key], dtype) for key, dtype in _LISTS.items() if key in said}
    if "boxes" in arrays:
        arrays["boxes"] = arrays["boxes"].reshape(-1, 4)
    result = Result(task, (height, width), **arrays)
    if "file" in said:
        with np.load(io.BytesIO(files[said["file"]]), allow_pickle=False) as held:
            class_map, confidence = held["class_map"], held["confidence"].astype(np.float32) / np.float32(_STEPS)
        if class_map.shape != (height, width) or confidence.shape != (height, width):
            raise ValueError(f"a map of {class_map.shape} for an image of {(height, width)}")
        if class_map.dtype != np.int16 or class_map.min() < VOID:
            raise ValueError(f"a map of {class_map.dtype} from {class_map.min()} on")
        result = replace(result, class_map=class_map, confidence=confidence)
    _require_values(result, said)
    return result


def _require_values(result: Result, said: Mapping[str, Any]) -> None:
    """See that numbers are what they may be: finite, as many as there are objects, and confidences from 0 to 1."""
    if any(type(label) is not int or label < 0 for label in said.get("labels", ())):
        raise ValueError("labels that are no class numbers")
    given = result.probabilities
    if given is not None and (given.ndim != 1 or not len(given) or not np.isfinite(given).all()):
        raise ValueError(f"probabilities of {given.shape} that are none")
    if result.boxes is not None and result.labels is not None and result.scores is not None:
        count = len(result.boxes)
        if result.labels.shape != (count,) or result.scores.shape != (count,):
            raise ValueError(f"{count} boxes, labels of {result.labels.shape}, scores of {result.scores.shape}")
        if not np.isfinite(result.boxes).all() or (result.boxes[:, 2:] < 0).any():
            raise ValueError("boxes that are none")
        if not ((result.scores >= 0) & (result.scores <= 1)).all():
            raise ValueError("scores that are not from 0 to 1")
