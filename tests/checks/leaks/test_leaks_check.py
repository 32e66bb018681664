"""The check `leaks` on `parts_v3`, where the truth is known, and on sets of a few images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from curate.checks.base import Result, Settings, run_check
from curate.checks.leaks.check import CHECK
from curate.checks.store import set_status, stored_findings
from curate.dataset import begin, open_dataset, undo
from curate.dataset.ids import image_ids
from curate.dataset.schema import IMAGES
from curate.demo import NONE, PartsSet, make_parts
from curate.errors import UsageError
from curate.formats.base import ReadOptions
from curate.formats.importing import import_source

NAME = "set"


def run(name: str = NAME, **options: Any) -> Result:
    return run_check(CHECK, name, Settings(encoder="builtin", options=options), command="curate leaks")


def splits(name: str = NAME) -> dict[str, str | None]:
    table = open_dataset(name).table("images", columns=["location", "split"])
    return dict(zip(*(table[column].to_pylist() for column in table.column_names), strict=True))


def make_set(folder: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Images, equal where `picture` is."""
    contents = []
    for number, row in enumerate(rows):
        path = folder / f"{number:02d}.png"
        pixels = np.random.default_rng(row["picture"]).integers(0, 255, (6, 6, 3), dtype=np.uint8)
        Image.fromarray(pixels).resize((96, 96), Image.Resampling.BICUBIC).save(path)
        contents.append(
            {"location": path.name, "path": str(path), "width": 96, "height": 96}
            | {key: value for key, value in row.items() if key != "picture"}
        )
    ids = image_ids(str(row["location"]) for row in contents).to_pylist()
    table = pa.Table.from_pylist(
        [row | {"image_id": each} for row, each in zip(contents, ids, strict=True)], schema=IMAGES
    )
    with begin(NAME, command="make a set", create=True) as transaction:
        transaction.append("images", [table])


@pytest.fixture
def parts(tmp_path: Path) -> PartsSet:
    faults = replace(NONE, leak=0.08, near_duplicate=0.04)
    made = make_parts(tmp_path / "parts", images=100, seed=3, faults=faults)
    options = ReadOptions(images=made.root / "images")
    import_source(NAME, made.root / "annotations", options=options, command="import")
    return made


@pytest.mark.slow
def test_planted_leaks_are_found_and_nothing_else_and_a_new_split_has_none(parts: PartsSet) -> None:
    found = run().findings
    planted = {
        frozenset((fault.image.removeprefix("images/"), str(fault.related_image).removeprefix("images/")))
        for fault in parts.truth.of_kind("leak")
    }
    assert {frozenset((f.image, other.image)) for f in found for other in f.related} == planted
    assert all(f.score >= 0.5 and f.given != f.suggested for f in found)
    before = splits()
    shown = run(resplit=True, dry_run=True)
    assert splits() == before
    assert len(shown.findings) == len(found)
    assert len(shown.tables["Moves"]) >= len(planted)
    resplit = run(resplit=True)
    assert resplit.findings == []
    assert resplit.tables == shown.tables
    after = splits()
    assert {name for name in after if after[name] != before[name]} == {row["image"] for row in shown.tables["Moves"]}
    assert run().findings == []
    undo(NAME, command="undo")
    assert splits() == before


def test_copies_across_splits_with_evidence(tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [
        {"picture": 0, "split": "train"},
        {"picture": 0, "split": "train"},
        {"picture": 0, "split": "test"},
        {"picture": 1, "split": "train"},
        {"picture": 2, "split": "val"},
        {"picture": 2, "split": "test"},
        {"picture": 3, "split": None},
        {"picture": 3, "split": "test"},
    ]
    make_set(tmp_path, rows)
    result = run()
    assert {(f.image, f.given, f.suggested) for f in result.findings} == {
        ("02.png", "test", "train"),
        ("05.png", "test", "val"),
    }
    first = next(f for f in result.findings if f.image == "02.png")
    assert [other.image for other in first.related] == ["00.png", "01.png"]
    assert first.evidence["splits"] == {"train": 2}
    assert first.evidence["why"] == "in test, but the same file as 00.png in train, and so is 1 more"
    assert any("1 of 8 images are in no split" in line for line in result.notes)


def test_frames_of_one_video_leak_though_they_look_different(tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [
        {"picture": 0, "split": "train", "group": "video", "frame": 0},
        {"picture": 1, "split": "test", "group": "video", "frame": 1},
        {"picture": 2, "split": "test"},
    ]
    make_set(tmp_path, rows)
    (finding,) = run().findings
    assert (finding.image, finding.score) == ("01.png", 0.8)
    assert "from the same source as 00.png" in finding.evidence["why"]
    assert finding.evidence["same_source"] == 1
    assert run(resplit=True).findings == []
    assert splits()["00.png"] == splits()["01.png"]


def test_a_set_with_no_split_gets_one(tmp_path: Path) -> None:
    make_set(tmp_path, [{"picture": number // 2} for number in range(20)])
    result = run(resplit=True)
    assert any("no image has a split" in line for line in result.notes)
    found = splits()
    assert sorted(map(str, found.values())) == ["test"] * 2 + ["train"] * 16 + ["val"] * 2
    assert all(found[f"{k:02d}.png"] == found[f"{k + 1:02d}.png"] for k in range(0, 20, 2))


def test_every_split_needs_a_share(tmp_path: Path) -> None:
    make_set(tmp_path, [{"picture": k, "split": "valid" if k else "train"} for k in range(4)])
    with pytest.raises(UsageError, match="'valid' that is given no share"):
        run(resplit=True, ratios={"train": 0.5, "val": 0.5})
    run(resplit=True, ratios={"train": 0.5, "valid": 0.0, "val": 0.5})
    assert sorted(map(str, splits().values())) == ["train", "train", "val", "val"]


def test_leaks_whose_other_side_was_not_looked_at_stay(tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [{"picture": k // 2, "split": "test" if k % 2 else "train"} for k in range(8)]
    make_set(tmp_path, rows)
    found = {finding.id for finding in run().findings}
    assert len(found) == 4
    settings = Settings(encoder="builtin", where="split = 'test'")
    assert run_check(CHECK, NAME, settings, command="curate leaks").findings == []
    assert {finding.id for finding in stored_findings(open_dataset(NAME))} == found
    assert run(resplit=True).findings == []
    assert stored_findings(open_dataset(NAME)) == []


def test_a_verdict_lasts(tmp_path: Path) -> None:
    make_set(tmp_path, [{"picture": 0, "split": "train"}, {"picture": 0, "split": "test"}])
    (finding,) = run().findings
    set_status(NAME, "rejected", ids=[finding.id], command="reject")
    assert [f.status for f in run().findings] == ["rejected"]
