"""`curate depth` on rendered scenes, from a network that estimates depth to findings, tables and tags."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from curate.checks.base import Result, Settings, run_check
from curate.checks.depth.check import CHECK, CLASSES, OBJECTS
from curate.checks.depth.table import measures_table
from curate.checks.store import set_status
from curate.dataset import begin, open_dataset, undo
from curate.errors import UsageError
from curate.geometry import encode_rle
from curate.models.depth.maps import open_maps
from curate.models.predictors.predict import Request, predict
from tests.checks.depth.depth_scenes import HEIGHT, NAME, WIDTH, Thing, depth_network, make_scenes, things

IMAGES, EACH, WRONG = 70, 4, 8


def run(**options: Any) -> Result:
    settings = {name: options.pop(name) for name in ("where", "min_score") if name in options}
    return run_check(CHECK, NAME, Settings(**settings, options=options), command="curate depth")


def plant(scenes: list[list[Thing]], rng: np.random.Generator) -> None:
    """Every other one of eight objects gets a wrong class, or a box of half the size around its middle.

    None of them is so far that its box has a few pixels only: nobody could tell.
    """
    places = [(image, k) for image, scene in enumerate(scenes) for k, thing in enumerate(scene) if thing.depth < 25]
    for number, place in enumerate(rng.permutation(len(places))[:WRONG].tolist()):
        image, k = places[place]
        thing = scenes[image][k]
        x, y, width, height = thing.bbox
        if number % 2:
            other = "bus" if thing.label == "person" else "person"
            scenes[image][k] = replace(thing, label=other, wrong=True)
        else:
            box = (x + width / 4, y + height / 4, width / 2, height / 2)
            scenes[image][k] = replace(thing, bbox=box, wrong=True)


def make(tmp_path: Path, *, metric: bool = True, seed: int = 0) -> set[str]:
    """Scenes with wrong objects and their maps; returns the annotations that are wrong."""
    rng = np.random.default_rng(seed)
    scenes = [things(rng, EACH) for _ in range(IMAGES)]
    plant(scenes, rng)
    keys = make_scenes(tmp_path / "pictures", scenes)
    add_maps(tmp_path, metric=metric)
    return {
        key for each, scene in zip(keys, scenes, strict=True) for key, t in zip(each, scene, strict=True) if t.wrong
    }


def add_maps(tmp_path: Path, where: str | None = None, *, metric: bool = True) -> None:
    network = depth_network(tmp_path / "depth.onnx", metric=metric, inverse=not metric)
    predict(NAME, f"onnx:{network}", Request(where=where), command="curate predict")


@pytest.mark.parametrize("metric", [True, False])
@pytest.mark.parametrize("seed", [0, 1])
def test_planted_faults_are_found_and_little_else(tmp_path: Path, metric: bool, seed: int) -> None:
    wrong = make(tmp_path, metric=metric, seed=seed)
    result = run()
    flagged = {finding.annotation_id for finding in result.findings if finding.score >= 0.5}
    assert len(flagged & wrong) >= WRONG - 1
    assert len(flagged - wrong) <= 1
    first = result.findings[0]
    assert (first.kind, first.check, first.status) == ("outlier", "depth", "open")
    assert first.evidence["side"] == "size at depth"
    assert first.evidence["metric"] is metric
    assert first.evidence["p_value"] < 1e-3
    ratio = first.evidence["size"] / first.evidence["usual_size"]
    assert f"{ratio:.2g} times as large as is usual" in str(first.evidence["why"])
    assert f"'{first.given}'" in str(first.evidence["why"])
    large = [f for f in result.findings if f.score >= 0.5 and f.evidence["size"] > f.evidence["usual_size"]]
    assert {finding.given for finding in large} == {"person"}
    assert sum({"bus", "car"} & set(finding.evidence["fits"]) != set() for finding in large) >= len(large) - 1
    assert any("relative to their image" in note for note in result.notes) is not metric


def test_depths_are_those_of_the_scene(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    scenes = [things(rng, EACH) for _ in range(6)]
    keys = make_scenes(tmp_path / "pictures", scenes)
    add_maps(tmp_path)
    rows = {row["annotation_id"]: row for row in run(objects=True).tables[OBJECTS]}
    for each, scene in zip(keys, scenes, strict=True):
        for key, thing in zip(each, scene, strict=True):
            row = rows[key]
            assert row["label"] == thing.label
            assert row["known"] == 1
            if thing.depth < 20:  # what is farther has few pixels
                assert row["depth"] == pytest.approx(thing.depth, rel=0.05)
                assert row["border"] > 0
    far = {key for key, row in rows.items() if row["third"] == "far"}
    depths = [(rows[key]["depth"], key in far) for key in rows if rows[key]["label"] == "person"]
    assert sorted(depths) == sorted(depths, key=lambda pair: (pair[1], pair[0]))


def test_measures_are_kept_until_box_or_map_changes(tmp_path: Path) -> None:
    make(tmp_path)
    run()
    maps = open_maps(open_dataset(NAME))
    assert maps is not None
    table = measures_table(maps.model)
    dataset = open_dataset(NAME)
    assert dataset.count(table) == IMAGES * EACH
    assert dataset.commit.counts["objects measured in depth"] == IMAGES * EACH
    run()
    assert open_dataset(NAME).commit.number == dataset.commit.number
    with begin(NAME, command="move a box, draw a mask") as transaction:
        rows = transaction.read("annotations").slice(0, 2).to_pylist()
        rows[0]["bbox"][0] += 1
        rows[1] |= {"type": "mask", "rle": encode_rle(np.ones((HEIGHT, WIDTH))), "rle_size": [HEIGHT, WIDTH]}
        schema = transaction.read("annotations").schema
        transaction.upsert("annotations", pa.Table.from_pylist(rows, schema), "annotation_id")
    run()
    assert open_dataset(NAME).commit.counts["objects measured in depth"] == 2
    with begin(NAME, command="draw a polygon") as transaction:
        rows[1] |= {"type": "polygon", "rle": None, "rle_size": None, "polygons": [[5.0, 5, 50, 5, 50, 50]]}
        transaction.upsert("annotations", pa.Table.from_pylist(rows, schema), "annotation_id")
    run()
    assert open_dataset(NAME).commit.counts["objects measured in depth"] == 1


def test_thirds_become_tags_that_choose_images(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    scenes = [things(rng, 3) for _ in range(12)]
    make_scenes(tmp_path / "pictures", scenes)
    add_maps(tmp_path)
    result = run(tag=True)
    assert any(note.startswith("images tagged: depth:near ") for note in result.notes)
    dataset = open_dataset(NAME)
    chosen = {
        tag: dataset.table("images", columns=["image_id"], where=f"array_has(tags, 'depth:{tag}')")[
            "image_id"
        ].to_pylist()
        for tag in ("near", "middle", "far")
    }
    assert sum(map(len, chosen.values())) == 12
    assert chosen["near"]
    assert chosen["far"]
    number = dataset.commit.number
    run(tag=True)
    assert open_dataset(NAME).commit.number == number
    rows = {row["annotation_id"]: row["depth"] for row in run(objects=True).tables[OBJECTS]}
    with begin(NAME, command="leave only what is near") as transaction:
        far = sorted(rows, key=lambda key: -rows[key])[:18]
        transaction.delete("annotations", "annotation_id", pa.array(far))
    run(tag=True)
    changed = open_dataset(NAME).table("images", columns=["tags"])["tags"].to_pylist()
    assert changed != dataset.table("images", columns=["tags"])["tags"].to_pylist()
    assert max(len(tags or ()) for tags in changed) == 1
    undo(NAME, command="test", to=number - 1)
    assert open_dataset(NAME).count("images", where="array_has(tags, 'depth:far')") == 0


def test_an_object_where_its_class_never_is(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    scenes = [things(rng, 3, farthest=12) for _ in range(40)]
    bus = Thing("bus", (40.0, 92.0, 7.7, 9.0), 78.0)
    scenes[5] = [bus, *(thing for thing in scenes[5] if thing.bbox[0] > 60)]
    keys = make_scenes(tmp_path / "pictures", scenes)
    add_maps(tmp_path)
    found = {finding.annotation_id: finding for finding in run().findings if finding.score >= 0.5}
    assert keys[5][0] in found
    evidence = found[keys[5][0]].evidence
    assert evidence["side"] == "distance"
    assert "farther than 'bus' is" in str(evidence["why"])


def test_verdicts_last_and_what_is_mended_goes(tmp_path: Path) -> None:
    make(tmp_path)
    first, second = run().findings[:2]
    set_status(NAME, "rejected", ids=[first.id], command="curate reject")
    with begin(NAME, command="curate apply") as transaction:
        transaction.delete("annotations", "annotation_id", pa.array([second.annotation_id]))
    found = {finding.id: finding for finding in run().findings}
    assert found[first.id].status == "rejected"
    assert second.id not in found


def test_images_without_maps_are_told(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    make_scenes(tmp_path / "pictures", [things(rng, 3) for _ in range(12)])
    nothing = run()
    assert "no depth maps; 'curate predict" in nothing.summary
    assert (nothing.findings, nothing.tables) == ([], {})
    for options in ({"tag": True}, {"objects": True}):
        with pytest.raises(UsageError, match="there are no depth maps"):
            run(**options)
    add_maps(tmp_path, "location < '008.png'")
    result = run(objects=True)
    assert any("4 images without a depth map" in note for note in result.notes)
    assert any("fewer than 20 objects are not judged" in note for note in result.notes)
    assert len(result.tables[OBJECTS]) == 24
    maps = open_maps(open_dataset(NAME))
    assert maps is not None
    (maps.folder / maps.table["file"][3].as_py()).write_bytes(b"broken")
    with begin(NAME, command="move all") as transaction:
        rows = transaction.read("annotations").to_pylist()
        for row in rows:
            row["bbox"][0] += 0.5
        schema = transaction.read("annotations").schema
        transaction.upsert("annotations", pa.Table.from_pylist(rows, schema), "annotation_id")
    (tmp_path / "pictures" / "001.png").write_bytes((tmp_path / "pictures" / "002.png").read_bytes())
    notes = run().notes
    assert any("1 depth map cannot be read" in note for note in notes)
    assert any("1 image with the depth map of an earlier file" in note for note in notes)


@pytest.mark.parametrize("box", [[-50.0, 20, 30, 30], [10.0, 10, 0, 0], [float("nan"), 1, 2, 3], [500.0, 20, 30, 30]])
def test_impossible_boxes_have_no_depth(tmp_path: Path, box: Sequence[float]) -> None:
    rng = np.random.default_rng(0)
    scenes = [things(rng, 3) for _ in range(4)]
    scenes[0][0] = replace(scenes[0][0], bbox=(1.0, 1.0, 5.0, 5.0))
    keys = make_scenes(tmp_path / "pictures", scenes)
    add_maps(tmp_path)
    with begin(NAME, command="break a box") as transaction:
        rows = [row for row in transaction.read("annotations").to_pylist() if row["annotation_id"] == keys[0][0]]
        rows[0]["bbox"] = list(box)
        schema = transaction.read("annotations").schema
        transaction.upsert("annotations", pa.Table.from_pylist(rows, schema), "annotation_id")
    result = run(objects=True, tag=True)
    assert keys[0][0] not in {row["annotation_id"] for row in result.tables[OBJECTS]}
    assert sum(row["objects"] for row in result.tables[CLASSES]) == 11


def test_what_is_cut_off_hidden_or_a_crowd_is_not_too_small(tmp_path: Path) -> None:
    rng = np.random.default_rng(2)
    scenes = [things(rng, EACH) for _ in range(IMAGES)]
    keys = make_scenes(tmp_path / "pictures", scenes)
    add_maps(tmp_path)
    nearest = [(k, min(range(EACH), key=lambda j: scenes[k][j].depth)) for k in range(3)]
    cut, hidden, crowd = (keys[k][j] for k, j in nearest)
    with begin(NAME, command="shrink boxes") as transaction:
        rows = {row["annotation_id"]: row for row in transaction.read("annotations").to_pylist()}
        for key in (cut, hidden, crowd):
            x, y, width, height = rows[key]["bbox"]
            rows[key]["bbox"] = [x + width / 3, y + height / 3, width / 3, height / 3]
        rows[crowd]["iscrowd"] = True
        schema = transaction.read("annotations").schema
        transaction.upsert("annotations", pa.Table.from_pylist(list(rows.values()), schema), "annotation_id")
    flagged = {finding.annotation_id for finding in run().findings if finding.score >= 0.5}
    assert flagged == {cut, hidden}
    with begin(NAME, command="put one at the border, and something before the other") as transaction:
        rows[cut]["bbox"][0] = 0.0
        x, y, width, height = rows[hidden]["bbox"]
        over = {**rows[hidden], "annotation_id": "f" * 16, "bbox": [x, y + height / 2, 2 * width, height]}
        changed = pa.Table.from_pylist([rows[cut], over], schema)
        transaction.upsert("annotations", changed, "annotation_id")
    flagged = {finding.annotation_id for finding in run().findings if finding.score >= 0.5}
    assert not flagged & {cut, hidden}
