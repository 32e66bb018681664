"""Measures and content hashes as a dataset keeps them."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from curate.checks.measures.content import content_hash, update_content_hashes
from curate.checks.measures.table import PHOTOMETRIC, read_measures, update_measures
from curate.dataset import begin, open_dataset
from curate.formats.importing import import_source
from curate.models.passes import image_items


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Five pictures, two of the same bytes."""
    rng = np.random.default_rng(0)
    folder = tmp_path / "pictures" / "things"
    folder.mkdir(parents=True)
    for number in range(4):
        pixels = rng.integers(0, 256, (40, 50, 3)).astype(np.uint8)
        Image.fromarray(pixels).save(folder / f"{number}.png")
    (folder / "copy.png").write_bytes((folder / "0.png").read_bytes())
    import_source("set", tmp_path / "pictures", command="import")
    return folder


def test_measures_are_kept_and_read_in_the_order_asked(pictures: Path) -> None:
    with begin("set", command="measure") as transaction:
        images = transaction.read("images")
        (update,) = update_measures(transaction, {"images": image_items(images)})
        assert (update.new, update.reused) == (5, 0)
        asked = pa.chunked_array([[*reversed(images["image_id"].to_pylist()), "0" * 16]])
        measures, there = read_measures(transaction, "images", asked)
        straight, _ = read_measures(transaction, "images", images["image_id"])
    assert there.tolist() == [True] * 5 + [False]
    assert len(measures) == 5
    assert measures.ids.to_pylist() == asked.to_pylist()[:5]
    for name, column in measures.columns.items():
        np.testing.assert_array_equal(column, straight.columns[name][::-1])
    features, names = measures.photometric()
    assert features.shape == (5, len(names))
    assert features.dtype == np.float32
    assert names == PHOTOMETRIC
    np.testing.assert_array_equal(features[:, 0], measures.columns["brightness"])


def test_nothing_is_measured_twice(pictures: Path) -> None:
    for expected in ((5, 0), (0, 5)):
        with begin("set", command="measure") as transaction:
            (update,) = update_measures(transaction, {"images": image_items(transaction.read("images"))})
        assert (update.new, update.reused) == expected


def test_without_a_table_nothing_is_there(pictures: Path) -> None:
    with begin("set", command="measure") as transaction:
        measures, there = read_measures(transaction, "crops", pa.chunked_array([["a", "b"]]))
    assert len(measures) == 0
    assert not there.any()
    assert measures.columns["layout"].shape == (0, 16)


def hashes() -> dict[str, str | None]:
    images = open_dataset("set").table("images", columns=["location", "content_hash"])
    return {Path(row["location"]).name: row["content_hash"] for row in images.to_pylist()}


def hash_all() -> int:
    with begin("set", command="hash") as transaction:
        return update_content_hashes(transaction, transaction.read("images"))


def test_content_hashes_find_the_same_bytes_and_follow_changes(pictures: Path) -> None:
    assert hash_all() == 5
    first = hashes()
    assert first["0.png"] == first["copy.png"] == content_hash(str(pictures / "0.png"))
    assert len(set(first.values())) == 4
    assert hash_all() == 0
    (pictures / "copy.png").write_bytes((pictures / "1.png").read_bytes())
    os.utime(pictures / "copy.png", ns=(1, 1))
    assert hash_all() == 1
    assert hashes() == first | {"copy.png": first["1.png"]}


def test_a_file_that_is_gone_has_no_hash(pictures: Path) -> None:
    (pictures / "2.png").unlink()
    assert hash_all() == 4
    assert hashes()["2.png"] is None
    assert content_hash(str(pictures / "2.png")) is None
