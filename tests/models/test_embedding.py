"""Embedding: what is planned, reused, resumed after a kill, left out."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pytest
from PIL import Image

from curate.dataset.schema import embeddings_schema
from curate.errors import InputError
from curate.imaging import Pixels, load_pixels
from curate.models.embedding import Embedding, embed
from curate.models.encoders.base import Encoder, Vectors
from curate.models.passes import ITEMS, crop_items, image_items
from curate.models.spaces import space_name


class MeanColor:
    """The unit vector along an image's mean colour; counts what it encodes."""

    name = "mean-color"
    dimensions = 3
    input_size = 8

    def __init__(self) -> None:
        self.encoded = 0

    def prepare(self, pixels: Pixels) -> npt.NDArray[np.generic]:
        return np.asarray(pixels.mean(axis=(0, 1)))

    def encode(self, prepared: Sequence[npt.NDArray[np.generic]]) -> Vectors:
        self.encoded += len(prepared)
        vectors = np.stack(prepared).astype(np.float32)
        return np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True))


@pytest.fixture
def items(tmp_path: Path) -> pa.Table:
    """Thirty images; number n is (n + 1, 100, 0) throughout."""
    paths = []
    for number in range(30):
        path = tmp_path / f"{number:02d}.png"
        Image.new("RGB", (20, 10), (number + 1, 100, 0)).save(path)
        paths.append(str(path))
    return make_items([f"id{number:02d}" for number in range(30)], paths, [None] * 30)


def make_items(ids: Sequence[str], paths: Sequence[str | None], boxes: Sequence[list[float] | None]) -> pa.Table:
    return pa.table([ids, paths, pa.array(boxes, ITEMS.field("bbox").type)], schema=ITEMS)


def rewrite(path: str, color: tuple[int, int, int]) -> None:
    """Another picture in the same file, with a later time of change even on a coarse clock."""
    later = Path(path).stat().st_mtime_ns + 2_000_000_000
    Image.new("RGB", (20, 10), color).save(path)
    os.utime(path, ns=(later, later))


def test_vectors_carry_the_ids_and_pixels_they_belong_to(items: pa.Table, tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    result = embed(
        items, None, MeanColor(), tmp_path / "spool", progress=lambda done, total: seen.append((done, total))
    )
    assert result.new.schema.equals(embeddings_schema(3))
    assert result.new["id"].to_pylist() == items["id"].to_pylist()
    expected = np.array([(number + 1, 100, 0) for number in range(30)], np.float32)
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    np.testing.assert_allclose(np.array(result.new["vector"].to_pylist()), expected, atol=1e-3)
    assert (result.reused, result.unreadable, result.skipped) == (0, [], [])
    assert seen[-1] == (30, 30)


def test_only_what_changed_is_embedded_again(items: pa.Table, tmp_path: Path) -> None:
    first = embed(items, None, MeanColor(), tmp_path / "spool")
    first.discard_spool()
    assert not (tmp_path / "spool").exists()
    rewrite(items["path"][7].as_py(), (0, 0, 50))
    encoder = MeanColor()
    second = embed(items, first.new.select(["id", "fingerprint"]), encoder, tmp_path / "spool")
    assert encoder.encoded == 1
    assert second.reused == 29
    assert second.new["id"].to_pylist() == ["id07"]
    assert second.new["vector"].to_pylist() == [[0, 0, 1]]


def test_a_spool_that_was_not_committed_is_used_once(items: pa.Table, tmp_path: Path) -> None:
    embed(items.slice(0, 20), None, MeanColor(), tmp_path / "spool")
    rewrite(items["path"][3].as_py(), (0, 0, 50))
    encoder = MeanColor()
    second = embed(items, None, encoder, tmp_path / "spool")
    assert encoder.encoded == 11  # ten new ones and the changed one
    assert second.new["id"].to_pylist() == items["id"].to_pylist()
    assert second.new["vector"][3].as_py() == [0, 0, 1]
    # Committed, but killed before the spool was thrown away: nothing is written twice.
    encoder = MeanColor()
    third = embed(items, second.new, encoder, tmp_path / "spool")
    assert (encoder.encoded, third.new.num_rows, third.reused) == (0, 0, 30)


def test_the_spool_of_another_encoder_is_not_used(items: pa.Table, tmp_path: Path) -> None:
    embed(items, None, MeanColor(), tmp_path / "spool")
    other = MeanColor()
    other.name = "mean-color-v2"
    assert embed(items, None, other, tmp_path / "spool").new.num_rows == 30
    assert other.encoded == 30


def test_a_damaged_part_is_embedded_again(items: pa.Table, tmp_path: Path) -> None:
    (part,) = embed(items, None, MeanColor(), tmp_path / "spool").parts
    part.write_bytes(part.read_bytes()[:-40])
    encoder = MeanColor()
    assert embed(items, None, encoder, tmp_path / "spool").new.num_rows == 30
    assert encoder.encoded == 30


def test_unreadable_images_and_impossible_boxes_are_listed(items: pa.Table, tmp_path: Path) -> None:
    good, broken = items["path"][0].as_py(), items["path"][1].as_py()
    Path(broken).write_bytes(b"\x89PNG nothing")
    rows: dict[str, tuple[str | None, list[float] | None]] = {
        "ok": (good, [0, 0, 20, 10]),
        "flat": (good, [0, 0, 20, 0]),
        "outside": (good, [25, 0, 5, 5]),
        "nan": (good, [0, float("nan"), 5, 5]),
        "broken": (broken, [0, 0, 5, 5]),
        "missing": (str(tmp_path / "missing.png"), [0, 0, 5, 5]),
        "nowhere": (None, None),
        "whole": (good, None),
    }
    table = make_items(list(rows), [path for path, _ in rows.values()], [box for _, box in rows.values()])
    seen: list[tuple[int, int]] = []
    result = embed(
        table, None, MeanColor(), tmp_path / "spool", progress=lambda done, total: seen.append((done, total))
    )
    assert result.new["id"].to_pylist() == ["ok", "whole"]
    assert {left.id: left.reason.split("] ")[-1] for left in result.skipped} == {
        "flat": "has no area",
        "outside": "lies outside the image of 20 x 10 pixels",
        "nan": "has a coordinate that is not a number",
    }
    assert {left.id: left.path for left in result.unreadable} == {
        "broken": broken,
        "missing": str(tmp_path / "missing.png"),
        "nowhere": None,
    }
    assert seen[-1] == (8, 8)


def test_a_moved_box_is_another_crop(tmp_path: Path) -> None:
    pixels = np.zeros((40, 100, 3), np.uint8)
    pixels[:, :50, 0] = pixels[:, 50:, 2] = 255
    path = str(tmp_path / "halves.png")
    Image.fromarray(pixels).save(path)
    first = embed(make_items(["a", "b"], [path] * 2, [[0, 0, 20, 20]] * 2), None, MeanColor(), tmp_path / "spool")
    assert first.new["vector"].to_pylist() == [[1, 0, 0]] * 2
    first.discard_spool()
    moved = make_items(["a", "b"], [path] * 2, [[0, 0, 20, 20], [70, 0, 20, 20]])
    second = embed(moved, first.new, MeanColor(), tmp_path / "spool")
    assert (second.new["id"].to_pylist(), second.new["vector"].to_pylist()) == (["b"], [[0, 0, 1]])


def test_items_of_a_dataset() -> None:
    images = pa.table({"image_id": ["i1", "i2"], "path": ["one.png", None]})
    assert image_items(images).to_pylist() == [
        {"id": "i1", "path": "one.png", "bbox": None},
        {"id": "i2", "path": None, "bbox": None},
    ]
    boxes = pa.array([[1, 2, 3, 4], None, [5, 6, 7, 8]], pa.list_(pa.float64(), 4))
    annotations = pa.table({"annotation_id": ["a", "b", "c"], "image_id": ["i2", "i1", "i1"], "bbox": boxes})
    assert crop_items(annotations, images).to_pylist() == [
        {"id": "a", "path": None, "bbox": [1, 2, 3, 4]},
        {"id": "c", "path": "one.png", "bbox": [5, 6, 7, 8]},
    ]


def test_nothing_to_embed(tmp_path: Path) -> None:
    result = embed(ITEMS.empty_table(), None, MeanColor(), tmp_path / "spool")
    assert result.new.schema.equals(embeddings_schema(3))
    assert (result.new.num_rows, result.parts) == (0, ())


def test_vectors_that_are_not_numbers_are_refused(tmp_path: Path) -> None:
    Image.new("RGB", (4, 4)).save(tmp_path / "black.png")  # no direction: 0 / 0
    table = make_items(["a"], [str(tmp_path / "black.png")], [None])
    with np.errstate(invalid="ignore"), pytest.raises(InputError, match="not made of numbers"):
        embed(table, None, MeanColor(), tmp_path / "spool")


def test_an_interrupted_run_keeps_what_it_had(items: pa.Table, tmp_path: Path) -> None:
    def interrupt(done: int, total: int) -> None:
        if done == 12:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        embed(items, None, MeanColor(), tmp_path / "spool", batch_size=4, progress=interrupt)
    encoder = MeanColor()
    assert embed(items, None, encoder, tmp_path / "spool").new["id"].to_pylist() == items["id"].to_pylist()
    assert encoder.encoded == 18


@pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGKILL on Windows")
def test_a_killed_run_goes_on_where_it_stopped(items: pa.Table, tmp_path: Path) -> None:
    spool = tmp_path / "spool"
    program = f"""
import sys, time
sys.path.insert(0, {str(Path(__file__).parent)!r})
import pyarrow as pa
from curate.models import spool as parts
from test_embedding import MeanColor, embed, make_items
parts._PART_ROWS = 4
class Slow(MeanColor):
    def encode(self, prepared):
        time.sleep(0.05)
        return super().encode(prepared)
items = make_items({items["id"].to_pylist()!r}, {items["path"].to_pylist()!r}, [None] * 30)
def report(done, total):
    if done >= 14:
        print("ready", flush=True)
        time.sleep(60)
embed(items, None, Slow(), __import__("pathlib").Path({str(spool)!r}), batch_size=4, progress=report)
"""
    process = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n"
    process.send_signal(signal.SIGKILL)
    process.communicate()
    (spool / ".part-000005.arrow.123.tmp").write_bytes(b"half a par")  # what a kill in mid-write leaves
    encoder = MeanColor()
    began = time.monotonic()
    result = embed(items, None, encoder, spool)
    assert time.monotonic() - began < 10
    assert result.new["id"].to_pylist() == items["id"].to_pylist()
    assert encoder.encoded == 30 - 16  # four parts of four were on disk
    result.discard_spool()
    assert not spool.exists()


@pytest.mark.parametrize(
    ("input_size", "scale"),
    [
        (64, 2),  # 240 pixels are more than twice as many
        (121, 2),  # 240 are enough for a larger input, if not twice as many
        (224, 2),
        (240, 2),
        (256, 1),
    ],
)
def test_a_jpeg_is_decoded_at_a_scale_that_leaves_enough_for_the_input(
    tmp_path: Path, input_size: int, scale: int
) -> None:
    class Large(MeanColor):
        def prepare(self, pixels: Pixels) -> npt.NDArray[np.generic]:
            return np.array(pixels.shape)

    encoder = Large()
    encoder.input_size = input_size
    Image.new("RGB", (640, 480)).save(tmp_path / "photo.jpg")
    computation = Embedding(encoder)
    pixels = load_pixels(tmp_path / "photo.jpg", shortest_side=computation.input_size)
    assert computation.prepare(pixels).tolist() == [480 // scale, 640 // scale, 3]


def test_a_space_of_a_long_path_is_a_file_name() -> None:
    encoders = [SimpleNamespace(name=f"onnx:/{'deep/' * 60}{last}.onnx@01234567") for last in "ab"]
    names = {space_name(cast(Encoder, encoder)) for encoder in encoders}
    assert len(names) == 2
    assert {len(name) for name in names} == {160}
    assert all(name.endswith(".onnx@01234567") for name in names)
