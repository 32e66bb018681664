"""The local engine: order, crops, failures, bounded look-ahead and clean stops."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

import curate.engine.local as local
from curate.engine.local import run_local
from curate.engine.stage import Failure, Item
from curate.imaging import Pixels, load_pixels


class Sizes:
    """A stage that says how large each image came and its mean red."""

    def __init__(self, input_size: int | None = None, margin: float = 0.0) -> None:
        self.input_size = input_size
        self.margin = margin
        self.batches: list[int] = []

    def prepare(self, pixels: Pixels) -> tuple[int, int, int]:
        return pixels.shape[1], pixels.shape[0], round(float(pixels[..., 0].mean()))

    def run(self, batch: Sequence[tuple[int, int, int]]) -> pa.RecordBatch:
        self.batches.append(len(batch))
        width, height, red = np.array(batch).T
        return pa.record_batch({"width": width, "height": height, "red": red})


@pytest.fixture
def reds(tmp_path: Path) -> list[Path]:
    """Forty images; the red of number n is n."""
    paths = []
    for number in range(40):
        path = tmp_path / f"{number}.png"
        Image.new("RGB", (8 + number, 8), (number, 0, 0)).save(path)
        paths.append(path)
    return paths


def decoding_threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("decode")]


def test_rows_come_in_the_order_of_items_in_full_batches(reds: list[Path]) -> None:
    stage = Sizes()
    rows = list(run_local(stage, map(Item, reds), threads=4, batch_size=7))
    assert np.concatenate([part.item for part in rows]).tolist() == list(range(40))
    assert np.concatenate([part.columns["red"] for part in rows]).tolist() == list(range(40))
    assert stage.batches == [7] * 5 + [5]
    assert decoding_threads() == []


def test_unreadable_images_are_reported_and_left_out(reds: list[Path]) -> None:
    reds[3].write_bytes(reds[3].read_bytes()[:50])
    reds[17].unlink()
    failures: list[Failure] = []
    rows = list(run_local(Sizes(), map(Item, reds), threads=3, batch_size=16, on_error=failures.append))
    assert [(failure.item, failure.box, failure.error.where) for failure in failures] == [
        (3, None, str(reds[3])),
        (17, None, str(reds[17])),
    ]
    assert "not there" in failures[1].error.what
    assert np.concatenate([part.item for part in rows]).tolist() == [n for n in range(40) if n not in {3, 17}]


def test_an_image_is_decoded_once_for_itself_and_all_its_crops(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pixels = np.zeros((40, 100, 3), np.uint8)
    pixels[:, 50:] = 200
    Image.fromarray(pixels).save(tmp_path / "halves.png")
    decoded: list[object] = []

    def counting(path: str | Path, *, shortest_side: int | None = None) -> Pixels:
        decoded.append(path)
        return load_pixels(path, shortest_side=shortest_side)

    monkeypatch.setattr(local, "load_pixels", counting)
    boxes = [[60, 0, 20, 10], [0, 10, 30, 10], [90, 30, 10, 10], None]
    items = [Item(tmp_path / "halves.png", boxes), Item(tmp_path / "halves.png", []), Item(tmp_path / "halves.png")]
    (rows,) = run_local(Sizes(margin=0.1), items, threads=2)
    assert len(decoded) == 2  # once for the three boxes and the whole, once for the whole alone
    assert list(zip(rows.item.tolist(), rows.box.tolist(), strict=True)) == [(0, 0), (0, 1), (0, 2), (0, 3), (2, 0)]
    assert rows.columns["red"].to_pylist() == [200, 0, 200, 100, 100]
    # 20 x 10 with 2 pixels around it, cut at the top; 10 x 10 with 1 pixel, cut at two sides.
    assert rows.columns["width"].to_pylist() == [24, 33, 11, 100, 100]
    assert rows.columns["height"].to_pylist() == [12, 16, 11, 40, 40]


@pytest.mark.parametrize(
    ("box", "scale"),
    [
        ([100, 100, 1200, 1000], 8),  # 125 pixels at an eighth: still more than twice 32
        ([100, 100, 1200, 300], 4),
        ([100, 100, 80, 70], 1),  # a quarter would leave 18 pixels
    ],
)
def test_large_crops_are_decoded_at_a_lower_scale(tmp_path: Path, box: list[float], scale: int) -> None:
    Image.new("RGB", (1600, 1200), (90, 0, 0)).save(tmp_path / "large.jpg")
    (rows,) = run_local(Sizes(input_size=32), [Item(tmp_path / "large.jpg", [box])])
    (width,), (height,) = rows.columns["width"].to_pylist(), rows.columns["height"].to_pylist()
    assert (width, height) == pytest.approx((box[2] / scale, box[3] / scale), abs=1.5)
    assert min(width, height) >= 64


def test_whole_images_are_decoded_at_twice_the_wanted_size(tmp_path: Path) -> None:
    Image.new("RGB", (1600, 1200)).save(tmp_path / "large.jpg")
    (rows,) = run_local(Sizes(input_size=100), [Item(tmp_path / "large.jpg")])
    assert rows.columns["height"].to_pylist() == [300]  # a quarter; an eighth would be 150, below 200


def test_impossible_boxes_are_reported_one_by_one(reds: list[Path]) -> None:
    nan = float("nan")
    boxes: list[list[float]] = [[0, 0, 4, 4], [0, 0, 0, 4], [nan, 0, 4, 4], [8, 0, 4, 4], [-5, 0, 5, 5], [-5, 0, 6, 5]]
    failures: list[Failure] = []
    items = [Item(reds[0], boxes), Item(reds[1], [[0, 0, -1, 2]])]
    (rows,) = run_local(Sizes(), items, on_error=failures.append)
    assert rows.box.tolist() == [0, 5]
    assert [(failure.item, failure.box) for failure in failures] == [(0, 1), (0, 2), (0, 3), (0, 4), (1, 0)]
    assert [failure.error.what.split("] ")[1] for failure in failures] == [
        "has no area",
        "has a coordinate that is not a number",
        "lies outside the image of 8 x 8 pixels",
        "lies outside the image of 8 x 8 pixels",
        "has no area",
    ]


def test_decoding_runs_only_so_far_ahead_and_stops_when_closed(reds: list[Path]) -> None:
    taken = 0

    def endless() -> Iterator[Item]:
        nonlocal taken
        while True:
            taken += 1
            yield Item(reds[taken % 40])

    batches = run_local(Sizes(), endless(), threads=2, batch_size=5)
    for _ in range(3):
        next(batches)
    assert 15 <= taken <= 15 + 5 + 2 * 2
    batches.close()
    assert decoding_threads() == []


def test_a_stage_that_fails_leaves_no_threads(reds: list[Path]) -> None:
    class Broken(Sizes):
        def run(self, batch: Sequence[tuple[int, int, int]]) -> pa.RecordBatch:
            raise RuntimeError("out of memory")

    with pytest.raises(RuntimeError, match="out of memory"):
        list(run_local(Broken(), map(Item, reds), threads=2, batch_size=4))
    assert decoding_threads() == []


@pytest.mark.skipif(sys.platform == "win32", reason="signals differ on Windows")
def test_an_interrupt_stops_at_once(reds: list[Path]) -> None:
    program = f"""
import signal, time
signal.signal(signal.SIGINT, signal.default_int_handler)  # which a shell's background jobs lack
from curate.engine.local import run_local
from curate.engine.stage import Item
class Slow:
    input_size, margin = None, 0.0
    def prepare(self, pixels):
        time.sleep(0.05)
        return pixels
    def run(self, batch):
        print("running", flush=True)
        return None
def items():
    while True:
        yield Item({str(reds[0])!r})
for rows in run_local(Slow(), items(), threads=4, batch_size=1000):
    pass
"""
    process = subprocess.Popen([sys.executable, "-c", program], stderr=subprocess.PIPE, stdout=subprocess.PIPE)
    time.sleep(1.5)  # importing takes most of it; the first batch would take 12 s
    sent = time.monotonic()
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=20)
    assert time.monotonic() - sent < 3
    assert b"KeyboardInterrupt" in errors
