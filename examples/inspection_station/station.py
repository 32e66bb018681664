"""The station: two cameras look at a part, two stages look at their pictures at the same time, a controller decides."""

from __future__ import annotations

import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from io import BytesIO

import numpy as np
from PIL import Image

from curate.demo.scratched import ScratchedSet
from curate.demo.serials import find_label, stick_label
from curate.edge.runtime.things import drop_small, things_of
from curate.imaging import Pixels
from curate.models.reading import Reader
from curate.runner import Result, Runner
from examples.common import Row

_SMALLEST = 24  # pixels of a region that counts, 0.06 mm2
_SURE = 0.6  # confidence of a region from which on a part is rejected without a question
_LABEL_CAMERA = (240, 640)


@dataclass(frozen=True)
class Part:
    """A part on the line: JPEG files of both cameras, its serial number, and how many defects it really has."""

    surface: bytes
    label: bytes
    serial: str
    defects: int


class Station:
    """Inspects parts, one after another.

    Args:
        runner: Of the segmenter's package.
        reader: Of serial numbers.
    """

    def __init__(self, runner: Runner, reader: Reader) -> None:
        self._runner, self._reader = runner, reader
        self._beside = ThreadPoolExecutor(1)
        self._seen: set[str] = set()

    def warm_up(self, part: Part) -> None:
        """Run both stages, and forget the part."""
        for _ in range(3):
            self.inspect(part)
            self._seen.clear()

    def inspect(self, part: Part, *, overlapped: bool = True) -> Row:
        """From the two files to the decision.

        Args:
            part: What is inspected.
            overlapped: Whether the serial number is read while defects are looked for; else before, and no part is remembered.
        """
        began = time.perf_counter()
        if overlapped:
            reading = self._beside.submit(self._read, part.label)
            pixels, result = self._look(part.surface)
            serial = reading.result()
        else:
            serial = self._read(part.label)
            pixels, result = self._look(part.surface)
        decision = self._decide(result, serial, self._seen if overlapped else set())
        milliseconds = 1000 * (time.perf_counter() - began)
        drift = self._runner.drift(pixels, result)
        return {"serial": serial, "decision": decision, "ms": milliseconds, "drift": drift}

    def _look(self, data: bytes) -> tuple[Pixels, Result]:
        pixels = _decoded(data)
        (result,) = self._runner.run([pixels])
        return pixels, drop_small(result, _SMALLEST)

    def _read(self, data: bytes) -> str | None:
        label = find_label(_decoded(data))
        return None if label is None else self._reader.read(label[None])[0]

    def _decide(self, result: Result, serial: str | None, seen: set[str]) -> str:
        """The controller: hold, reject, ask or pass."""
        if not serial or serial in seen:
            return "hold"  # nobody knows which part it is
        seen.add(serial)
        scores = things_of(result).scores
        if not len(scores):
            return "pass"
        return "reject" if scores.max() >= _SURE else "ask"


def make_parts(plates: ScratchedSet, split: str, serials: Sequence[str], rng: np.random.Generator) -> list[Part]:
    """The plates of a split, each with a label."""
    surfaces = [surface for surface in plates.surfaces if surface.split == split]
    parts = []
    for surface, serial in zip(surfaces, serials, strict=True):
        data = (plates.root / "images" / surface.file).read_bytes()
        back = rng.integers(90, 130, (*_LABEL_CAMERA, 1), dtype=np.uint8).repeat(3, axis=2)
        label = BytesIO()
        Image.fromarray(stick_label(back, serial, rng)).save(label, "JPEG", quality=92)
        parts.append(Part(data, label.getvalue(), serial, len(surface.defects)))
    return parts


def summed(parts: Sequence[Part], told: Sequence[Row]) -> Row:
    """How many serial numbers were read rightly, and of how many parts the controller said what it should."""
    pairs = list(zip(parts, told, strict=True))
    return {
        "read": float(np.mean([row["serial"] == part.serial for part, row in pairs])),
        "right": float(np.mean([row["decision"] == ("reject" if part.defects else "pass") for part, row in pairs])),
    }


def milliseconds(told: Sequence[Row]) -> Row:
    """The median of what a part took, and what 19 of 20 did not exceed."""
    values = [row["ms"] for row in told]
    return {f"p{part}": float(np.percentile(values, part)) for part in (50, 95)}


def _decoded(data: bytes) -> Pixels:
    return np.asarray(Image.open(BytesIO(data)).convert("RGB"))
