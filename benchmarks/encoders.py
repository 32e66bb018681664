"""How well the built-in encoder tells things apart, next to raw pixels and plain HOG.

    python -m benchmarks.encoders [--data FOLDER] [--encoder SPEC ...] [--only SET ...] [--json FILE]

Sets: scikit-learn's digits, views of its two photographs, crops of rendered parts and, where the data folder is given, of BCCD
and raccoon. Accuracy in per cent of a linear probe, an RBF probe and 10 nearest neighbours, over five folds that keep an
image's crops together, and milliseconds of CPU per image.
"""

from __future__ import annotations

import argparse
import io
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from PIL import Image
from sklearn.datasets import load_digits, load_sample_images
from sklearn.kernel_approximation import Nystroem
from sklearn.linear_model import RidgeClassifierCV
from sklearn.model_selection import GroupKFold, cross_val_score
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline

from benchmarks.report import Report, markdown, options, real_set, run
from benchmarks.sets import read_voc
from curate.demo.render import plan_shots, render
from curate.imaging import Pixels, crop, load_pixels, resize
from curate.models.encoders.builtin import describe_color, describe_edges, to_canonical
from curate.models.encoders.registry import load_encoder

Vectors = npt.NDArray[np.float32]
MARGIN = 0.15


@dataclass
class Task:
    """Images with classes; the images of a group share a source."""

    name: str
    images: list[Pixels]
    labels: list[Any]
    groups: list[int]


def main() -> None:
    """Run every set and encoder."""
    parser = options(__doc__, data=True)
    parser.add_argument("--encoder", action="append", default=[], help="an encoder's spec, to be compared as well")
    parser.add_argument("--only", nargs="+", choices=SETS, default=SETS, help="run these sets only")
    run(measure, parser)


def measure(arguments: argparse.Namespace) -> Report:
    """Every set by every method."""
    notes: list[str] = []
    tasks: list[Task] = [make() for name, make in RENDERED.items() if name in arguments.only]
    for name, backgrounds in REAL.items():
        source = real_set(arguments.data, name, notes) if name in arguments.only else None
        if source is not None:
            tasks.append(boxes(source, name, backgrounds=backgrounds))
    methods: dict[str, Callable[[Sequence[Pixels]], Vectors]] = {"raw 16 x 16": raw, "HOG + colour": plain}
    methods |= {spec: encode_with(spec) for spec in ["builtin", *arguments.encoder]}
    results = [score(task, name, method) for task in tasks for name, method in methods.items()]
    columns = ["set", "images", "classes", "vectors", "linear", "RBF", "10-NN", "ms"]
    return Report(
        {"sets": list(arguments.only)}, results, markdown(columns, [list(r.values()) for r in results]), notes
    )


def score(task: Task, name: str, method: Callable[[Sequence[Pixels]], Vectors]) -> dict[str, Any]:
    """Accuracies and time of one method on one set."""
    began = time.process_time()
    X = method(task.images)
    milliseconds = 1000 * (time.process_time() - began) / len(X)
    y, groups = np.array(task.labels), np.array(task.groups)
    alphas = np.logspace(-3, 1, 5)
    width = 1 / np.median(np.square(X[::7, None] - X[None, ::11]).sum(axis=2))
    landmarks = Nystroem(gamma=width, n_components=min(1000, len(X) // 2), random_state=0)
    probes = {
        "linear": RidgeClassifierCV(alphas),
        "rbf": make_pipeline(landmarks, RidgeClassifierCV(alphas)),
        "neighbors": KNeighborsClassifier(10),
    }
    accuracies = {
        probe: round(100 * float(cross_val_score(estimator, X, y, groups=groups, cv=GroupKFold(5)).mean()), 1)
        for probe, estimator in probes.items()
    }
    counts = {"set": task.name, "images": len(X), "classes": len(set(task.labels)), "vectors": name}
    return counts | accuracies | {"ms": round(milliseconds, 1)}


def encode_with(spec: str) -> Callable[[Sequence[Pixels]], Vectors]:
    encoder = load_encoder(spec)
    return lambda images: encoder.encode([encoder.prepare(image) for image in images])


def raw(images: Sequence[Pixels]) -> Vectors:
    """16 x 16 pixels less their mean, unit length."""
    return _unit([resize(image, (16, 16)).astype(np.float32) - image.mean() for image in images])


def plain(images: Sequence[Pixels]) -> Vectors:
    """Histograms of gradients and mean colours on a 4 x 4 grid, unit length."""
    canonical = [to_canonical(image) for image in images]
    edges, colors = (_unit([block(image)[0] for image in canonical]) for block in (describe_edges, describe_color))
    return np.concatenate([edges, 0.5 * colors], axis=1)


def _unit(rows: Sequence[npt.NDArray[np.float32]]) -> Vectors:
    matrix = np.stack([row.ravel() for row in rows])
    return np.asarray(matrix / np.maximum(np.linalg.norm(matrix, axis=1, keepdims=True), 1e-9))


def digits() -> Task:
    """1,797 handwritten digits, 8 x 8 pixels."""
    bunch = load_digits()
    images = [np.repeat((image * 15.9).astype(np.uint8)[..., None], 3, axis=2) for image in bunch.images]
    return Task("digits", images, bunch.target.tolist(), list(range(len(images))))


def scenes(places: int = 60, views: int = 10) -> Task:
    """Which place in two photographs a view shows: shifted, scaled, mirrored, darkened, 32 x 32 pixels."""
    rng = np.random.default_rng(0)
    task = Task("places in photographs", [], [], [])
    for place in range(places):
        photo = np.asarray(load_sample_images().images[place % 2])
        centre = rng.uniform((80, 80), np.array(photo.shape[:2]) - 80)
        for view in range(views):
            side = 90 * np.exp(rng.uniform(-0.3, 0.3))
            top, left = centre + rng.uniform(-14, 14, 2) - side / 2
            image = resize(crop(photo, [left, top, side, side]), (32, 32))[:, :: rng.choice([-1, 1])]
            bright = 255 * (image / 255) ** np.exp(rng.uniform(-0.5, 0.5)) + rng.normal(0, 6, image.shape)
            task.images.append(bright.clip(0, 255).astype(np.uint8))
            task.labels.append(place)
            task.groups.append(view)
    return task


def parts(count: int = 120) -> Task:
    """Crops of rendered machine parts."""
    task = Task("machine parts", [], [], [])
    for number, shot in enumerate(plan_shots(count, 0)):
        rendering = render(shot, 0)
        pixels = np.asarray(Image.open(io.BytesIO(rendering.jpeg)).convert("RGB"))
        for thing in rendering.things:
            task.images.append(crop(pixels, thing.bbox, margin=MARGIN))
            task.labels.append(thing.label)
            task.groups.append(number)
    return task


def boxes(source: Path, name: str, *, backgrounds: int = 0, limit: int = 2000) -> Task:
    """Crops of a Pascal VOC set, and of squares per image that touch no box if asked for."""
    rng = np.random.default_rng(0)
    labels = read_voc(source)
    usable = labels.boxes().usable
    task = Task(name, [], [], [])
    for number, path in enumerate(labels.images["path"].to_pylist()):
        rows = np.flatnonzero((labels.image == number) & usable)
        if len(rows) and len(task.images) <= limit:
            pixels = load_pixels(path)
            given = labels.bbox[rows].tolist()
            squares = _squares_outside(pixels, given, backgrounds, rng)
            task.images += [crop(pixels, box, margin=MARGIN) for box in [*given, *squares]]
            task.labels += [labels.classes[k] for k in labels.label[rows]] + ["background"] * len(squares)
            task.groups += [number] * (len(rows) + len(squares))
    return task


def _squares_outside(
    pixels: Pixels, given: Sequence[Sequence[float]], count: int, rng: np.random.Generator
) -> list[tuple[float, float, float, float]]:
    height, width = pixels.shape[:2]
    squares: list[tuple[float, float, float, float]] = []
    for _ in range(40 if count else 0):
        side = min(height, width) * rng.uniform(0.2, 0.6)
        left, top = rng.uniform(0, width - side), rng.uniform(0, height - side)
        if all(left + side < x or x + w < left or top + side < y or y + h < top for x, y, w, h in given):
            squares.append((left, top, side, side))
    return squares[:count]


RENDERED: Final[dict[str, Callable[[], Task]]] = {"digits": digits, "places": scenes, "parts": parts}
REAL: Final = {"bccd": 0, "raccoon": 2}
"""Names, and how many background squares each image gives."""

SETS: Final = (*RENDERED, *REAL)


if __name__ == "__main__":
    main()
