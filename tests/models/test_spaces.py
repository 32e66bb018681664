"""Tables of computed columns: one decoding for everything, and only what is missing is computed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from curate.dataset import Transaction, begin, open_dataset
from curate.dataset.schema import embeddings_schema
from curate.imaging import Pixels
from curate.models.passes import ITEMS
from curate.models.spaces import Kept, TableUpdate, read_vectors, update_tables


class Channel:
    """The mean of one channel."""

    input_size: int | None = None
    margin = 0.0

    def __init__(self, channel: int) -> None:
        self._channel = channel
        self.name = f"channel-{channel}"
        self.columns = pa.schema([(f"mean_{channel}", pa.float32())])

    def prepare(self, pixels: Pixels) -> float:
        return float(pixels[..., self._channel].mean())

    def run(self, batch: Sequence[float]) -> pa.RecordBatch:
        return pa.record_batch([pa.array(batch, pa.float32())], schema=self.columns)


class Height(Channel):
    """How high a crop is with a margin as wide as its box: it shows that each computation gets its own."""

    margin = 1.0

    def __init__(self) -> None:
        super().__init__(2)
        self.name = "height"

    def prepare(self, pixels: Pixels) -> float:
        return float(pixels.shape[0] * 1000 + pixels.shape[1])


RED, GREEN = Kept("means/red", Channel(0), "measured"), Kept("means/green", Channel(1), "measured")


@pytest.fixture
def items(tmp_path: Path) -> dict[str, pa.Table]:
    """Two images, their left half red, their right half green, and a crop of each half of the first."""
    pixels = np.zeros((10, 20, 3), np.uint8)
    pixels[:, :10, 0] = 200
    pixels[:, 10:, 1] = 100
    for name in ("a", "b"):
        Image.fromarray(pixels).save(tmp_path / f"{name}.png")
    paths = [str(tmp_path / f"{name}.png") for name in ("a", "b")]
    crops = [[0.0, 0, 10, 10], [10.0, 0, 10, 10]]
    boxes = ITEMS.field("bbox").type
    return {
        "images": pa.table([["a", "b"], paths, pa.array([None, None], boxes)], schema=ITEMS),
        "crops": pa.table([["left", "right"], paths[:1] * 2, pa.array(crops, boxes)], schema=ITEMS),
    }


def update(kept: Sequence[Kept], items: dict[str, pa.Table]) -> list[TableUpdate]:
    with begin("parts", command="test", create=True) as transaction:
        return update_tables(transaction, kept, items)  # type: ignore[arg-type]


def means(table: str, column: str) -> dict[str, float]:
    with begin("parts", command="test") as transaction:
        rows = transaction.read(table)
    return dict(zip(rows["id"].to_pylist(), rows[column].to_pylist(), strict=True))


def test_each_image_is_decoded_once_for_all_columns_and_crops(items: dict[str, pa.Table], decoded: list[str]) -> None:
    updates = update([RED, GREEN], items)
    assert sorted(decoded) == ["a.png", "b.png"]
    assert [(each.table, each.new) for each in updates] == [
        ("means/red-images", 2),
        ("means/red-crops", 2),
        ("means/green-images", 2),
        ("means/green-crops", 2),
    ]
    assert means("means/red-images", "mean_0") == {"a": 100, "b": 100}
    assert means("means/green-crops", "mean_1") == {"left": 0, "right": 100}


def test_only_what_is_missing_is_computed(items: dict[str, pa.Table], decoded: list[str]) -> None:
    update([RED], {"images": items["images"]})
    decoded.clear()
    assert [(each.new, each.reused) for each in update([RED], {"images": items["images"]})] == [(0, 2)]
    assert decoded == []
    later = update([RED, GREEN], {"images": items["images"]})
    assert [(each.table, each.new, each.reused) for each in later] == [
        ("means/red-images", 0, 2),
        ("means/green-images", 2, 0),
    ]
    assert sorted(decoded) == ["a.png", "b.png"]


def test_what_cannot_be_read_is_left_out_of_its_own_table(items: dict[str, pa.Table], tmp_path: Path) -> None:
    (tmp_path / "b.png").write_bytes(b"no image")
    images, crops = update([RED], items)
    assert [row.id for row in images.left_out] == ["b"]
    assert (images.new, crops.new, crops.left_out) == (1, 2, [])


def test_what_is_for_images_only_comes_with_the_same_decoding(items: dict[str, pa.Table], decoded: list[str]) -> None:
    whole = Kept("means/green", Channel(1), "measured", contents=("images",))
    updates = update([RED, whole], items)
    assert sorted(decoded) == ["a.png", "b.png"]
    assert [(each.table, each.new) for each in updates] == [
        ("means/red-images", 2),
        ("means/red-crops", 2),
        ("means/green-images", 2),
    ]
    assert means("means/green-images", "mean_1") == {"a": 50, "b": 50}
    assert means("means/red-crops", "mean_0") == {"left": 200, "right": 0}
    decoded.clear()
    assert [(each.new, each.reused) for each in update([RED, whole], items)] == [(0, 2)] * 3
    assert decoded == []
    # The other content, wanted later, is computed then, and nothing else is.
    assert [(each.table, each.new) for each in update([RED, GREEN], items)][2:] == [
        ("means/green-images", 0),
        ("means/green-crops", 2),
    ]
    assert decoded == ["a.png"]


def test_together_each_gives_what_it_gives_alone(items: dict[str, pa.Table]) -> None:
    height = Kept("height", Height(), "measured")
    update([height], items)
    alone = means("height-crops", "mean_2")
    assert alone == {"left": 10_020, "right": 10_020}
    update([RED, Kept("height/again", Height(), "measured")], items)
    assert means("height/again-crops", "mean_2") == alone
    assert means("means/red-crops", "mean_0") == {"left": 200, "right": 0}


def test_what_a_killed_pass_left_out_on_purpose_is_not_taken_for_done(
    items: dict[str, pa.Table], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = Kept("means/green", Channel(1), "measured", contents=("images",))
    monkeypatch.setattr(Transaction, "append", killed)
    with pytest.raises(KeyboardInterrupt):
        update([RED, whole], items)
    monkeypatch.undo()
    assert [each.new for each in update([RED, GREEN], items)] == [2, 2, 2, 2]
    assert means("means/green-crops", "mean_1") == {"left": 0, "right": 100}


def test_what_a_killed_pass_did_is_used_by_any_pass_that_wants_it(
    items: dict[str, pa.Table], decoded: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    update([GREEN], {"images": items["images"].slice(1)})  # the dataset is there
    with monkeypatch.context() as patch:
        patch.setattr(Transaction, "append", killed)
        with pytest.raises(KeyboardInterrupt):
            update([RED, GREEN], items)
    decoded.clear()
    assert [(each.table, each.new, each.reused) for each in update([RED], items)] == [
        ("means/red-images", 2, 0),
        ("means/red-crops", 2, 0),
    ]
    assert [(each.new, each.reused) for each in update([GREEN], items)] == [(1, 1), (2, 0)]
    assert decoded == []
    assert means("means/green-images", "mean_1") == {"a": 50, "b": 50}
    assert not list((open_dataset("parts").path / "spool").iterdir())


def test_a_file_that_cannot_be_read_does_not_make_the_others_be_computed_again(
    items: dict[str, pa.Table], tmp_path: Path, decoded: list[str]
) -> None:
    (tmp_path / "b.png").write_bytes(b"no image")
    update([RED], {"images": items["images"]})
    computed: list[float] = []

    class Counting(Channel):
        def prepare(self, pixels: Pixels) -> float:
            computed.append(super().prepare(pixels))
            return computed[-1]

    red = Kept(RED.prefix, Counting(0), "measured")
    updates = update([red, GREEN], {"images": items["images"]})
    assert computed == []
    assert [(each.new, each.reused, [row.id for row in each.left_out]) for each in updates] == [
        (0, 1, ["b"]),
        (1, 0, ["b"]),
    ]


def killed(*arguments: object) -> None:
    raise KeyboardInterrupt


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_vectors_come_in_the_order_that_is_asked_for(dtype: type[np.floating]) -> None:
    ids = [f"{number:016x}" for number in range(5)]
    stored = np.arange(15, dtype=np.float16).reshape(5, 3)
    with begin("spaced", command="test", create=True) as transaction:
        column = pa.FixedSizeListArray.from_arrays(pa.array(stored.ravel()), 3)
        rows = pa.table([pa.array(ids), pa.array(["0"] * 5), column], schema=embeddings_schema(3))
        transaction.append("embeddings/s-images", [rows.take([4, 0, 2])], rows.schema)
        asked = pa.chunked_array([[ids[2], ids[1]], [ids[4], ids[3]]])
        vectors, there = read_vectors(transaction, "s-images", asked, dtype=dtype)
    assert vectors.dtype == dtype
    assert there.tolist() == [True, False, True, False]
    np.testing.assert_array_equal(vectors, stored[[2, 4]])
