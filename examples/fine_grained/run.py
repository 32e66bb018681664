"""Washers that differ in one small place, and few labels: a network trained on other parts learns them. Where does it look?"""

from __future__ import annotations

import csv
import os
import sys
from pathlib import Path

import numpy as np
from PIL import Image

sys.path.insert(0, str(Path(__file__).parents[2]))
from curate.demo import Batch, WashersSet, make_crops, make_washers
from curate.imaging import load_pixels
from curate.models.saliency import Explainer, load_explainer, overlay
from examples.common import Example, Row, chart, stacked, start, tiles

FLAGGED, SIDE = 0.5, 64  # a score, and pixels
TRAIN, TEST = "split = 'train'", "split = 'test'"
LAYER = "layer3"  # its maps have a place for every 16 pixels; those of the last one, for every 32


def main() -> None:
    example = start(str(__doc__), "fine_grained")
    os.environ["CURATE_HOME"] = str(example.work / "home")  # where this process, too, looks for runs
    broad, train, model, steps = (
        (1000, 240, "test_resnet", (250, 140, 200)) if example.small else (4000, 480, "resnet50", (600, 400, 400))
    )
    with example.step("render"):
        parts = make_crops(example.work / "broad", [Batch("train", broad)], side=SIDE, seed=example.seed)
        counts = {"train": train, "val": 60, "test": 240}
        washers = make_washers(example.work / "washers", counts, side=SIDE, wrong=0.1, seed=example.seed)
    network = ["--model", model, "--image-size", SIDE, "--batch-size", 24]
    example.curate("import", parts.root / "images", "-d", "broad")
    with example.step("pre-train"):
        learn(example, "broad", "broad", [*network, "--weights", "scratch", "--lr", 0.003], steps[0], 0.3)
    weights = example.work / "home" / "runs" / "broad" / "model.safetensors"
    transfer = [*network, "--weights", weights, "--freeze", "most", "--set", "last_parts=2"]
    transfer += ["--lr", 0.01, "--set", "backbone_lr=0.3"]

    # Two models, each of which has not seen the labels that it is asked about: what is confused, and which labels are wrong?
    given = {each.file: each.given for each in washers.washers}
    import_labels(example, washers, given)
    with example.step("check"):
        learn(example, "washers", "folds", [*transfer, "--where", TRAIN, "--folds", 2], steps[1], 0.8)
        rows = example.curate("evaluate", "-d", "washers", "--layer", "oof-folds", "--where", TRAIN, "--no-findings")
        pair = most_confused(rows)
        findings = example.curate("mistakes", "-d", "washers", "--predictions", "oof-folds", "--where", TRAIN)
    suspects = [row for row in findings if row.get("kind") == "mislabeled" and row["score"] >= FLAGGED]
    truth = {each.file: each.label for each in washers.washers}
    import_labels(example, washers, given | {row["image"]: truth[row["image"]] for row in suspects})

    with example.step("train"):
        learn(example, "washers", "transfer", transfer, steps[2], 0.8)
        learn(example, "washers", "scratch", [*network, "--weights", "scratch", "--lr", 0.003], steps[2], 0.8)
    for name in ("transfer", "scratch"):
        example.curate("predict", "-d", "washers", "--model", f"run:{name}", "--layer", name, "--where", TEST)
    rows = example.curate(
        "evaluate", "-d", "washers", "--layer", "transfer", "--against", "scratch", "--where", TEST, "--no-findings"
    )
    top1 = next(row for row in rows if row.get("table") == "Comparison" and row["name"] == "top1")
    accuracy = {
        "transfer": top1["value"],
        "scratch": top1["against"],
        **{k: top1[k] for k in ("low", "high", "verdict")},
    }
    explainer = load_explainer("run:transfer")
    heat = measure_heat(explainer, washers)
    wrong = {each.file for each in washers.washers if each.label != each.given}
    of_pair = {file for file in wrong if {truth[file], given[file]} == set(pair)}
    flagged = {row["image"] for row in suspects}
    example.finish(
        draw(explainer, washers, pair, [row for row in rows if row.get("table") == "Confusion"]),
        [("heat in the slot", *heat["all"]), *((kind, *row.values()) for kind, row in heat.items())],
        pair=pair,
        mislabeled={
            "planted": len(wrong), "flagged": len(flagged), "right": len(flagged & wrong),
            "planted of the pair": len(of_pair), "right of the pair": len(flagged & of_pair),
        },
        accuracy=accuracy,
        heat=heat,
    )  # fmt: skip


def import_labels(example: Example, washers: WashersSet, labels: dict[str, str]) -> None:
    path, rows = washers.root / "labels.csv", [(name, label, name.partition("/")[0]) for name, label in labels.items()]
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([("file_name", "label", "split"), *rows])
    example.curate("import", path, "--images", washers.root / "images", "-d", "washers")


def learn(example: Example, dataset: str, name: str, how: list[object], steps: int, augment: float) -> None:
    settings = {"steps": steps, "augment": augment, "mixup": 0, "cutmix": 0, "patience": 1000}
    options = [part for key, value in settings.items() for part in ("--set", f"{key}={value}")]
    example.curate("train", "-d", dataset, "--task", "classify", *how, *options, "--seed", example.seed, "--name", name)


def most_confused(rows: list[Row]) -> list[str]:
    """The two classes that are taken for one another most often."""
    counts: dict[tuple[str, ...], int] = {}
    for row in rows:
        if row.get("table") == "Confusion" and row["true"] != row["predicted"]:
            both = tuple(sorted((row["true"], row["predicted"])))
            counts[both] = counts.get(both, 0) + row["images"]
    worst = max(counts, key=lambda both: counts[both])
    return list(worst)


def measure_heat(explainer: Explainer, washers: WashersSet) -> dict[str, Row]:
    """Share of the heat in the slot's box, beside the box's share of the picture and its mirror image, where no slot is."""
    shares: dict[str, list[list[float]]] = {}
    for each in washers.washers:
        if each.split != "test" or each.place is None:
            continue
        heat = explainer.heat(load_pixels(washers.root / "images" / each.file), each.label, layer=LAYER)
        left, top, right, bottom = each.place
        if heat.any() and (bottom <= len(heat) / 2 or top >= len(heat) / 2):  # else it overlaps with its mirror image
            heat = heat / heat.sum()
            maps = (heat, heat[::-1], np.full_like(heat, 1 / heat.size))
            for kind in ("all", each.label):
                shares.setdefault(kind, []).append([float(part[top:bottom, left:right].sum()) for part in maps])
    names = ("of the heat", "of the heat, mirrored", "of the picture")
    means = {kind: np.mean(rows, axis=0).tolist() for kind, rows in shares.items()}
    return {kind: {"pictures": len(shares[kind]), **dict(zip(names, means[kind], strict=True))} for kind in means}


def draw(explainer: Explainer, washers: WashersSet, pair: list[str], confusion: list[Row]) -> Image.Image:
    """Pictures of the confused pair with what speaks for either kind, and what is taken for what."""
    shown = []
    for label, other in (pair, pair[::-1]):
        some = [each.file for each in washers.washers if each.split == "test" and each.label == label][:2]
        for pixels in (load_pixels(washers.root / "images" / file) for file in some):
            heats = [explainer.heat(pixels, label, against=against, layer=LAYER) for against in (None, other)]
            shown.append((pixels, label))
            for heat, text in zip(heats, (f"for {label}", f"and not {other}"), strict=True):
                shown.append((overlay(pixels, heat), text))
    axes = {name: {"field": name, "type": "nominal", "axis": {"labelAngle": 0}} for name in ("true", "predicted")}
    encoding = {"y": axes["true"], "x": axes["predicted"]}
    color = {"field": "images", "type": "quantitative", "scale": {"range": ["#f4f7fb", "#8fb4e0"]}, "legend": None}
    layers = [
        {"mark": "rect", "encoding": {**encoding, "color": color}},
        {"mark": "text", "encoding": {**encoding, "text": {"field": "images"}}},
    ]
    return stacked(tiles(shown), chart({"data": {"values": confusion}, "layer": layers, "height": 120}, width=400))


if __name__ == "__main__":
    main()
