"""A loop that chooses by itself, for five rounds of a night, which pictures are worth a label: against choosing at random."""

from __future__ import annotations

import csv
import sys
from pathlib import Path

import numpy as np
from PIL import Image

sys.path.insert(0, str(Path(__file__).parents[2]))
from curate.demo import Batch, CropsSet, make_crops
from curate.imaging import load_pixels
from examples.common import Row, chart, stacked, start, tiles

POOL = {"bolt": 8.0, "nut": 4.0, "washer": 4.0, "gear": 1.0, "bearing": 1.0}  # what a line makes: few of some parts
COPIES = 0.4  # of the pool: the belt stood still while the camera went on
ROUNDS = 5
COLORS = {"mix": "#2b6cb0", "margin": "#dd6b20", "k-center": "#2f855a", "random": "#8a8f98"}
LOOP = """\
dataset: night
budget: {budget}
rounds: {rounds}
strategy: mix
seed: {seed}
"""


def main() -> None:
    example = start(str(__doc__), "night_shift")
    pool, tested, budget, nights = (240, 200, 16, 4) if example.small else (1000, 400, 24, 6)
    strategies = ["mix", "random"] if example.small else ["mix", "margin", "k-center", "random"]
    with example.step("render"):
        batches = [Batch("pool", pool, classes=POOL, duplicates=COPIES), Batch("test", tested)]
        parts = make_crops(example.work / "parts", batches, side=64, seed=example.seed)
    import_labels(parts, labels := parts.root / "labels.csv")
    example.curate("import", labels, "--images", parts.root / "images", "-d", "night")

    # Nobody sits at a server here: the labels are held back, and each strategy is told those that it asks for.
    rounds: list[Row] = []
    file = example.work / "loop.yaml"
    for night in range(nights):
        file.write_text(LOOP.format(budget=budget, rounds=ROUNDS, seed=100 * example.seed + night))
        with example.step("loop"):
            played = example.curate("loop", "run", file, "--simulate", "--strategies", ",".join(strategies))
        rounds += [row | {"night": night} for row in played]

    curves = {strategy: curve(rounds, strategy) for strategy in strategies}
    ahead = {strategy: lead(rounds, strategy) for strategy in strategies if strategy != "random"}
    table = [("strategy", *(f"round {number}" for number in range(1, ROUNDS + 1)), "labels", "ahead of random")]
    for strategy, points in curves.items():
        told = f"{ahead[strategy]['nights']} of {nights} nights" if strategy in ahead else ""
        table.append((strategy, *(row["accuracy"] for row in points), f"{points[-1]['images']:.0f}", told))
    example.finish(draw(parts, curves), table, nights=nights, rounds=rounds, curves=curves, ahead=ahead)


def import_labels(parts: CropsSet, path: Path) -> None:
    """Write the labels as a table, the split `test` as what no strategy may choose."""
    with path.open("w", newline="") as file:
        rows = [(crop.file, crop.label, crop.batch) for crop in parts.crops]
        csv.writer(file).writerows([("file_name", "label", "split"), *rows])


def curve(rounds: list[Row], strategy: str) -> list[Row]:
    """Labels asked for and accuracy after each round, the mean of all nights."""
    points = []
    for number in range(1, ROUNDS + 1):
        rows = [row for row in rounds if row["strategy"] == strategy and row["round"] == number]
        mean = {name: float(np.mean([row[name] for row in rows])) for name in ("images", "accuracy")}
        points.append({"strategy": strategy, "round": number, **mean})
    return points


def lead(rounds: list[Row], strategy: str) -> Row:
    """How far a strategy is ahead of chance after the last round: on the mean of the nights, and on how many."""
    last = {(row["night"], row["strategy"]): row["accuracy"] for row in rounds if row["round"] == ROUNDS}
    gains = [last[night, strategy] - accuracy for (night, name), accuracy in last.items() if name == "random"]
    return {"mean": float(np.mean(gains)), "nights": sum(gain > 0 for gain in gains), "gains": gains}


def draw(parts: CropsSet, curves: dict[str, list[Row]]) -> Image.Image:
    """Some of the pool, and what the labels were worth after each round."""
    shown = [(load_pixels(parts.root / "images" / crop.file), crop.label) for crop in parts.crops[:6]]
    values = [point for points in curves.values() for point in points]
    colors = [COLORS[strategy] for strategy in curves]
    lines = {
        "data": {"values": values},
        "mark": {"type": "line", "point": {"size": 60}},
        "encoding": {
            "x": {"field": "images", "type": "quantitative", "title": "labels asked for"},
            "y": {
                "field": "accuracy", "type": "quantitative", "title": "right on the test split",
                "axis": {"format": "%"}, "scale": {"zero": False},
            },
            "color": {"field": "strategy", "sort": None, "scale": {"domain": [*curves], "range": colors}},
        },
    }  # fmt: skip
    return stacked(tiles(shown), chart(lines))


if __name__ == "__main__":
    main()
