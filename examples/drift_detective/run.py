"""A production batch against the training set: did the mix of parts change or their looks, and is INT8 any worse on it?"""

from __future__ import annotations

import csv
import os
import sys
from pathlib import Path
from typing import Any

from PIL import Image

sys.path.insert(0, str(Path(__file__).parents[2]))
from curate.dataset import open_dataset
from curate.demo import Batch, make_crops
from examples.common import Example, Row, chart, stacked, start

OLD: dict[str, Any] = {"lamps": {"ring": 1.0}}
NEW: dict[str, Any] = {"lamps": {"backlight-warm": 1.0}, "exposure": 0.1, "white": (1.3, 1.0, 0.5)}
MIX: dict[str, Any] = {"classes": {"bolt": 5.0, "nut": 3.0, "washer": 1.0, "gear": 1.0, "bearing": 1.0}}
DAYS = {  # what is planted: whether the mix of parts was changed, and whether station 2 had its lamp changed
    "monday": (False, False),
    "tuesday": (True, False),
    "wednesday": (False, True),
    "thursday": (True, True),
}
STATIONS = [f"{day}-{number}" for day in DAYS for number in (1, 2)]
ALPHA = 0.01  # the highest p-value at which a shift is told
CLASSES, LOOKS = "classes, p(y)", "looks given the classes, p(x|y)"


def main() -> None:
    example = start(str(__doc__), "drift_detective")
    learnt, tested, daily = (150, 60, 40) if example.small else (600, 300, 150)
    with example.step("render"):
        batches = [Batch("train", learnt, **OLD), Batch("test", tested, **OLD)]
        for station in STATIONS:
            mixed, relit = DAYS[station[:-2]]
            lamp = NEW if relit and station.endswith("2") else OLD
            batches.append(Batch(station, daily, **lamp, **(MIX if mixed else {})))
        parts = make_crops(example.work / "parts", batches, side=64, seed=example.seed)
    with (table := parts.root / "labels.csv").open("w", newline="") as file:
        rows = [(crop.file, crop.label, crop.batch.partition("-")[0]) for crop in parts.crops]  # a day is a split
        csv.writer(file).writerows([("file_name", "label", "split"), *rows])
    example.curate("import", table, "--images", parts.root / "images", "-d", "line")
    with example.step("models"):
        chosen = models(example)

    tests: dict[str, Row] = {}
    points: list[Row] = []
    with example.step("shift"):
        for day in DAYS:
            tests[day] = shift(example, day)
            points += read_map(example, day)
    told = {day: (p[CLASSES] <= ALPHA, p[LOOKS] <= ALPHA) for day, p in tests.items()}
    with example.step("evaluate"):
        accuracy = compare(example)

    shown: list[tuple[object, ...]] = [("batch", "p(mix)", "p(looks)", "told", "float", "balanced", "INT8", "lost")]
    for name, row in accuracy.items():
        day = name.partition("-")[0]
        p = [tests[day][CLASSES], tests[day][LOOKS], say(told[day])] if day in tests else [""] * 3
        shown.append((name, *p, row["value"], row["balanced"], row["against"], row["difference"]))
    result = {"tests": tests, "told": told, "planted": DAYS, "accuracy": accuracy, "compressed": chosen}
    example.finish(draw(points, told, accuracy), shown, **result)


def models(example: Example) -> Row:
    """Train a model, make an INT8 one of it that loses little on the test split, and ask both about every batch."""
    how = ["--where", "split = 'train'", "--model", "builtin", "--seed", example.seed]
    example.curate("train", "-d", "line", "--task", "classify", *how, "--name", "float")
    how = ["--methods", "quantise", "--splits", "test", "--max-drop", 0.05, "--seed", example.seed]
    (made,) = example.curate("compress", "--model", "run:float", "-d", "line", *how, "--name", "int8")
    for name in ("float", "int8"):
        where = ["--layer", name, "--where", "split <> 'train'"]
        example.curate("predict", "-d", "line", "--model", f"run:{name}", *where)
    return {row["name"]: row for row in made["candidates"] if row["name"] in ("original", made["chosen"])}


def shift(example: Example, day: str) -> Row:
    """p-values of a day's images against the training set, by what was tested."""
    sides = ["--reference", "split = 'train'", "--incoming", f"split = '{day}'"]
    rows = example.curate("shift", "-d", "line", *sides, "--map")
    return {row["tested"]: row["p_value"] for row in rows if row.get("table") == "Tests"}


def read_map(example: Example, day: str) -> list[Row]:
    """The map that `curate shift --map` has just kept: where each image lies, and which station took it."""
    os.environ["CURATE_HOME"] = str(example.work / "home")
    line = open_dataset("line")
    images = line.table("images", columns=["image_id", "location"]).to_pylist()
    by = {row["image_id"]: row["location"].partition("/")[0].replace(f"{day}-", "station ") for row in images}
    (name,) = (table for table in line.commit.tables if table.startswith("maps/"))
    return [{"day": day, "by": by[row["id"]], "x": row["x"], "y": row["y"]} for row in line.table(name).to_pylist()]


def compare(example: Example) -> dict[str, Row]:
    """What is right by either model, batch by batch, and what INT8 lost there, with its interval."""
    slices = ["split:test", *(f"location LIKE '{station}/%'" for station in STATIONS)]
    how = ["--layer", "float", "--against", "int8", "--where", "split <> 'train'", "--slices", ", ".join(slices)]
    rows = example.curate("evaluate", "-d", "line", *how, "--no-findings")
    balanced = {row["slice"]: row["balanced_accuracy"] for row in rows if row.get("table") == "Slices"}
    compared = {row["name"]: row for row in rows if row.get("table") == "Comparison"}
    names = {"all": "top1", "test": "split:test"} | dict(zip(STATIONS, slices[1:], strict=True))
    return {name: compared[part] | {"balanced": balanced.get(part, "")} for name, part in names.items()}


def say(told: tuple[bool, bool]) -> str:
    return " and ".join(word for word, is_told in zip(("mix", "looks"), told, strict=True) if is_told) or "nothing"


def draw(points: list[Row], told: dict[str, tuple[bool, bool]], accuracy: dict[str, Row]) -> Image.Image:
    """The map of each day beside the training set, and what is right at each station."""
    title = {day: f"{day}: {say(both)}" for day, both in told.items()}
    place = {axis: {"field": axis, "type": "quantitative", "axis": None} for axis in "xy"}
    colors = {"domain": ["train", "station 1", "station 2"], "range": ["#d0d4da", "#2b6cb0", "#c53030"]}
    by = {"field": "by", "title": None, "sort": None, "scale": colors}
    maps = {
        "data": {"values": [point | {"title": title[point["day"]]} for point in points]},
        "facet": {"field": "title", "sort": list(title.values()), "title": None},
        "columns": 4,
        "spec": {"width": 150, "height": 150, "mark": {"type": "circle", "size": 14}, "encoding": {**place, "color": by}},
    }  # fmt: skip
    values = [{"batch": name, "float": row["value"], "INT8": row["against"]} for name, row in accuracy.items()]
    y = {"field": "batch", "type": "nominal", "sort": list(accuracy), "title": None}
    x = {"field": "right", "type": "quantitative", "axis": {"format": "%"}, "scale": {"zero": False}}
    color = {"field": "model", "scale": {"range": ["#2b6cb0", "#dd6b20"]}}
    dots = {
        "data": {"values": values}, "transform": [{"fold": ["float", "INT8"], "as": ["model", "right"]}],
        "mark": {"type": "circle", "size": 90}, "encoding": {"x": x, "y": y, "color": color},
    }  # fmt: skip
    return stacked(chart(maps), chart(dots))


if __name__ == "__main__":
    main()
