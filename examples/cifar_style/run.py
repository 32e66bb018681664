"""Small pictures, four kinds of network, one budget: which learns most, and what do wrong labels cost each?"""

from __future__ import annotations

import csv
import importlib
import os
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file

sys.path.insert(0, str(Path(__file__).parents[2]))
from curate.demo import Batch, CropsSet, make_crops
from curate.imaging import load_pixels
from curate.models.predictors.registry import load_predictor
from curate.models.training.runs import run_folder
from curate.models.training.train import Asked, train
from examples.cifar_style.drawing import draw
from examples.common import Example, Row, start

NETWORKS = {"plain CNN": "small_cnn", "ResNet": "small_resnet", "SE-ResNet": "small_seresnet", "ViT": "small_vit"}
RECIPE = {
    "task": "classify", "weights": "scratch", "image_size": 32, "batch_size": 32, "learning_rate": 3e-3, "augment": 0.25,
    "patience": 1000, "device": "cpu", "options": {"cutmix": 1.0, "mixup": 0.2},
}  # fmt: skip
CLASSES = ["bolt", "washer", "gear"]
WRONG = 0.3  # of the labels
FLAGGED = 0.5
SIDE = 32  # pixels, as CIFAR has them


def main() -> None:
    example = start(str(__doc__), "cifar_style")
    os.environ["CURATE_HOME"] = str(example.work / "home")  # the trainings are calls of the library
    learnt, held_out, tested, steps = (480, 120, 400, 120) if example.small else (1200, 300, 600, 400)
    with example.step("render"):
        mix: dict[str, Any] = {"classes": dict.fromkeys(CLASSES, 1.0), "lamps": {"ring": 1.0}}
        batches = [Batch(name, n, **mix) for name, n in (("train", learnt), ("val", held_out), ("test", tested))]
        parts = make_crops(example.work / "parts", batches, side=SIDE, seed=example.seed)
    truth = {crop.file: crop.label for crop in parts.crops}
    labels = {"right": truth, "wrong": confuse(truth, example.seed)}
    for name in ("right", "wrong"):
        import_labels(example, parts, labels[name], name)
    planted = {file for file, label in labels["wrong"].items() if label != truth[file]}
    weeded: Row | None = None
    if not example.small:  # what `mistakes` thinks more likely wrong than right is left out, right or not
        with example.step("mistakes"):
            rows = example.curate("mistakes", "-d", "wrong", "--where", "split != 'test'")
        flagged = {r["image"] for r in rows if r["kind"] == "mislabeled" and r["score"] >= FLAGGED}
        labels["weeded"] = {file: label for file, label in labels["wrong"].items() if file not in flagged}
        import_labels(example, parts, labels["weeded"], "weeded")
        weeded = {"planted": len(planted), "flagged": len(flagged), "right": len(flagged & planted)}

    rows = [learn(example, network, given, steps) for network in NETWORKS for given in labels]
    with example.step("judge"):
        judged = {network: judge(example, network, list(labels)) for network in NETWORKS}
    seen, costs = ask(parts)
    curves = [point for row in rows for point in row.pop("curve")]
    table = [(name, *(judged[name][given]["top1"] for given in labels), *costs[name].values()) for name in NETWORKS]
    example.finish(
        draw(seen, curves, judged),
        [("network", *labels, "parameters", "ms"), *table],
        wrong={"planted": len(planted), "of": learnt + held_out}, weeded=weeded, steps=steps,
        trainings=rows, networks=judged, costs=costs, curves=curves,
    )  # fmt: skip


def confuse(truth: dict[str, str], seed: int) -> dict[str, str]:
    """A share of the labels of what is learnt from is the next class, as if each part were taken for one other."""
    rng, names = np.random.default_rng(seed), [file for file in truth if not file.startswith("test/")]
    chosen = rng.permutation(names)[: round(WRONG * len(names))]
    return truth | {str(file): CLASSES[(CLASSES.index(truth[file]) + 1) % len(CLASSES)] for file in chosen}


def import_labels(example: Example, parts: CropsSet, labels: dict[str, str], name: str) -> None:
    path = example.work / f"{name}.csv"
    with path.open("w", newline="") as file:
        rows = [(image, label, image.partition("/")[0]) for image, label in labels.items()]
        csv.writer(file).writerows([("file_name", "label", "split"), *rows])
    example.curate("import", path, "--images", parts.root / "images", "-d", name)


def learn(example: Example, network: str, given: str, steps: int) -> Row:
    """Train a network on one set of labels, and read its curve back from what TensorBoard would show."""
    model, began = NETWORKS[network], time.process_time()
    name = f"{model}-{given}"
    settings = {**RECIPE, "model": model, "steps": steps, "seed": example.seed}
    asked, command = Asked(given, settings=settings), command_of(given, name, settings)
    print(f"as by: {command}", file=sys.stderr, flush=True)
    with example.step("train"):
        run = train(asked, name=name, command=command, report=lambda *_: None, say=lambda _: None)
    events = importlib.import_module("tensorboard.backend.event_processing.event_accumulator")
    board = events.EventAccumulator(str(run_folder(name) / "tensorboard"))
    board.Reload()
    about = {"network": network, "labels": f"{given} labels"}
    curve = [{**about, "epoch": event.step, "right": event.value} for event in board.Scalars("top1")]
    cpu = round(time.process_time() - began, 1)
    return {"network": network, "labels": given, "cpu seconds": cpu, "val": run.numbers, "curve": curve}


def command_of(given: str, name: str, settings: Row) -> str:
    """The command line that trains the same model; the run keeps it."""
    more = {key: value for key, value in settings.items() if key not in ("task", "options")} | settings["options"]
    options = [f"--set {key}={value}" for key, value in more.items()]
    return " ".join([f"curate train -d {given} --task {settings['task']}", *options, f"--name {name}"])


def judge(example: Example, network: str, labels: list[str]) -> Row:
    """Top-1 on right labels that nobody has learnt from, and what it differs by from right labels, with its interval."""
    test, first, *others = "split = 'test'", *(f"{NETWORKS[network]}-{given}" for given in labels)
    for name in (first, *others):
        example.curate("predict", "-d", "right", "--where", test, "--model", f"run:{name}", "--layer", name)
    found: Row = {}
    for given, name in zip(labels[1:], others, strict=True):
        compared = ["--layer", name, "--against", first, "--no-findings"]
        rows = example.curate("evaluate", "-d", "right", "--where", test, *compared)
        row = next(row for row in rows if row.get("table") == "Comparison" and row["name"] == "top1")
        found["right"] = {"top1": row["against"]}
        found[given] = {"top1": row["value"], **{key: row[key] for key in ("difference", "low", "high", "verdict")}}
    return found


def ask(parts: CropsSet) -> tuple[list[tuple[Any, str]], dict[str, Row]]:
    """What each network says of six test pictures, and what it weighs: parameters, CPU milliseconds of an image."""
    shown = [crop for crop in parts.crops if crop.batch == "test"][:6]
    pictures = [load_pixels(parts.root / "images" / crop.file) for crop in shown]
    texts, costs = [f"is a {crop.label}" for crop in shown], {}
    for network, model in NETWORKS.items():
        predictor = load_predictor(f"run:{model}-right")
        prepared = [predictor.prepare(picture) for picture in pictures]
        began = time.process_time()
        for _ in range(20):
            said: list[Any] = [predictor.predict([each])[0] for each in prepared]
        spent = (time.process_time() - began) / (20 * len(prepared))
        weights = load_file(run_folder(f"{model}-right") / "model.safetensors")
        count = sum(value.size for key, value in weights.items() if "running" not in key and "tracked" not in key)
        costs[network] = {"parameters": count, "ms": round(1000 * spent, 2)}
        short = network.removeprefix("plain ").partition("-")[0]
        answers = [predictor.classes[int(each.probabilities.argmax())] for each in said]
        texts = [f"{text}\n{short}: {answer}" for text, answer in zip(texts, answers, strict=True)]
    return list(zip(pictures, texts, strict=True)), costs


if __name__ == "__main__":
    main()
