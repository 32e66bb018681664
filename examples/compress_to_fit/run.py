"""A classifier that must fit a device: prune, distil and quantise it. What does each step win, and what does it lose?"""

from __future__ import annotations

import csv
import os
import sys
from pathlib import Path
from typing import Any

from PIL import Image

sys.path.insert(0, str(Path(__file__).parents[2]))
from curate.demo import Batch, make_crops
from curate.models.training.runs import run_folder
from examples.common import Example, Row, chart, stacked, start

PARTS = ("bolt", "washer", "gear")
MAX_SIZE, MAX_MS, MAX_DROP = 256 * 1024, 1.0, 0.05  # bytes of the file, processor time of an image, part of top-1


def main() -> None:
    example = start(str(__doc__), "compress_to_fit")
    learnt, judged, steps, again = (600, 300, 120, 40) if example.small else (1500, 600, 600, 200)
    import_parts(example, {"train": learnt, "val": judged, "test": judged})
    train = ["train", "-d", "parts", "--task", "classify", "--seed", example.seed]
    with example.step("teacher"):
        (teacher,) = example.curate(*train, "--model", "builtin", "--name", "large")
    with example.step("original"):
        network = ["--model", "test_resnet", "--weights", "scratch", "--image-size", 48, "--batch-size", 32]
        settings = ["--lr", 0.002, "--set", "augment=0.3", "--set", f"steps={steps}"]
        example.curate(*train, *network, *settings, "--name", "small")
    with example.step("compress"):
        made = compress(example, again)

    os.environ["CURATE_HOME"] = str(example.work / "home")
    large = run_folder("large") / "model.onnx"
    candidates = [describe(row, made["chosen"]) for row in made["candidates"]]
    table = [list(row.values())[:-1] for row in candidates]
    example.finish(
        draw(candidates),
        [("model", "kB", "ms", "top-1", "lost", "frontier", "budget"), *table],
        budget={"size": MAX_SIZE, "ms": MAX_MS, "drop": MAX_DROP},
        teacher={"size": large.stat().st_size, "top1": teacher["numbers"]["top1"]},
        candidates=made["candidates"],
        chosen=made["chosen"],
        confirmed=made["confirmed"],
        file=str((run_folder("fits") / "model.onnx").relative_to(example.work)) if made["chosen"] else None,
    )


def import_parts(example: Example, counts: dict[str, int]) -> None:
    """Render and import pictures of three parts, as many for each split."""
    with example.step("render"):
        batches = [Batch(split, count, dict.fromkeys(PARTS, 1.0)) for split, count in counts.items()]
        parts = make_crops(example.work / "parts", batches, side=48, seed=example.seed)
    path = example.work / "parts.csv"
    with path.open("w", newline="") as file:
        rows = [(crop.file, crop.label, crop.batch) for crop in parts.crops]
        csv.writer(file).writerows([("file_name", "label", "split"), *rows])
    example.curate("import", path, "--images", parts.root / "images", "-d", "parts")


def compress(example: Example, again: int) -> Row:
    """What was tried, and the best of it that holds the budget; nothing may (status 1), and it is told all the same."""
    budget = ["--max-size", f"{MAX_SIZE // 1024}KiB", "--max-latency", f"{MAX_MS:g}ms", "--max-drop", MAX_DROP]
    how = ["--methods", "quantise,distil,prune", "--teacher", "run:large", "--prune", "0.3,0.5", "--steps", again]
    best = ["--prefer", "accuracy", "--limit", 0, "--seed", example.seed, "--name", "fits"]
    (made,) = example.curate("compress", "--model", "run:small", *budget, *how, *best, status=(0, 1))
    return made


def describe(row: Row, chosen: str | None) -> Row:
    """A candidate as the table and the charts show it."""
    small = "INT8" if "quantised" in row["method"] else "float"
    return {
        "model": row["name"], "kB": round(row["size"] / 1000), "ms": row["latency_ms"], "top-1": row["accuracy"],
        "lost": row["drop"], "frontier": "yes" if row["frontier"] else "",
        "budget": "chosen" if row["name"] == chosen else "breaks" if row["refused"] else "holds",
        "kind": f"{row['method'].partition('+')[0].replace('quantised', 'original')}, {small}",
    }  # fmt: skip


def draw(candidates: list[Row]) -> Image.Image:
    """Size and top-1 of each candidate with the frontier and the budget, and the time of each."""
    # On the frontier drawn here nothing smaller is as good; `frontier` in the table weighs time, too.
    smallest = sorted(candidates, key=lambda row: (row["kB"], -row["top-1"]))
    steps = [row for at, row in enumerate(smallest) if all(row["top-1"] > other["top-1"] for other in smallest[:at])]
    x = {
        "field": "kB",
        "type": "quantitative",
        "scale": {"type": "log", "domain": [100, 2000]},
        "title": "kB of the file",
    }
    y: dict[str, Any] = {
        "field": "top-1", "type": "quantitative", "axis": {"format": ".1%"}, "scale": {"zero": False, "padding": 16},
    }  # fmt: skip
    place = {"x": x, "y": y}
    color = {"field": "kind", "title": None, "sort": None, "scale": {"scheme": "paired"}}
    chosen = [row for row in candidates if row["budget"] == "chosen"]
    limit = {"data": {"values": [{"kB": MAX_SIZE / 1000}]}, "mark": {"type": "rule", "strokeDash": [4, 4]}}
    line = {"type": "line", "color": "#c0c4cc", "interpolate": "step-after"}
    ring = {"type": "point", "size": 320, "color": "#c53030", "strokeWidth": 2}
    front = {
        "title": f"top-1 by size: the line is what no smaller file gives, the ring is what is kept below {MAX_SIZE // 1024} KiB",
        "layer": [
            {**limit, "encoding": {"x": x}},
            {"data": {"values": steps}, "mark": line, "encoding": place},
            {"data": {"values": chosen}, "mark": ring, "encoding": place},
            {"data": {"values": candidates}, "mark": {"type": "circle", "size": 90, "opacity": 1},
             "encoding": {**place, "color": color}},
        ],
    }  # fmt: skip
    bars = {
        "height": {"step": 16}, "data": {"values": candidates}, "mark": "bar",
        "encoding": {
            "y": {"field": "model", "type": "nominal", "sort": None, "title": None, "axis": {"labelLimit": 260}},
            "x": {"field": "ms", "type": "quantitative", "title": "processor milliseconds of an image, one thread"},
            "color": {**color, "legend": None},
        },
    }  # fmt: skip
    return stacked(chart(front), chart(bars, width=430))


if __name__ == "__main__":
    main()
