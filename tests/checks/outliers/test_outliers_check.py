"""The check `outliers` on datasets of a few small pictures."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from PIL import Image

from curate.checks.base import Result, Settings, run_check
from curate.checks.outliers.check import CHECK
from curate.checks.store import set_status, stored_findings
from curate.dataset import begin, open_dataset
from curate.dataset.ids import annotation_ids, hash_texts, image_ids
from curate.dataset.schema import ANNOTATIONS, IMAGES
from curate.names import GROUND_TRUTH

NAME = "set"
STRANGE = frozenset({17, 58})


def run(*, min_score: float = 0.1, **options: Any) -> Result:
    return run_check(
        CHECK, NAME, Settings(encoder="builtin", min_score=min_score, options=options), command="curate outliers"
    )


def picture(number: int, *, strange: bool) -> Image.Image:
    """Soft green stripes; or a checkerboard in strong colours."""
    rng = np.random.default_rng(number)
    y, x = np.mgrid[:64, :64]
    if strange:
        size = 4 + number % 5
        pixels = np.where(((x // size + y // size) % 2)[..., None] == 0, [250, 20, 30 + number], [number, 20, 240])
    else:
        wave = 120 + 50 * np.sin(x / rng.uniform(2, 7) + y / rng.uniform(6, 30) + rng.uniform(0, 6))
        pixels = np.stack([wave * 0.6, wave, wave * 0.7], axis=-1)
    return Image.fromarray((pixels + rng.normal(0, 6, (64, 64, 3))).clip(0, 255).astype(np.uint8))


def make_set(folder: Path, count: int = 90, *, boxes: bool = False, strange: Collection[int] = STRANGE) -> None:
    """Pictures with a few strange ones among them; with boxes, each has two, of which strange ones are the second."""
    rows, annotations = [], []
    names = [f"{number:03d}.png" for number in range(count)]
    ids = image_ids(names).to_pylist()
    for number, name in enumerate(names):
        image = picture(number, strange=number in strange and not boxes)
        if boxes:
            wide = Image.new("RGB", (128, 64))
            wide.paste(image, (0, 0))
            wide.paste(picture(number + 500, strange=number in strange), (64, 0))
            image = wide
            for side in (0, 1):
                annotations.append({"image_id": ids[number], "bbox": [64.0 * side, 0.0, 64.0, 64.0], "side": side})
        image.save(folder / name)
        rows.append({"image_id": ids[number], "location": name, "path": str(folder / name)})
        rows[-1] |= {"width": image.width, "height": image.height}
    with begin(NAME, command="make a set", create=True) as transaction:
        transaction.append("images", [pa.Table.from_pylist(rows, schema=IMAGES)])
        if boxes:
            hashes = hash_texts(names).repeat(2)
            keys = np.arange(len(annotations), dtype=np.uint64)
            each = annotation_ids(hashes, GROUND_TRUTH, "test", keys=keys).to_pylist()
            for key, row in zip(each, annotations, strict=True):
                label = "left" if row.pop("side") == 0 else "right"
                row |= {"annotation_id": key, "layer": GROUND_TRUTH, "type": "box", "label": label}
            transaction.append("annotations", [pa.Table.from_pylist(annotations, schema=ANNOTATIONS)])
            transaction.classes = [{"name": "left"}, {"name": "right"}]


def test_strange_images_are_found_with_evidence(tmp_path: Path) -> None:
    make_set(tmp_path)
    before = open_dataset(NAME).commit.number
    result = run()
    flagged = [f for f in result.findings if f.score >= 0.5]
    assert {f.image for f in flagged} == {f"{number:03d}.png" for number in STRANGE}
    first = flagged[0]
    assert first.annotation_id is None
    assert first.evidence["distance"] > first.evidence["usual_distance"]
    assert len(first.related) == 5
    assert all(0 <= (other.score or 0) <= 1 for other in first.related)
    assert first.evidence["why"].startswith("the image is ")
    assert first.evidence["why"].endswith(" of the set's own would be as unusual")
    assert open_dataset(NAME).commit.number == before + 1


def test_strange_objects_are_found_on_images_that_are_not(tmp_path: Path) -> None:
    make_set(tmp_path, boxes=True)
    flagged = [f for f in run().findings if f.score >= 0.5 and f.annotation_id]
    assert {f.image for f in flagged} == {f"{number:03d}.png" for number in STRANGE}
    assert all(f.bbox == [64, 0, 64, 64] and f.given == "right" for f in flagged)
    assert sum(flagged[0].evidence["nearest_labels"].values()) == 5
    run(objects=False)
    assert {f.id for f in flagged} <= {f.id for f in stored_findings(open_dataset(NAME))}  # they were not judged again


def test_a_clean_set_has_none_and_min_score_0_lists_no_impossible_ones(tmp_path: Path) -> None:
    make_set(tmp_path, strange=())
    findings = run(min_score=0.0).findings
    assert not [f for f in findings if f.score >= 0.5]
    assert all(f.score > 0 for f in findings)


def test_few_images_are_not_judged(tmp_path: Path) -> None:
    make_set(tmp_path, 20)
    result = run()
    assert result.findings == []
    assert "20 images are too few to tell what is usual; 30 are needed" in result.notes


def test_unreadable_images_are_said_and_verdicts_last(tmp_path: Path) -> None:
    make_set(tmp_path)
    (tmp_path / "003.png").write_bytes(b"no image")
    result = run()
    assert any("1 of 90 could not be embedded" in line for line in result.notes)
    set_status(NAME, "rejected", ids=[result.findings[0].id], command="reject")
    assert run().findings[0].status == "rejected"


def test_nothing_can_be_read(tmp_path: Path) -> None:
    make_set(tmp_path, 40)
    for path in tmp_path.glob("*.png"):
        path.unlink()
    result = run()
    assert result.findings == []
    assert any("40 of 40 could not be embedded" in line for line in result.notes)
