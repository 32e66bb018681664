"""fiftyone://NAME: FiftyOne's own datasets in, and a dataset out and in again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from curate.connectors.fiftyone.sync import Link
from curate.connectors.fiftyone.transfer import export_fiftyone, import_fiftyone
from curate.connectors.sync.content import rows_of
from curate.dataset import open_dataset
from curate.errors import FormatError, UsageError
from curate.formats.base import ReadOptions
from curate.formats.importing import ImportResult
from curate.geometry import decode_rle
from tests.commands.typed import curate, lines
from tests.connectors.fiftyone_app.app_sets import NAME, ODD, SIZE, make

pytestmark = pytest.mark.filterwarnings("ignore")  # FiftyOne's, and of the packages that it imports


def bring_in(name: str, source: str = "theirs", *, strict: bool = False, **options: Any) -> ImportResult:
    """Import a FiftyOne dataset."""
    return import_fiftyone(name, f"fiftyone://{source}", options=ReadOptions(**options), strict=strict, command="test")


def labels_of(name: str) -> list[dict[str, Any]]:
    """A dataset's annotations, sorted by what they are."""
    rows = rows_of(open_dataset(name).table("annotations"))
    return sorted(rows, key=lambda row: (row["layer"], row["type"], str(row["label"]), str(row["bbox"])))


@pytest.fixture
def theirs(fiftyone: Any, tmp_path: Path) -> Any:
    """A dataset as a user of FiftyOne has it: several kinds of labels, tags for splits, fields of all sorts."""
    made = fiftyone.Dataset("theirs", persistent=True)
    for place in range(2):
        path = tmp_path / "images" / f"{place}.jpg"
        path.parent.mkdir(exist_ok=True)
        Image.new("RGB", SIZE, (90, 80 * place, 120)).save(path)
        sample = fiftyone.Sample(str(path), tags=["validation", ODD] if place else ["train"])
        sample["weather"] = fiftyone.Classification(label="sunny", tags=["sure"])
        sample["boxes"] = fiftyone.Detections(
            detections=[
                fiftyone.Detection(
                    label=ODD, bounding_box=[0.1, 0.2, 0.3, 0.4], mask=np.eye(20, 60, dtype=bool), iscrowd=True
                )
            ]
        )
        sample["model"] = fiftyone.Detections(
            detections=[fiftyone.Detection(label="cat", bounding_box=[0.1, 0.2, 0.3, 0.4], confidence=0.5)]
        )
        sample["lines"] = fiftyone.Polylines(
            polylines=[
                fiftyone.Polyline(
                    label="road", points=[[(0.0, 0.0), (0.5, 0.0), (0.5, 0.5)]], closed=True, filled=True
                ),
                fiftyone.Polyline(label="edge", points=[[(0.0, 0.0), (0.5, 0.5)]]),
            ]
        )
        sample["points"] = fiftyone.Keypoints(
            keypoints=[fiftyone.Keypoint(label="eye", points=[(0.5, 0.5), (float("nan"), float("nan"))])]
        )
        sample["classes"] = fiftyone.Segmentation(mask=np.uint8(7) * np.tri(SIZE[1], SIZE[0], dtype=np.uint8))
        sample["heat"] = fiftyone.Heatmap(map=np.zeros((4, 4)))
        sample["camera"] = f"cam {place}"
        sample["vector"] = np.zeros(3)
        made.add_sample(sample)
    made.mask_targets = {"classes": {7: "sky"}}
    made.save()
    return made


def test_an_existing_dataset(theirs: Any) -> None:
    result = bring_in("ours")
    assert {(loss.outcome, loss.what, loss.reason, loss.count) for loss in result.losses.losses} == {
        ("dropped", "labels", "of a kind that curate has not (Heatmap)", 2),
        ("dropped", "fields", "'vector' has no counterpart", 2),
    }
    images = open_dataset("ours").table("images").sort_by("location").to_pylist()
    assert [(each["location"], each["split"], each["tags"]) for each in images] == [
        ("0.jpg", "train", None),
        ("1.jpg", "val", [ODD]),
    ]
    assert images[0]["metadata"] == '{"camera": "cam 0"}'
    rows = labels_of("ours")
    assert {(row["layer"], row["type"], row["label"]) for row in rows} == {
        ("ground_truth", "label", "sunny"),
        ("ground_truth", "mask", ODD),
        ("ground_truth", "mask", "sky"),
        ("ground_truth", "polygon", "road"),
        ("ground_truth", "polyline", "edge"),
        ("ground_truth", "keypoints", "eye"),
        ("predictions/model", "box", "cat"),
    }
    (crowd, _) = [row for row in rows if row["label"] == ODD]
    assert crowd["iscrowd"] is True
    assert decode_rle(crowd["rle"], crowd["rle_size"])[20:60, 20:80].any()
    sky = next(row for row in rows if row["label"] == "sky")
    assert (decode_rle(sky["rle"], sky["rle_size"]) == np.tri(SIZE[1], SIZE[0])).all()
    assert next(row for row in rows if row["label"] == "sunny")["attributes"] == {"tags": ["sure"]}
    assert next(row for row in rows if row["label"] == "eye")["keypoints"] == [100, 50, 2, 0, 0, 0]
    assert next(row for row in rows if row["label"] == "cat")["score"] == 0.5
    before = open_dataset("ours").commit.number
    assert bring_in("ours").commit == before


def test_strict_takes_nothing_that_would_lose(theirs: Any) -> None:
    with pytest.raises(FormatError, match="dropped, the first"):
        bring_in("ours", strict=True)


def test_layer_and_split_as_asked(theirs: Any) -> None:
    bring_in("ours", layer="predictions/all", split="test")
    assert {row["layer"] for row in labels_of("ours")} == {"predictions/all"}
    assert set(open_dataset("ours").table("images")["split"].to_pylist()) == {"test"}


def test_there_and_back(fiftyone: Any, tmp_path: Path) -> None:
    make(tmp_path)
    losses = export_fiftyone(NAME, "fiftyone://out", layer="all")
    assert losses.losses == []
    assert losses.carried_counts == {"images": 4, "annotations": 9, "classes": 3}
    out = fiftyone.load_dataset("out")
    assert out.count_sample_tags()["train"] == 2
    assert out.default_classes == ["bolt", "nut", ODD]
    result = bring_in("again", "out")
    assert result.losses.losses == []
    ignored = {"annotation_id", "source", "attributes"}
    for before, after in zip(labels_of(NAME), labels_of("again"), strict=True):
        for name in before.keys() - ignored:
            if name == "bbox" and before["type"] in ("polygon", "rotated_box", "polyline"):
                continue  # FiftyOne has the outline alone
            if name in ("bbox", "rotated_box", "keypoints"):
                assert np.allclose(before[name] or 0, after[name] or 0, atol=1e-3), name
            elif name not in ("polygons", "area"):
                assert before[name] == after[name], name
    first, again = (open_dataset(name).table("images").sort_by("location").to_pylist() for name in (NAME, "again"))
    for name in ("image_id", "split", "tags", "metadata", "source_id", "path"):
        assert [image[name] for image in first] == [image[name] for image in again], name
    assert open_dataset(NAME).commit.classes[:3] == open_dataset("again").commit.classes[:3]


def test_the_copy_that_the_app_shows(fiftyone: Any, tmp_path: Path) -> None:
    """What was found is no prediction of a model, and what was measured no metadata."""
    make(tmp_path)
    Link(fiftyone, NAME, "curate app").sync()
    losses = bring_in("again", NAME).losses
    (loss,) = losses.losses
    assert (loss.outcome, loss.what) == ("dropped", "fields")
    assert "findings, image_findings" in loss.reason
    assert losses.carried_counts["annotations"] == 9
    assert {row["layer"] for row in labels_of("again")} == {"ground_truth", "predictions/yolo"}
    assert [row["label"] for row in labels_of(NAME)] == [row["label"] for row in labels_of("again")]
    assert not any("tags" in row["attributes"] for row in labels_of("again"))
    first, again = (open_dataset(name).table("images").sort_by("location").to_pylist() for name in (NAME, "again"))
    for name in ("image_id", "split", "tags", "metadata", "path"):
        assert [image[name] for image in first] == [image[name] for image in again], name


def test_part_of_a_dataset(fiftyone: Any, tmp_path: Path) -> None:
    make(tmp_path)
    export_fiftyone(NAME, "fiftyone://part", where="split = 'val'")
    part = fiftyone.load_dataset("part")
    assert len(part) == 2
    assert "predictions_yolo" not in part.get_field_schema()


def test_names_that_are_taken_or_not_there(theirs: Any, tmp_path: Path) -> None:
    make(tmp_path)
    with pytest.raises(UsageError, match="there already"):
        export_fiftyone(NAME, "fiftyone://theirs")
    with pytest.raises(UsageError, match="datasets there: theirs"):
        bring_in("ours", "nope")
    with pytest.raises(UsageError, match="no images to export"):
        export_fiftyone(NAME, "fiftyone://new", where="split = 'test'")
    with pytest.raises(UsageError, match="no layer"):
        export_fiftyone(NAME, "fiftyone://new", layer="predictions/none")
    with pytest.raises(UsageError, match="without a dataset"):
        bring_in("ours", "")


def test_a_dataset_without_images(fiftyone: Any) -> None:
    fiftyone.Dataset("empty", persistent=True)
    with pytest.raises(FormatError, match="no images"):
        bring_in("ours", "empty")


def test_an_export_that_fails_leaves_nothing(fiftyone: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make(tmp_path)

    def fail(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("curate.connectors.fiftyone.transfer.insert_all", fail)
    with pytest.raises(KeyboardInterrupt):
        export_fiftyone(NAME, "fiftyone://out")
    assert fiftyone.list_datasets() == []


def test_as_commands(theirs: Any) -> None:
    (said,) = lines(curate("import", "fiftyone://theirs", "-d", "ours", "--json"))
    assert said["carried"]["images"] == 2
    curate("export", "fiftyone://out", "-d", "ours", "--layer", "all")
    assert "leave it out" in curate("export", "fiftyone://out2", "-d", "ours", "--format", "coco", status=2).stderr
    assert "which format" in curate("export", "folder", "-d", "ours", status=2).stderr
