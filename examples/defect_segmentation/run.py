"""Scratches and dents on a line: are their masks right, how well are they found, and which parts does a person look at?"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[2]))
from curate.demo.pictures import decode_mask
from curate.demo.scratched import MM_PER_PIXEL, ScratchedSet, make_scratched
from examples.common import Example, Row, start
from examples.defect_segmentation.drawing import draw, window
from examples.defect_segmentation.label_studio import mend_export, mend_on_server, same_masks

TRAIN, TEST = "split = 'train'", "split = 'test'"
LEAST = 0.06  # mm2: what is smaller is no defect by the drawing
ASK = (0.5, 0.75)


def main() -> None:
    example = start(str(__doc__), "defect_segmentation")
    counts, side, epochs = (
        ({"train": 72, "val": 24, "test": 40}, 96, 9)
        if example.small
        else ({"train": 240, "val": 40, "test": 120}, 128, 12)
    )
    with example.step("render"):
        # The same plates twice: as somebody drew their masks, and as they are.
        plates, truth = (
            make_scratched(example.work / name, counts, side=side, wrong=wrong, seed=example.seed)
            for name, wrong in (("plates", 0.25), ("truth", 0.0))
        )
        exports = [export(example, each) for each in (plates, truth)]
    example.curate("import", exports[0], "-d", "line", "--format", "label_studio")
    learn = ["--task", "segment", "--amp", "--set", "flips=any", "--empty", "--image-size", side, "--epochs", epochs]
    if not example.small:
        with example.step("train"):
            train(example, "before", learn)

    # Two models, each of which has not seen the masks that it is asked about.
    with example.step("check"):
        example.curate(
            "train", "-d", "line", *learn, "--where", TRAIN, "--folds", 2, "--name", "folds", "--seed", example.seed
        )
        findings = example.curate("mistakes", "-d", "line", "--where", TRAIN)
    suspects = {row["image"]: row for row in sorted(findings, key=lambda row: row.get("score", 0)) if "image" in row}
    wrong = {name for name, same in same_masks(*exports).items() if not same}
    with example.step("mend"):
        if "LABEL_STUDIO" in os.environ:
            mend_on_server(example, os.environ["LABEL_STUDIO"], exports[1])
        else:
            mend_export(exports[0], exports[1], list(suspects))
            example.curate("import", exports[0], "-d", "line", "--format", "label_studio")

    with example.step("train"):
        train(example, "after", learn)
    quality = {name: evaluate(example, name) for name in (["after"] if example.small else ["before", "after"])}
    package = example.work / "package"
    example.curate("package", "--model", "run:after", "-d", "line", "--splits", "test", "--output", package)
    lines = {
        "all regions": inspect(example, package, plates),
        "at least 0.06 mm2": inspect(example, package, plates, "--min-area", f"{LEAST}mm2"),
    }
    judged = {name: judge(plates, told) for name, told in lines.items()}
    example.finish(
        draw(exports[0], list(suspects.values())[::-1], plates, lines["at least 0.06 mm2"]),
        [
            ("regions", "defects", "false", "missed", "median area error", "asked", "right unasked", "right asked"),
            *((name, *row.values()) for name, row in judged.items()),
        ],
        masks={"wrong": len(wrong), "looked_at": len(suspects), "found": len(wrong & set(suspects))},
        iou=quality,
        line=judged,
    )


def export(example: Example, plates: ScratchedSet) -> Path:
    """The set as a Label Studio project exports it: tasks.json beside its images."""
    name = plates.root.name
    example.curate("import", plates.root / "annotations", "--images", plates.root / "images", "-d", name)
    folder = example.work / f"{name}-label-studio"
    example.curate("export", folder, "-d", name, "-f", "label_studio", "--copy")
    return folder


def train(example: Example, name: str, learn: list[object]) -> None:
    example.curate("train", "-d", "line", *learn, "--name", name, "--seed", example.seed)


def evaluate(example: Example, name: str) -> Row:
    """IoU of each class on the test split, whose masks are right."""
    example.curate("predict", "-d", "line", "--model", f"run:{name}", "--layer", name, "--where", TEST)
    rows = example.curate("evaluate", "-d", "line", "--layer", name, "--where", TEST, "--no-findings")
    return {row["class"]: row["IoU"] for row in rows if row.get("table") == "Classes"}


def inspect(example: Example, package: Path, plates: ScratchedSet, *options: object) -> dict[str, Row]:
    """What the line says of each plate of the test split."""
    source, (low, high) = plates.root / "images" / "test", ASK
    rows = example.curate(
        "run", package, "--source", source, "--scale", MM_PER_PIXEL, "--ask", f"{low}:{high}", *options
    )
    return {row["name"]: row for row in rows if row["kind"] == "frame"}


def judge(plates: ScratchedSet, told: dict[str, Row]) -> Row:
    """Regions where no defect is, defects without a region, how far areas are off, and how often parts are judged rightly."""
    defects, false, missed, off = 0, 0, 0, list[float]()
    right: dict[bool, list[bool]] = {True: [], False: []}
    for surface in (each for each in plates.surfaces if each.split == "test"):
        row = told[Path(surface.file).name]
        masks = [decode_mask(defect.counts, surface.side, surface.side) for defect in surface.defects]
        defects += len(masks)
        covered = [[bool(mask[window(thing)].any()) for mask in masks] for thing in row["objects"]]
        false += sum(not any(each) for each in covered)
        for k, defect in enumerate(surface.defects):
            area = sum(thing["area_mm2"] for thing, each in zip(row["objects"], covered, strict=True) if each[k])
            missed += area == 0
            if area and len(masks) == 1:
                off.append(abs(area - defect.area_mm2) / defect.area_mm2)
        right[row["asks"]].append(bool(row["objects"]) == bool(masks))
    shares = {asked: float(np.mean(each)) if each else None for asked, each in right.items()}
    return {
        "defects": defects, "false": false, "missed": missed, "area_off": float(np.median(off)) if off else None,
        "asked": len(right[True]), "right_unasked": shares[False], "right_asked": shares[True],
    }  # fmt: skip


if __name__ == "__main__":
    main()
