"""Which model is made smaller, which images judge what comes of it, and which are shown to the quantiser."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from curate.checks.boxes import BoolArray
from curate.checks.shift.stored import read_slices
from curate.dataset import Dataset, open_dataset
from curate.edge.compress.calibration import cover, describe, light_parts
from curate.edge.scoring import LIMIT, Exam, make_exam
from curate.errors import ImageError, InputError, UsageError
from curate.imaging import Pixels, load_pixels
from curate.models.predictors.network import open_network
from curate.models.predictors.onnx import OnnxPredictor
from curate.models.predictors.preparation import Preparation, make_preparation
from curate.models.predictors.registry import load_predictor
from curate.models.training.base import Example
from curate.models.training.examples import TEST, Division, Material, divide, load_material
from curate.models.training.runs import MODEL_FILE, Run, read_run, run_folder
from curate.names import GROUND_TRUTH
from curate.wording import counted

_POOL: Final = 1500
"""Images that are looked at to choose those for calibration."""

_RUN, _ONNX = "run:", "onnx:"


@dataclass(frozen=True)
class Parent:
    """The model that is made smaller.

    Attributes:
        spec: As it was named.
        path: Its ONNX file.
        predictor: It, ready to run.
        run: What trained it; None for a file from elsewhere.
        entry: Name of the input that takes images.
        preparation: How images become that.
    """

    spec: str
    path: Path
    predictor: OnnxPredictor
    run: Run | None
    entry: str
    preparation: Preparation

    def rows(self, images: Sequence[Pixels]) -> list[npt.NDArray[Any]]:
        """Images as the network's inputs, of one row each."""
        return [self.preparation(pixels).array[None] for pixels in images]


@dataclass(frozen=True)
class Images:
    """What judges and what calibrates.

    Attributes:
        dataset: At the commit.
        exam: Chooses among models.
        confirm: Images of the test split, which choose nothing; None where there are none, or other images were named.
        calibration: For the quantiser, in the order in which they were chosen.
        calibration_ids: Of them.
    """

    dataset: Dataset
    exam: Exam
    confirm: Exam | None
    calibration: list[Pixels]
    calibration_ids: list[str]


def open_parent(spec: str) -> Parent:
    """Open the model that is to be made smaller.

    Raises:
        UsageError: It is neither a run nor an ONNX file, or takes more than images.
        InputError: It cannot be read.
    """
    if not spec.startswith((_RUN, _ONNX)):
        raise UsageError(
            f"'{spec}' cannot be made smaller here",
            where="--model",
            remedy="name a run, run:NAME, or a file, onnx:PATH",
        )
    predictor = load_predictor(spec)
    if not isinstance(predictor, OnnxPredictor):
        raise UsageError(f"'{spec}' is no network of one file", where="--model", remedy="name a run or an ONNX file")
    name = spec.partition(":")[2].partition("?")[0]
    run = read_run(name) if spec.startswith(_RUN) else None
    path = run_folder(name) / MODEL_FILE if spec.startswith(_RUN) else Path(name).expanduser()
    network = open_network(path, predictor.sidecar)
    if len(network.graph.inputs) > 1 or not network.batched:
        raise UsageError(
            "the model takes more than images, or no axis for several of them", where=path, remedy="export it anew"
        )
    preparation = make_preparation(predictor.sidecar, network.entry.dtype)
    return Parent(spec, path, predictor, run, network.entry.name, preparation)


def choose_images(
    parent: Parent,
    dataset: Dataset,
    *,
    layer: str = GROUND_TRUTH,
    splits: Sequence[str] | None = None,
    where: str | None = None,
    slices: Sequence[str] = (),
    metric: str | None = None,
    limit: int = LIMIT,
    calibration: int,
    seed: int = 0,
) -> Images:
    """Choose the images that judge, and those that calibrate: never the same ones.

    A run is judged by images that it has not learnt from: those that validated it, or, where there were none, the test split.

    Args:
        parent: The model.
        dataset: A commit of it.
        layer: Of the labels.
        splits: That judge; None to choose.
        where: SQL condition on the images that judge.
        slices: Further parts that are looked at.
        metric: What counts.
        limit: At most so many images judge.
        calibration: How many images calibrate.
        seed: Of draws.

    Raises:
        UsageError: There are no labelled images to judge by, or none are left to calibrate with.
        InputError: No image can be read.
    """
    learnt = _division(parent.run)
    ids = confirm = None
    if learnt is not None and splits is None:
        material, division = learnt
        validation = material.take(division.validation)
        tests = [each for each, split in zip(material.examples, material.splits, strict=True) if split == TEST]
        ids, confirm = _ids(validation or tests, limit, seed), _ids(tests, limit, seed) if validation else None
        if not ids:
            raise UsageError(
                "the run has held no image back to be judged by",
                where=parent.spec,
                remedy="name images it has not learnt from, with --splits",
            )

    def exam_of(chosen: Sequence[str] | None) -> Exam:
        return make_exam(
            dataset, parent.predictor, layer=layer, splits=splits, where=where, ids=chosen, slices=slices, metric=metric,
            limit=limit, seed=seed,
        )  # fmt: skip

    exam = exam_of(ids)
    judged = {*exam.image_ids, *(confirm or ())}
    pool = _pool(dataset, learnt, judged, seed)
    shown, shown_ids = _calibration(parent, dataset, pool, calibration, seed)
    return Images(dataset, exam, exam_of(confirm) if confirm else None, shown, shown_ids)


def training_division(run: Run) -> tuple[Material, Division]:
    """What a run learnt from, and what it was validated on.

    Raises:
        UsageError: It is one of several models of a run with folds.
    """
    found = _division(run)
    if found is None:
        raise UsageError(
            "a model of a run with folds cannot be trained on", where=run.name, remedy="train without --folds"
        )
    return found


def _division(run: Run | None) -> tuple[Material, Division] | None:
    if run is None or run.plan.folds is not None:
        return None
    plan = run.plan
    dataset = open_dataset(plan.dataset, commit=plan.commit)
    material = load_material(dataset, run.task, plan.layer, plan.where, empty=plan.empty)
    return material, divide(material, plan.validation, int(run.settings["seed"]))


def _ids(examples: Sequence[Example], limit: int, seed: int) -> list[str]:
    """Ids of at most so many examples, drawn at random; 0 for all."""
    rows = np.arange(len(examples))
    if 0 < limit < len(examples):
        rows = np.sort(np.random.default_rng(seed).permutation(len(examples))[:limit])
    return [examples[row].image_id for row in rows.tolist()]


def _pool(
    dataset: Dataset, learnt: tuple[Material, Division] | None, judged: set[str], seed: int
) -> list[tuple[str, str, list[str]]]:
    """Images that may calibrate, with their paths and the names of what is on them: what was learnt from, or all others."""
    if learnt is not None:
        material, division = learnt
        real = division.train[~material.synthetic[division.train]]
        found = [(each.image_id, each.path, _names(each, material.classes)) for each in material.take(real)]
    else:
        table = dataset.table("images", columns=["image_id", "path"], where="path IS NOT NULL")
        pairs = zip(table["image_id"].to_pylist(), table["path"].to_pylist(), strict=True)
        found = [(image_id, path, []) for image_id, path in pairs]
    found = sorted(each for each in found if each[0] not in judged)
    rows = np.sort(np.random.default_rng(seed).permutation(len(found))[:_POOL])
    return [found[row] for row in rows.tolist()]


def _names(example: Example, classes: Sequence[str]) -> list[str]:
    codes = [example.label] if example.label is not None else [] if example.labels is None else example.labels.tolist()
    return sorted({classes[code] for code in codes if code is not None})


def _calibration(
    parent: Parent, dataset: Dataset, pool: Sequence[tuple[str, str, list[str]]], count: int, seed: int
) -> tuple[list[Pixels], list[str]]:
    """The images of the pool that cover it best, and their ids."""
    readable, described = [], []
    for each in pool:
        try:
            pixels = load_pixels(each[1], shortest_side=parent.predictor.input_size)
        except ImageError:
            continue
        readable.append(each)
        described.append(describe([pixels])[0])
    if not readable:
        raise InputError(
            f"of {counted(len(pool), 'images')} that could calibrate, not one can be read",
            where=dataset.name,
            remedy="leave images that judge out of --splits or --where, or import more",
        )
    looks = np.stack(described)
    chosen = cover(looks, _parts(dataset, readable) | light_parts(looks), count, seed).tolist()
    images = [load_pixels(readable[row][1], shortest_side=parent.predictor.input_size) for row in chosen]
    return images, [readable[row][0] for row in chosen]


def _parts(dataset: Dataset, images: Sequence[tuple[str, str, list[str]]]) -> dict[str, BoolArray]:
    """Which images are in each class, and in each slice that `curate shift` has found."""
    classes = sorted({name for _, _, names in images for name in names})
    found = {f"class {name}": np.array([name in names for _, _, names in images]) for name in classes}
    for name, part in read_slices(dataset).items():
        inside = set(part.image_ids.to_pylist())
        found[f"slice {name}"] = np.array([image_id in inside for image_id, _, _ in images])
    return found
