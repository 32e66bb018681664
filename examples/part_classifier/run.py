"""Five machined parts, labels with errors: what did the errors cost, and what does it bring to mend them?"""

from __future__ import annotations

import csv
import sys
from collections.abc import Collection
from pathlib import Path

from PIL import Image

sys.path.insert(0, str(Path(__file__).parents[2]))
from curate.demo import Batch, CropsSet, make_crops
from curate.imaging import load_pixels
from examples.common import Example, Row, chart, stacked, start, tiles

FLAGGED = 0.5
TRAIN, TEST = "split = 'train'", "split = 'test'"
NETWORKS: dict[str, list[str | int]] = {
    "frozen backbone": ["--model", "builtin"],
    "small CNN": ["--model", "resnet10t", "--weights", "scratch", "--image-size", 64, "--set", "steps=1200"],
}


def main() -> None:
    example = start(str(__doc__), "part_classifier")
    per_class, tested = (30, 30) if example.small else (500, 200)
    networks = ["frozen backbone"] if example.small else list(NETWORKS)
    with example.step("render"):
        batches = [Batch("train", 5 * per_class, mislabeled=0.2, duplicates=0.04), Batch("test", 5 * tested)]
        parts = make_crops(
            example.work / "parts", [*batches, Batch("new", 1, classes={"gear": 1})], side=64, seed=example.seed
        )
    given = {crop.file: crop.given for crop in parts.crops if crop.batch != "new"}
    import_labels(example, parts, given)

    with example.step("check"):
        findings = example.curate("duplicates", "-d", "parts", "--where", TRAIN)
        copies = {row["image"] for row in findings if row["kind"].endswith("_duplicate") and row["score"] >= FLAGGED}
        findings = example.curate("mistakes", "-d", "parts", "--where", TRAIN)
        suspects = {row["image"]: row for row in findings if row["kind"] == "mislabeled" and row["score"] >= FLAGGED}
    with example.step("train"):
        for network in networks:
            train(example, network, "before")

    # A person looks at what is flagged, and at nothing else, and says what each picture really shows.
    truth = {crop.file: crop.label for crop in parts.crops}
    import_labels(example, parts, given | {file: truth[file] for file in suspects}, copies)
    with example.step("train"):
        for network in networks:
            train(example, network, "after")

    accuracy = {network: compare(example, network) for network in networks}
    answer = classify_new(example, parts, networks[-1])
    example.finish(
        draw(parts, list(suspects.values()), accuracy),
        [
            ("network", "before", "after", "gained"),
            *((name, *list(row.values())[:3]) for name, row in accuracy.items()),
        ],
        mislabeled=found(suspects, {crop.file for crop in parts.crops if crop.label != crop.given}),
        duplicates=found(copies, {crop.file for crop in parts.crops if crop.copy_of is not None}),
        accuracy=accuracy,
        new=answer,
    )


def import_labels(example: Example, parts: CropsSet, labels: dict[str, str], left_out: Collection[str] = ()) -> None:
    """Write the labels as a table and import it; what is left out is in no split that is learnt from."""
    path = parts.root / "labels.csv"
    with path.open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["file_name", "label", "split"])
        for name, label in labels.items():
            table.writerow([name, label, "copies" if name in left_out else name.partition("/")[0]])
    example.curate("import", path, "--images", parts.root / "images", "-d", "parts")


def run_name(network: str, when: str) -> str:
    return f"{network.replace(' ', '-')}-{when}"


def train(example: Example, network: str, when: str) -> None:
    settings = [*NETWORKS[network], "--seed", example.seed, "--name", run_name(network, when)]
    example.curate("train", "-d", "parts", "--task", "classify", "--where", TRAIN, *settings)


def compare(example: Example, network: str) -> Row:
    """Top-1 on the test split, whose labels are right, before and after, with the interval of what was gained."""
    old, new = (run_name(network, when) for when in ("before", "after"))
    for name in (old, new):
        example.curate("predict", "-d", "parts", "--model", f"run:{name}", "--layer", name, "--where", TEST)
    rows = example.curate("evaluate", "-d", "parts", "--layer", new, "--against", old, "--where", TEST, "--no-findings")
    row = next(row for row in rows if row.get("table") == "Comparison" and row["name"] == "top1")
    return {
        "before": row["against"], "after": row["value"], "gained": row["difference"], "low": row["low"], "high": row["high"],
        "verdict": row["verdict"],
    }  # fmt: skip


def found(flagged: Collection[str], planted: set[str]) -> Row:
    return {"planted": len(planted), "flagged": len(flagged), "right": len(set(flagged) & planted)}


def classify_new(example: Example, parts: CropsSet, network: str) -> Row:
    """What the last model says of a picture that nobody has seen, as the device would ask it."""
    package = example.work / "package"
    model = f"run:{run_name(network, 'after')}"
    example.curate("package", "--model", model, "-d", "parts", "--output", package, "--max-drop", 0.05)
    (crop,) = (crop for crop in parts.crops if crop.batch == "new")
    rows = example.curate("run", package, "--source", parts.root / "images" / crop.file)
    (answer,) = (row for row in rows if row.get("kind") == "frame")
    return {"label": answer["label"], "score": answer["score"], "really": crop.label}


def draw(parts: CropsSet, suspects: list[Row], accuracy: dict[str, Row]) -> Image.Image:
    """The surest wrong labels, and the accuracy before and after."""
    shown = [
        (
            load_pixels(parts.root / "images" / row["image"]),
            f"given {row['given']}\n{row['suggested']}: {row['score']:.0%}",
        )
        for row in suspects[:6]
    ]
    values = [
        {"network": name, "labels": when, "right": row[when]}
        for name, row in accuracy.items()
        for when in ("before", "after")
    ]
    low = min(row["right"] for row in values) - 0.03
    bars = {
        "data": {"values": values},
        "mark": {"type": "point", "filled": True, "size": 150, "opacity": 1},
        "encoding": {
            "y": {"field": "network", "type": "nominal", "title": None},
            "x": {
                "field": "right", "type": "quantitative", "title": "right on the clean test split",
                "scale": {"domain": [low, 1], "nice": True}, "axis": {"format": "%"},
            },
            "color": {"field": "labels", "sort": ["before", "after"], "scale": {"range": ["#c0c4cc", "#2b6cb0"]}},
        },
    }  # fmt: skip
    return stacked(tiles(shown), chart({**bars, "height": 45 * len(accuracy)}))


if __name__ == "__main__":
    main()
