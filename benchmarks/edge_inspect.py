"""Inspection in two stages on two cores: defects by a packaged segmenter, and beside it the part's serial number by a reader."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any, Final

import cv2
import numpy as np
from PIL import Image

from curate.demo.serials import Plates, draw_serial, find_label, stick_label
from curate.imaging import Pixels, load_pixels
from curate.models.reading import Reader
from curate.runner import Result, Runner

CORES: Final = 2
DEFECTS: Final = ("scratch", "dent")

_WARM_UP: Final = 5
_QUALITY: Final = 92
_FRAME: Final = (640, 480)
_SMALLEST_DEFECT: Final = 150  # pixels of a frame, which are six of the camera's


@dataclass(frozen=True)
class Frame:
    """A part with a label somewhere on the picture.

    Attributes:
        data: A JPEG file.
        serial: What the label says.
    """

    data: bytes
    serial: str


@dataclass(frozen=True)
class Inspected:
    """What was found on a frame.

    Attributes:
        defects: Kind and area in pixels of each.
        serial: As it was read; None where no label was found.
        wall: Seconds from the file's bytes to here.
        cpu: Seconds of the processor, by stage.
    """

    defects: list[tuple[str, int]]
    serial: str | None
    wall: float
    cpu: dict[str, float]


def measure_inspection(
    package: Path, reader: Path, pictures: Mapping[Path, bool], *, count: int, seed: int
) -> dict[str, Any]:
    """Inspect frames one after another, as a line brings them, from a JPEG file in memory to defects and a serial number.

    Args:
        package: Of a segmenter.
        reader: The ONNX file of `benchmarks.edge_serial`.
        pictures: Close-ups of parts, and whether each has a defect.
        count: How many frames.
        seed: Of labels and where they stick.
    """
    rng = np.random.default_rng(seed)
    chosen = [list(pictures)[number] for number in rng.permutation(len(pictures))]
    chosen = [chosen[number % len(chosen)] for number in range(count)]
    frames = [labelled_frame(_frame_sized(load_pixels(path)), rng) for path in chosen]
    faulty = np.array([pictures[path] for path in chosen])
    runner, read = Runner(package), Reader(reader).read
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    if cores:
        os.sched_setaffinity(0, cores[:CORES])
    try:
        with ThreadPoolExecutor(1) as beside:
            for frame in frames[:_WARM_UP]:
                inspect(frame.data, runner, read, beside)
            found = [inspect(frame.data, runner, read, beside) for frame in frames]
    finally:
        if cores:
            os.sched_setaffinity(0, cores)
    flagged = np.array([bool(each.defects) for each in found])
    told = {"faulty_flagged": [int(flagged[faulty].sum()), int(faulty.sum())]}
    told |= {"sound_flagged": [int(flagged[~faulty].sum()), int((~faulty).sum())]}
    about = {"part": "inspection", "cores": CORES, "frames": count, "load": _load()}
    return {**about, **told, **_summed(frames, found)}


def inspect(data: bytes, runner: Runner, read: Callable[[Plates], list[str]], beside: ThreadPoolExecutor) -> Inspected:
    """Both stages on one frame; the second in a thread of its own, since it needs the pixels alone."""
    began, at = time.perf_counter(), time.thread_time()
    pixels = np.asarray(Image.open(BytesIO(data)).convert("RGB"))
    decoding = time.thread_time() - at
    other = beside.submit(_read_serial, pixels, read)
    at = time.thread_time()
    (result,) = runner.run([pixels])
    defects = find_defects(result, runner.package.classes)
    segmenting = time.thread_time() - at
    serial, reading = other.result()
    cpu = {"decode": decoding, "defects": segmenting, "serial": reading}
    return Inspected(defects, serial, time.perf_counter() - began, cpu)


def _read_serial(pixels: Pixels, read: Callable[[Plates], list[str]]) -> tuple[str | None, float]:
    at = time.thread_time()
    label = find_label(pixels)
    serial = None if label is None else read(label[None])[0]
    return serial, time.thread_time() - at


def find_defects(result: Result, classes: Sequence[str]) -> list[tuple[str, int]]:
    """Connected parts of the class map that are defects, with their areas in pixels."""
    assert result.class_map is not None
    found = []
    for name in DEFECTS:
        inside = (result.class_map == classes.index(name)).astype(np.uint8)
        if inside.any():
            _, _, statistics, _ = cv2.connectedComponentsWithStats(inside)
            areas = statistics[1:, cv2.CC_STAT_AREA].tolist()
            found += [(name, area) for area in areas if area >= _SMALLEST_DEFECT]
    return found


def labelled_frame(pixels: Pixels, rng: np.random.Generator) -> Frame:
    """A picture with a label somewhere on it, as a JPEG file."""
    serial = draw_serial(rng)
    stored = BytesIO()
    Image.fromarray(stick_label(pixels, serial, rng)).save(stored, "JPEG", quality=_QUALITY)
    return Frame(stored.getvalue(), serial)


def _load() -> float | None:
    """Processes that wanted a core in the last minute, on average; None where the system does not tell."""
    return round(os.getloadavg()[0], 1) if hasattr(os, "getloadavg") else None


def _frame_sized(pixels: Pixels) -> Pixels:
    return np.asarray(cv2.resize(pixels, _FRAME, interpolation=cv2.INTER_CUBIC))


def _summed(frames: Sequence[Frame], found: Sequence[Inspected]) -> dict[str, Any]:
    wall = 1000 * np.array([each.wall for each in found])
    cpu = {stage: 1000 * float(np.median([each.cpu[stage] for each in found])) for stage in found[0].cpu}
    return {
        "wall_ms": {f"p{part}": float(np.percentile(wall, part)) for part in (10, 50, 95, 99)},
        "cpu_ms": cpu,
        "cpu_ms_in_all": float(1000 * np.median([sum(each.cpu.values()) for each in found])),
        "labels_found": sum(each.serial is not None for each in found) / len(found),
        "serials_right": sum(each.serial == frame.serial for each, frame in zip(found, frames, strict=True))
        / len(found),
        "defects": sum(len(each.defects) for each in found),
    }
