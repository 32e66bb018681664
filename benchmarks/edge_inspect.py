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
import numpy.typing as npt
from PIL import Image

from benchmarks.edge_serial import HEIGHT, WIDTH, Plates, draw_label, draw_serial, open_reader
from curate.imaging import Pixels, load_pixels
from curate.runner import Result, Runner

CORES: Final = 2
DEFECTS: Final = ("scratch", "dent")

_WARM_UP: Final = 5
_LABEL_WIDTH: Final = (150, 200)  # pixels on a frame
_TILT: Final = 10.0  # degrees
_QUALITY: Final = 92
_FRAME: Final = (640, 480)
_HUES: Final = ((148, 90, 50), (172, 255, 255))  # of labels, in OpenCV's HSV
_ASPECT: Final = (3.5, 7.0)
_FILLED: Final = 0.8
_INWARD: Final = 0.1  # of half a label's height
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
    frames = [stick_label(_frame_sized(load_pixels(path)), rng) for path in chosen]
    faulty = np.array([pictures[path] for path in chosen])
    runner, read = Runner(package), open_reader(reader)
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


def stick_label(pixels: Pixels, rng: np.random.Generator) -> Frame:
    """Put a label on a picture, anywhere and a little tilted."""
    serial = draw_serial(rng)
    label = draw_label(serial, rng)
    width = rng.uniform(*_LABEL_WIDTH)
    scale, angle = width / label.shape[1], np.radians(rng.uniform(-_TILT, _TILT))
    across = np.array([np.cos(angle), np.sin(angle)]) * width
    down = np.array([-np.sin(angle), np.cos(angle)]) * scale * label.shape[0]
    corners = np.array([[0, 0], across, across + down, down])
    low, high = -corners.min(axis=0) + 2, np.array(pixels.shape[1::-1]) - corners.max(axis=0) - 2
    corners = (corners + rng.uniform(low, high)).astype(np.float32)
    size = pixels.shape[1], pixels.shape[0]
    matrix = cv2.getPerspectiveTransform(_corners(label.shape[1], label.shape[0]), corners)
    drawn = cv2.warpPerspective(cv2.GaussianBlur(label, (0, 0), 0.4 / scale), matrix, size)
    cover = cv2.warpPerspective(np.ones(label.shape[:2], np.float32), matrix, size)[..., None]
    light = rng.uniform(0.6, 1.0)
    whole = np.clip(pixels * (1 - cover) + light * drawn * cover, 0, 255).astype(np.uint8)
    stored = BytesIO()
    Image.fromarray(whole).save(stored, "JPEG", quality=_QUALITY)
    return Frame(stored.getvalue(), serial)


def find_label(pixels: Pixels) -> Plates | None:
    """The pink label on a picture, cut out straight and grey, uint8 of shape (HEIGHT, WIDTH); None where there is none."""
    inside = cv2.inRange(cv2.cvtColor(pixels, cv2.COLOR_RGB2HSV), *(np.array(each) for each in _HUES))
    inside = cv2.morphologyEx(inside, cv2.MORPH_CLOSE, np.ones((11, 11), np.uint8))
    outlines, _ = cv2.findContours(inside, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    best, corners = 0.0, None
    for outline in outlines:
        middle, sides, angle = cv2.minAreaRect(outline)
        area, (short, long) = cv2.contourArea(outline), sorted(sides)
        likely = short > 0 and _ASPECT[0] <= long / short <= _ASPECT[1] and area >= _FILLED * short * long
        if likely and area > best:
            best, corners = area, cv2.boxPoints((middle, sides, angle))
    if corners is None:
        return None
    corners = _from_top_left(corners)
    corners += _INWARD * (corners.mean(axis=0) - corners) * [HEIGHT / WIDTH, 1]  # what lies around it is no stroke
    matrix = cv2.getPerspectiveTransform(corners.astype(np.float32), _corners(WIDTH, HEIGHT))
    return np.asarray(cv2.warpPerspective(cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY), matrix, (WIDTH, HEIGHT)))


def _load() -> float | None:
    """Processes that wanted a core in the last minute, on average; None where the system does not tell."""
    return round(os.getloadavg()[0], 1) if hasattr(os, "getloadavg") else None


def _frame_sized(pixels: Pixels) -> Pixels:
    return np.asarray(cv2.resize(pixels, _FRAME, interpolation=cv2.INTER_CUBIC))


def _corners(width: int, height: int) -> npt.NDArray[np.float32]:
    return np.array([[0, 0], [width, 0], [width, height], [0, height]], np.float32)


def _from_top_left(corners: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Corners of a lying rectangle, clockwise from the top left one."""
    by_x = corners[np.argsort(corners[:, 0], kind="stable")]
    left, right = (pair[np.argsort(pair[:, 1], kind="stable")] for pair in (by_x[:2], by_x[2:]))
    return np.array([left[0], right[0], right[1], left[1]], np.float32)


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
