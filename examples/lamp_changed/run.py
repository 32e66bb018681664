"""The lamp was changed and a good model became a bad one: say what changed, augment for it, label a few, prove the gain."""

from __future__ import annotations

import csv
import sys
from pathlib import Path
from typing import Any

import yaml
from PIL import Image

sys.path.insert(0, str(Path(__file__).parents[2]))
from curate.demo import Batch, CropsSet, make_crops
from curate.imaging import load_pixels
from examples.common import Example, Row, chart, stacked, start, tiles

OLD: dict[str, Any] = {"lamps": {"ring": 1.0}}
NEW: dict[str, Any] = {"lamps": {"backlight-warm": 1.0}, "exposure": 0.1, "white": (1.3, 1.0, 0.5)}
TRAIN, BEFORE, PRODUCTION = (f"split = '{split}'" for split in ("train", "before", "production"))
NAMES = {"test": "the old lamp", "exam": "the new lamp"}
MODELS = {"old": "as it was", "new": "augmented", "reviewed": "and a few labelled"}
LOOP = """\
dataset: lamp
remote: labelstudio://127.0.0.1:8080
budget: {budget}
rounds: 3
strategy: mix
"""


def main() -> None:
    example = start(str(__doc__), "lamp_changed")
    sizes = {"train": 150, "test": 100, "before": 24, "production": 80, "exam": 200}
    budget = 24
    if not example.small:
        sizes, budget = {"train": 600, "test": 300, "before": 100, "production": 300, "exam": 400}, 60
    with example.step("render"):
        batches = [Batch(name, n, **(NEW if name in ("production", "exam") else OLD)) for name, n in sizes.items()]
        parts = make_crops(example.work / "parts", batches, side=64, seed=example.seed)
    import_labels(example, parts)
    train(example, "old")

    with example.step("shift"):
        rows = example.curate("shift", "-d", "lamp", "--reference", BEFORE, "--incoming", PRODUCTION)
    with example.step("augment"):
        between = ["--incoming", PRODUCTION, "--reference", BEFORE, "--from", TRAIN]
        file = example.work / "new_lamp.yaml"
        (made,) = example.curate("augment", "-d", "lamp", *between, "--count", 2 * budget, "--save-recipe", file)
        recipe = yaml.safe_load(file.read_text())["curate"]
    train(example, "new")

    # The pictures that the new model doubts most go to a person, whose answers are learnt from as well.
    doubt = ["--where", PRODUCTION, "--strategy", "margin", "--layer", "predictions/new"]
    chosen = [row["image"] for row in example.curate("select", "-d", "lamp", *doubt, "--budget", budget)]
    import_labels(example, parts, chosen)
    train(example, "reviewed")
    new, reviewed = (compare(example, model) for model in ("new", "reviewed"))
    right = {
        split: {"old": new[split]["old"], "new": new[split]["right"], "reviewed": reviewed[split]["right"]}
        for split in NAMES
    }

    # A loop does this by itself, round after round; simulated, its labels are those that the dataset has.
    (example.work / "loop.yaml").write_text(LOOP.format(budget=budget))
    with example.step("loop"):
        rounds = example.curate("loop", "run", example.work / "loop.yaml", "--simulate", "--strategies", "mix,random")
    example.finish(
        draw(parts, right),
        [("images", *MODELS), *((NAMES[split], *row.values()) for split, row in right.items())],
        p_values={row["tested"]: row["p_value"] for row in rows if row.get("table") == "Tests"},
        axes={row["axis"]: [row["reference"], row["incoming"]] for row in rows if row.get("table") == "Axes"},
        fitted=recipe.get("fitted") or recipe["lights"],
        landing=made["check"]["landing"],
        accuracy={"new": new, "reviewed": reviewed},
        reviewed={"labelled": len(chosen), "of": sizes["production"]},
        rounds=rounds,
    )


def import_labels(example: Example, parts: CropsSet, answered: list[str] | None = None) -> None:
    """Write the labels as a table and import it: production has none, but for pictures that somebody has answered."""
    path = parts.root / "labels.csv"
    with path.open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["file_name", "label", "split"])
        for crop in parts.crops:
            if crop.file in (answered or ()):
                table.writerow([crop.file, crop.label, "train"])
            else:
                table.writerow([crop.file, "" if crop.batch in ("before", "production") else crop.given, crop.batch])
    example.curate("import", path, "--images", parts.root / "images", "-d", "lamp")


def train(example: Example, name: str) -> None:
    """Train on the training split and what was made of it, and ask the model about all pictures."""
    with example.step("train"):
        settings = ["--model", "builtin", "--where", TRAIN, "--seed", example.seed, "--name", name]
        example.curate("train", "-d", "lamp", "--task", "classify", *settings)
        example.curate("predict", "-d", "lamp", "--model", f"run:{name}", "--layer", name)


def compare(example: Example, model: str) -> dict[str, Row]:
    """Top-1 under both lamps against the old model's, with intervals that hold for both at once; neither was learnt from."""
    asked = ["--where", "split IN ('test', 'exam')", "--slices", "split", "--no-findings"]
    rows = example.curate("evaluate", "-d", "lamp", "--layer", model, "--against", "old", *asked)
    return {
        row["name"].removeprefix("split:"): {
            "old": row["against"], "right": row["value"], "gained": row["difference"], "low": row["low"], "high": row["high"],
            "verdict": row["verdict"],
        }
        for row in rows
        if row.get("table") == "Comparison" and row["of"] == "slice"
    }  # fmt: skip


def draw(parts: CropsSet, right: dict[str, Row]) -> Image.Image:
    """Pictures of both lamps, and how the models do on them."""
    shown = [
        (load_pixels(parts.root / "images" / crop.file), NAMES[split])
        for split in NAMES
        for crop in [crop for crop in parts.crops if crop.batch == split][:6]
    ]
    values = [
        {"images": NAMES[split], "model": MODELS[model], "right": share}
        for split, row in right.items()
        for model, share in row.items()
    ]
    points = {
        "data": {"values": values},
        "mark": {"type": "point", "filled": True, "size": 150, "opacity": 1},
        "height": 90,
        "encoding": {
            "y": {"field": "images", "type": "nominal", "title": None, "sort": list(NAMES.values())},
            "x": {
                "field": "right", "type": "quantitative", "title": "told right", "axis": {"format": "%"},
                "scale": {"domain": [min(row["right"] for row in values) - 0.03, 1], "nice": True},
            },
            "color": {
                "field": "model", "sort": list(MODELS.values()), "scale": {"range": ["#c0c4cc", "#7fb0e0", "#1f4e8c"]},
            },
        },
    }  # fmt: skip
    return stacked(tiles(shown), chart(points))


if __name__ == "__main__":
    main()
