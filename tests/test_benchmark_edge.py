"""The benchmark of the edge: labels are drawn, found and decoded as said, and every frame and megabyte is accounted for."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from io import BytesIO
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from PIL import Image

from benchmarks.edge_camera import Watched
from benchmarks.edge_closeups import closeups
from benchmarks.edge_inspect import find_defects, labelled_frame
from benchmarks.edge_int8 import shares
from benchmarks.edge_runs import SIDE, crop
from benchmarks.edge_soak import account, memory
from benchmarks.edge_table import table, worst_slice
from curate.demo.pictures import Annotation, Picture
from curate.demo.serials import ALPHABET, LABEL_SIZE, draw_serial, find_label
from curate.geometry import encode_rle
from curate.runner import VOID, Result


def watched(lines: Sequence[object]) -> Watched:
    """A process that prints lines, listened to until its end."""
    text = "\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines)
    process = subprocess.Popen([sys.executable, "-c", f"print({text!r})"], stdout=subprocess.PIPE, text=True)
    run = Watched(process)
    run.listen()
    assert run.wait() == 0
    return run


def frame(number: int) -> dict[str, Any]:
    return {"kind": "frame", "frame": number}


def summary(**counts: int) -> dict[str, Any]:
    names = ("offered", "skipped", "lost", "abandoned", "processed", "unreadable", "reconnects")
    return {"kind": "summary", **dict.fromkeys(names, 0), **counts}


def test_serial_numbers_are_of_the_alphabet_and_fit_the_columns() -> None:
    rng = np.random.default_rng(0)
    serials = [draw_serial(rng) for _ in range(300)]
    assert set("".join(serials)) == set(ALPHABET)
    assert len(set(serials)) > 290
    columns = LABEL_SIZE[1] // 2
    assert max(len(each) + sum(one == other for one, other in pairwise(each)) for each in serials) < columns


def test_labels_are_found_where_they_stick_and_come_out_straight() -> None:
    rng = np.random.default_rng(2)
    picture = rng.integers(60, 180, (480, 640, 1), dtype=np.uint8).repeat(3, axis=2)
    for _ in range(10):
        stuck = labelled_frame(picture, rng)
        pixels = np.asarray(Image.open(BytesIO(stuck.data)).convert("RGB"))
        label = find_label(pixels)
        assert label is not None
        assert label.shape == LABEL_SIZE
        light = np.quantile(label, 0.9)
        assert np.mean(label[2:-2, 2:-2] > 0.5 * light) > 0.6  # the label fills it
        assert np.mean(label < 0.5 * light) > 0.03  # with dark letters
    assert find_label(picture) is None


def test_defects_are_connected_parts_that_are_large_enough() -> None:
    class_map = np.full((60, 80), VOID, np.int16)
    class_map[:20, :20] = 0  # a nut, no defect
    class_map[5:15, 5:25] = 1
    class_map[30:50, 30:50] = 1
    class_map[50:52, 52:60] = 2
    result = Result("segment", (60, 80), class_map=class_map, confidence=np.ones((60, 80), np.float32))
    assert sorted(find_defects(result, ("nut", "scratch", "dent"))) == [("scratch", 200), ("scratch", 400)]


def test_close_ups_show_a_part_with_the_defects_near_it() -> None:
    def mask(top: int, left: int) -> str:
        drawn = np.zeros((300, 400), np.uint8)
        drawn[top : top + 4, left : left + 5] = 1
        return encode_rle(drawn)

    annotations = (
        Annotation(1, "nut", (190.0, 140.0, 20.0, 20.0), None, 400),
        Annotation(2, "bolt", (0.0, 0.0, 30.0, 30.0), None, 900),
        Annotation(3, "dent", (200.0, 150.0, 5.0, 4.0), mask(150, 200), 20),
        Annotation(4, "dent", (300.0, 150.0, 5.0, 4.0), mask(150, 300), 20),
    )
    picture = Picture(1, "images/val/a.jpg", 400, 300, "val", "cam-a", "ring", "wood", None, 0, annotations)
    pixels = np.arange(300 * 400 * 3, dtype=np.uint32).reshape(300, 400, 3).astype(np.uint8)
    nut, bolt = closeups(picture, pixels)
    assert np.array_equal(nut.pixels, pixels[102:198, 136:264])  # in the middle of it
    assert [(label, np.argwhere(drawn)[0].tolist()) for label, drawn in nut.masks] == [("dent", [48, 64])]
    assert np.array_equal(bolt.pixels, pixels[:96, :128])  # within the picture
    assert not bolt.masks


def test_crops_are_squares_around_a_part_and_black_beyond_the_image() -> None:
    image = Image.new("RGB", (200, 100), (255, 255, 255))
    pixels = np.asarray(crop(image, (0, 20, 100, 40)))
    assert pixels.shape == (SIDE, SIDE, 3)
    assert np.all(pixels[:, : SIDE // 20] == 0)
    assert np.all(pixels[SIDE // 2, SIDE // 5 :] == 255)


def test_time_is_shared_out_by_operator() -> None:
    def event(name: str, kind: str, duration: float) -> dict[str, Any]:
        return {"cat": "Node", "name": f"{name}_kernel_time", "dur": duration, "args": {"op_name": kind}}

    runs = [[event("a", "Conv", 60), event("b", "Conv", 20), event("q", "QuantizeLinear", 20)] for _ in range(3)]
    runs[0][0]["dur"] = 6000  # the first run is slow
    events = [each for run in runs for each in run] + [{"cat": "Session", "name": "model_run", "dur": 9}]
    found = shares(events, 3, {"b"})
    assert found["share"] == pytest.approx({"Conv": 0.6, "Conv in groups": 0.2, "QuantizeLinear": 0.2})
    assert found["converting"] == pytest.approx(0.2)


def test_every_frame_is_accounted_for() -> None:
    run = watched([frame(0), frame(3), frame(4), "{cut off", summary(offered=6, lost=2, processed=3, abandoned=1)])
    assert (run.told, run.gaps, run.disorder) == (3, 2, 0)
    found = account(run, sent=8)
    assert (found["uncounted"], found["untold"], found["in_flight"]) == (0, 0, 2)


@pytest.mark.parametrize(
    ("lines", "uncounted", "untold"),
    [
        ([frame(0), summary(offered=3, lost=1, processed=1)], 1, 0),  # one is nowhere
        ([frame(0), frame(9), summary(offered=2, processed=2)], 8, 0),  # numbers that nobody lost
        ([frame(0), summary(offered=2, processed=2)], 0, 1),  # finished without a line
        ([frame(1), frame(0), summary(offered=2, processed=2)], 1, 1),  # out of order
    ],
)
def test_frames_without_account_are_told(lines: Sequence[object], uncounted: int, untold: int) -> None:
    found = account(watched(lines), sent=3)
    assert (found["uncounted"], found["untold"]) == (uncounted, untold)


def test_memory_that_grows_is_told_from_a_warm_up() -> None:
    flat = [[10.0 * k, 100 + 50 * min(k / 36, 1), 9, 9] for k in range(361)]
    found = memory(flat)
    assert (found["first_mb"], found["last_mb"]) == (150, 150)
    assert found["slope_mb_per_hour"] == pytest.approx(0, abs=1e-6)
    growing = memory([[10.0 * k, 100 + k / 3.6, 9, 9 + k] for k in range(361)])
    assert growing["slope_mb_per_hour"] == pytest.approx(100)
    assert growing["last_mb"] - growing["first_mb"] > 60
    assert growing["files"] == [45, 369]


def test_slices_of_few_images_are_not_judged() -> None:
    slices = {
        "dark": {"images": 30, "drop": 0.01},
        "bright": {"images": 30, "drop": -0.02},
        "odd": {"images": 3, "drop": 0.5},
    }
    assert worst_slice(slices) == "dark, 30 images: 1.00"
    assert worst_slice({"odd": slices["odd"]}) == "-"


def test_table_has_what_there_is() -> None:
    kill = {"part": "kill", "kills": 2, "kept": 5, "vanished": 0, "damaged": 1, "imported": 4, "left_out": 1}
    layer = {"part": "layer", "layer": "1 x 1", "instructions": [], "ms": {"onnxruntime": {"float": 3.0, "int8": 1.0}}}
    text = table([kill, layer])
    assert "| 1 x 1 | 3.00 |" in text
    assert "instructions: unknown" in text
    assert "5 frames kept: 0 gone, 1 damaged; 4 imported, 1 equal to others" in text
    assert "cascade" not in text
