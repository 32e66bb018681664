"""Foreign parts among bolts: a light model passes what is easy, a heavy one sees the rest. How fast, and what does it lose?"""

from __future__ import annotations

import csv
import sys
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from PIL import Image

sys.path.insert(0, str(Path(__file__).parents[2]))
from curate.demo import Batch, CropsSet, make_crops
from curate.imaging import load_pixels
from examples.common import Example, Row, chart, stacked, start, tiles

MIX = {"bolt": 4.0, "nut": 1.0, "washer": 1.0, "gear": 1.0, "bearing": 1.0}
MAX_LOSS = 0.02  # of top-1, against the heavy model alone


def main() -> None:
    example = start(str(__doc__), "tiered_screening")
    learnt, labeled, passing, steps = (400, 600, 240, 160) if example.small else (1500, 1500, 1000, 600)
    with example.step("render"):
        batches = [Batch("train", learnt, MIX), Batch("test", labeled, MIX), Batch("line", passing, MIX)]
        parts = make_crops(example.work / "parts", batches, side=64, seed=example.seed)
    import_labels(example, parts)

    light_network: list[str | int] = [
        "--model",
        "test_resnet",
        "--weights",
        "scratch",
        "--image-size",
        32,
        "--batch-size",
        32,
    ]
    light = release(example, "light", [*light_network, "--set", f"steps={steps}"])
    heavy = release(example, "heavy", ["--model", "builtin"])

    # One half of the labelled images chooses the threshold, the other measures what it loses and costs.
    with example.step("choose"):
        (tuned,) = example.curate("run", light, "--heavy", heavy, "--labels", "parts", "--max-loss", MAX_LOSS)
    threshold = tuned["tried"]  # `threshold` is the same, or null where the half that measures says no

    # A new batch on the line: once with the cascade, and once with both models on everything, to see what either would say.
    line = parts.folder("line")
    with example.step("run"):
        *answers, summary = example.curate("run", light, "--heavy", heavy, "--threshold", threshold, "--source", line)
        *both, _ = example.curate("run", light, "--against", heavy, "--source", line)
    truth = {crop.file.partition("/")[2]: wanted(crop.label) for crop in parts.crops if crop.batch == "line"}
    right = {
        "light": share(truth[row["name"]] == row["label"] for row in both),
        "cascade": share(truth[row["name"]] == row["label"] for row in answers),
        "heavy": share(truth[row["name"]] == row["other"]["label"] for row in both),
    }
    seen = {"light": 0.0, "cascade": summary["heavy"] / summary["processed"], "heavy": 1.0}
    table = [
        {
            "model": name, "right": right[name], "seen by heavy": seen[name], "ms": tuned[f"{name}_cost"]["processor_ms"],
            "images/s": round(1000 / tuned[f"{name}_cost"]["processor_ms"]),
        }
        for name in right
    ]  # fmt: skip
    example.finish(
        draw(parts, both, truth, threshold, table),
        [tuple(table[0]), *(tuple(row.values()) for row in table)],
        tuned=tuned,
        models=table,
        expected={"seen by heavy": share(row["uncertainty"] > threshold for row in both)},
    )


def wanted(label: str) -> str:
    return "bolt" if label == "bolt" else "foreign"


def share(values: Iterable[bool]) -> float:
    return float(np.mean(list(values)))


def import_labels(example: Example, parts: CropsSet) -> None:
    """Import what is labelled: bolt or foreign. Of the line nobody has labels yet."""
    path = example.work / "parts.csv"
    rows = [(crop.file, wanted(crop.given), crop.batch) for crop in parts.crops if crop.batch != "line"]
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([("file_name", "label", "split"), *rows])
    example.curate("import", path, "--images", parts.root / "images", "-d", "parts")


def release(example: Example, name: str, settings: list[str | int]) -> Path:
    """Train a model and make a package of it."""
    package = example.work / "packages" / name
    package.parent.mkdir(exist_ok=True)
    with example.step(name):
        example.curate("train", "-d", "parts", "--task", "classify", *settings, "--seed", example.seed, "--name", name)
        example.curate("package", "--model", f"run:{name}", "-d", "parts", "--output", package, "--limit", 100)
    return package


def draw(parts: CropsSet, both: list[Row], truth: dict[str, str], threshold: float, table: list[Row]) -> Image.Image:
    """What the light model is most and least sure of, and what every threshold would give on the line."""
    order = sorted(both, key=lambda row: float(row["uncertainty"]))
    shown = []
    for row in [*order[:3], *order[-3:]]:
        says = f"light: {row['label']}\nunsure: {row['uncertainty']:.2f}"
        asked = f"\nheavy: {row['other']['label']}" if row["uncertainty"] > threshold else "\nheavy: not asked"
        shown.append((load_pixels(parts.folder("line") / row["name"]), says + asked))
    really = np.array([truth[row["name"]] for row in order])
    by_light = np.array([row["label"] for row in order]) == really
    by_heavy = np.array([row["other"]["label"] for row in order]) == really
    points = [
        {"seen": 1 - k / len(order), "right": float((by_light[:k].sum() + by_heavy[k:].sum()) / len(order))}
        for k in range(len(order) + 1)
    ]
    marks = [
        {"seen": row["seen by heavy"], "right": row["right"], "text": f"{row['model']}: {row['images/s']} images/s"}
        for row in table
    ]
    x = {
        "field": "seen", "type": "quantitative", "title": "part of the images that the heavy model sees",
        "axis": {"format": "%"}, "scale": {"domain": [0, 1]},
    }  # fmt: skip
    y = {
        "field": "right", "type": "quantitative", "title": "right on the line",
        "axis": {"format": ".0%"}, "scale": {"zero": False, "padding": 24},
    }  # fmt: skip
    encoding = {"x": x, "y": y}
    align = "datum.seen > 0.7 ? 'right' : 'left'"
    text = {
        "type": "text",
        "align": {"expr": align},
        "dy": 14,
        "dx": {"expr": "datum.seen > 0.7 ? -6 : 8"},
        "fontSize": 12,
    }
    layers = [
        {"data": {"values": points}, "mark": {"type": "line", "color": "#c0c4cc"}, "encoding": encoding},
        {"data": {"values": marks}, "mark": {"type": "point", "filled": True, "size": 120}, "encoding": encoding},
        {"data": {"values": marks}, "mark": text, "encoding": {**encoding, "text": {"field": "text"}}},
    ]
    return stacked(tiles(shown), chart({"layer": layers}))


if __name__ == "__main__":
    main()
