"""From a model to a package: written beside where it will be, compared with its original, and only then given its name."""

from __future__ import annotations

import errno
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa

import curate
from curate import runner as runner_module
from curate.checks.findings import Finding
from curate.checks.store import replace_findings
from curate.dataset import Dataset, begin, open_dataset
from curate.dataset.query import quote
from curate.dataset.synthetic import real_only
from curate.edge.package.card import CARD, digest, manifest_text, model_card, requirements, write_sums
from curate.edge.package.parity import CHECK, Parity, changed_findings, compare
from curate.edge.package.reference import FEWEST as FEWEST_REFERENCE
from curate.edge.package.reference import FloatArray, make_reference, measure, write_reference
from curate.edge.package.source import OUTPUT_KEYS, Source, open_source, postprocessing, preprocessing
from curate.edge.package.targets.base import Request, Written
from curate.edge.package.targets.registry import TARGETS
from curate.edge.scoring import FEWEST, LIMIT, Exam, make_exam
from curate.errors import InputError, UsageError
from curate.models.passes import Progress
from curate.names import GROUND_TRUTH
from curate.runner import FORMAT, MANIFEST, Package, PackageError, Runner

REFERENCE: Final = "reference.npz"
RUNNER: Final = "runner.py"
LABELS: Final = "labels.txt"
REQUIREMENTS: Final = "requirements.txt"

_VERSION: Final = re.compile(r"(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)(-[0-9A-Za-z.-]+)?(\+[0-9A-Za-z.-]+)?")
_NAME: Final = re.compile(r"\w[\w.\-]{0,99}")
_REFERENCE_IMAGES: Final = 400
_TRAIN: Final = "train"
_MOST_FINDINGS: Final = 20
_LITTLE: Final = 64 << 20  # bytes free on a disk that is as good as full


@dataclass(frozen=True)
class Asked:
    """What a person asks of a package.

    Attributes:
        model: 'run:NAME' or 'onnx:PATH'.
        target: What runs it: a name of `TARGETS`.
        output: The package's folder, not there yet; None for one named after it in the current folder.
        name: Of the package; None for the run's, or the file's.
        version: Of the package, semantic.
        dataset: Whose images it is measured on; None for the run's own.
        against: Spec of the original; None for the run that the model was compressed from, or the model itself.
        layer: Of the labels.
        where: SQL condition on the images.
        splits: Of the images; None for val and test where there are any.
        slices: Further parts, as `curate evaluate --slices` takes them.
        metric: What counts; None for the task's main number.
        told: Classes of the dataset by those of the model.
        limit: At most so many images; 0 for all.
        max_drop: How much of the metric may be lost on all images.
        max_slice_drop: How much on any slice; None for twice `max_drop`.
        ask: Scores between which a person is asked; None for no such band.
        intended_use: For the model card.
        python: For targets that need a Python of their own.
        seed: Of what is drawn.
    """

    model: str
    target: str = "onnx"
    output: Path | None = None
    name: str | None = None
    version: str = "1.0.0"
    dataset: str | None = None
    against: str | None = None
    layer: str = GROUND_TRUTH
    where: str | None = None
    splits: Sequence[str] | None = None
    slices: Sequence[str] = ()
    metric: str | None = None
    told: Mapping[str, str] = field(default_factory=dict)
    limit: int = LIMIT
    max_drop: float = 0.01
    max_slice_drop: float | None = None
    ask: tuple[float, float] | None = None
    intended_use: str = ""
    python: str | None = None
    seed: int = 0


@dataclass(frozen=True)
class Made:
    """A package, or why there is none.

    Attributes:
        folder: Where it is; None where it was refused.
        id: Its name and version.
        target: What runs it.
        bytes: Of the model's files in it, and of the original's ONNX file.
        parity: What it was measured to be.
        findings: On the images whose answer changed most.
        notes: For people.
    """

    folder: Path | None
    id: str
    target: str
    bytes: tuple[int, int]
    parity: Parity
    findings: Sequence[Finding]
    notes: Sequence[str]

    def to_json(self) -> dict[str, Any]:
        """JSON-ready, on one line."""
        return {
            "kind": "package",
            "package": self.id,
            "target": self.target,
            "folder": None if self.folder is None else str(self.folder),
            "refused": self.parity.refusals,
            "bytes": self.bytes[0],
            "bytes_original": self.bytes[1],
            "parity": self.parity.to_json(),
            "notes": list(self.notes),
        }


def make_package(asked: Asked, *, command: str, progress: Callable[[str], Progress] | None = None) -> Made:
    """Package a model, unless it lost too much on the way.

    Nothing is written but the package, in one step, and findings on the images whose answer changed most (one commit): where it
    is refused, neither.

    Args:
        asked: What is wanted.
        command: The command line, for the dataset's history.
        progress: Given what is going on, something to tell (done, to do).

    Raises:
        UsageError: A value is wrong, the folder exists, or there is nothing to measure on.
        InputError: The model cannot be read, converted, or run.
        UnavailableError: The target needs what is not installed.
    """
    write = _checked(asked)
    source = open_source(asked.model)
    dataset = open_dataset(_dataset_name(asked, source))
    original = source if (spec := asked.against or source.parent) is None else open_source(spec)
    exam = make_exam(
        dataset, original.predictor, layer=asked.layer, splits=asked.splits, where=asked.where, slices=asked.slices,
        metric=asked.metric, told=asked.told, limit=asked.limit, seed=asked.seed,
    )  # fmt: skip
    name = asked.name or source.name
    output = (asked.output or Path(f"{name}-{asked.version}-{asked.target}")).absolute()
    _require_free(output)
    tell = progress or (lambda _: lambda done, total: None)
    images = _training_images(dataset, source, exam, asked.seed)
    with _staged(output) as folder:
        tell(f"convert for {asked.target}")(0, 1)
        written = write(Request(source, folder, asked.python, images))
        manifest = _manifest(asked, source, name, written)
        _write_texts(folder, asked, manifest)
        runner = _open(folder, manifest, written)
        limits = (asked.max_drop, 2 * asked.max_drop if asked.max_slice_drop is None else asked.max_slice_drop)
        parity = compare(exam, runner, limits, tell("parity"))
        notes = [*getattr(source.predictor, "notes", ()), *exam.notes, *written.notes]
        sizes = _bytes(folder, written), original.path.stat().st_size
        if parity.refusals:
            return Made(None, f"{name}-{asked.version}", asked.target, sizes, parity, (), notes)
        manifest["reference"] = _write_reference(
            folder, measure(runner, images, tell("reference")), parity, asked.seed, notes
        )
        manifest["metrics"] = _metrics(parity, dataset, notes)
        if manifest["task"] == "detect":
            manifest["postprocess"]["class_thresholds"] = _thresholds(parity, manifest["classes"])
        _finish(folder, manifest, asked)
        Package.open(folder)
        findings = _place_and_store(folder, output, dataset, parity, exam, command)
    return Made(output, f"{name}-{asked.version}", asked.target, sizes, parity, findings, notes)


def _checked(asked: Asked) -> Callable[[Request], Written]:
    """What writes the target's model; raises a `UsageError` for a value that cannot be."""
    if not _VERSION.fullmatch(asked.version):
        raise UsageError(f"'{asked.version}' is no version", where="--version", remedy="as in 1.2.0 or 1.2.0-rc.1")
    if asked.name is not None and not _NAME.fullmatch(asked.name):
        raise UsageError(
            f"'{asked.name}' cannot be a package's name", where="--name", remedy="letters, digits, '_', '-' and '.'"
        )
    for option, value in (("--max-drop", asked.max_drop), ("--max-slice-drop", asked.max_slice_drop)):
        if value is not None and not 0 <= value <= 1:
            raise UsageError(f"{value:g} is no part of a metric", where=option, remedy="a number from 0 to 1")
    if asked.ask is not None and not 0 <= asked.ask[0] < asked.ask[1] <= 1:
        raise UsageError("a band goes from a lower score to a higher", where="--ask", remedy="as in 0.3:0.7")
    return TARGETS.get(asked.target)


def _dataset_name(asked: Asked, source: Source) -> str:
    if asked.dataset is not None:
        return asked.dataset
    if source.run is not None and source.run.plan.dataset:
        return source.run.plan.dataset
    raise UsageError(
        "a package is compared with its model on labelled images, and no dataset is named",
        where=asked.model,
        remedy="name one: --dataset NAME",
    )


def _require_free(output: Path) -> None:
    if output.exists() or output.is_symlink():
        raise UsageError(
            "there is something of that name already", where=output, remedy="another --output, or remove it first"
        )
    if not output.parent.is_dir():
        raise UsageError("the folder to put it in is not there", where=output.parent, remedy="make it first")


@contextmanager
def _staged(output: Path) -> Iterator[Path]:
    """A hidden folder beside the package's place, which goes where the package does not take it."""
    try:
        folder = Path(tempfile.mkdtemp(prefix=f".{output.name}.", dir=output.parent))
    except OSError as error:
        raise UsageError(f"nothing can be written there: {error.strerror}", where=output.parent) from error
    try:
        yield folder
    except OSError as error:
        if _is_full(error, folder):
            what = f"the package cannot be written: {error.strerror}"
            raise InputError(what, where=output.parent, remedy="make room there, or name another --output") from error
        raise
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _is_full(error: OSError, folder: Path) -> bool:
    """Whether it was the disk of a folder that had no room: a copy's error names its source first, and others name nothing."""
    if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return False
    names = [Path(os.fsdecode(name)) for name in (error.filename, error.filename2) if isinstance(name, str | bytes)]
    if names:
        return any(name.is_relative_to(folder) for name in names)
    return shutil.disk_usage(folder).free < _LITTLE


def _place(folder: Path, output: Path) -> None:
    """Give a finished folder its name: from here on the package is there, all of it on the disk."""
    folder.chmod(0o755)
    for path in [*folder.rglob("*"), folder]:
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
    try:
        folder.rename(output)
    except OSError as error:
        raise UsageError(
            f"the package cannot be put there: {error.strerror}", where=output, remedy="another --output"
        ) from error


def _training_images(dataset: Dataset, source: Source, exam: Exam, seed: int) -> list[str]:
    """Paths of real images that the model may have learnt from, at most some hundreds, drawn at random."""
    where = real_only(dataset, f"split = {quote(_TRAIN)}")
    table = dataset.table("images", columns=["image_id", "path"], where=where)
    if not table.num_rows:
        table = dataset.table("images", columns=["image_id", "path"], where=real_only(dataset, None))
        examined = set(exam.image_ids)
        rest = [each not in examined for each in table["image_id"].to_pylist()]
        table = table.filter(pa.array(rest)) if sum(rest) >= FEWEST_REFERENCE else table
    paths = sorted(path for path in table["path"].to_pylist() if path)
    order = np.random.default_rng(seed).permutation(len(paths))[:_REFERENCE_IMAGES]
    return [paths[row] for row in order.tolist()]


def _manifest(asked: Asked, source: Source, name: str, written: Written) -> dict[str, Any]:
    """A manifest without what is measured."""
    post = postprocessing(source)
    post |= {key: written.names.get(post[key], post[key]) for key in OUTPUT_KEYS if key in post}
    post["outputs"] = [written.names.get(each, each) for each in post["outputs"]]
    run = source.run
    return {
        "format": FORMAT,
        "name": name,
        "version": asked.version,
        "target": asked.target,
        "task": source.predictor.task,
        "classes": list(source.predictor.classes),
        "created": datetime.now(UTC).replace(microsecond=0).isoformat(),
        "made_by": f"curate {curate.__version__}",
        "model": {
            "file": written.file,
            "spec": source.predictor.name,
            "architecture": None if run is None else run.model,
            "run": None if run is None else run.name,
            "parent": None if run is None else source.parent,
            "dataset": None if run is None else run.plan.dataset,
            "commit": None if run is None else run.plan.commit,
            "sha256": source.sha256,
        },
        "preprocess": {**preprocessing(source), **written.preprocess},
        "postprocess": {**post, "class_thresholds": None, "ask": None if asked.ask is None else list(asked.ask)},
        "reference": None,
        "files": dict.fromkeys([*written.files, RUNNER, LABELS, REQUIREMENTS], ""),
    }


def _write_texts(folder: Path, asked: Asked, manifest: Mapping[str, Any]) -> None:
    shutil.copyfile(runner_module.__file__, folder / RUNNER)
    (folder / LABELS).write_text("".join(f"{name}\n" for name in manifest["classes"]), encoding="utf-8")
    (folder / REQUIREMENTS).write_text(requirements(asked.target), encoding="utf-8")


def _open(folder: Path, manifest: dict[str, Any], written: Written) -> Runner:
    """The runner of a package that is being made; its errors as curate's."""
    _seal(folder, manifest)
    try:
        return Runner(folder, backend=written.backend)
    except PackageError as error:
        raise InputError(f"the packaged model does not run: {error}") from error


def _seal(folder: Path, manifest: dict[str, Any]) -> None:
    """Write the manifest with the checksums of all files that it names."""
    manifest["files"] = {name: digest(folder / name) for name in manifest["files"]}
    (folder / MANIFEST).write_text(manifest_text(manifest), encoding="utf-8")


def _write_reference(folder: Path, values: FloatArray, parity: Parity, seed: int, notes: list[str]) -> str | None:
    """Sum up features of training images, and how unsure the package was in parity; None where there are too few."""
    if len(values) < FEWEST_REFERENCE:
        notes.append(
            f"{len(values)} training images are too few to measure drift by ({FEWEST_REFERENCE} are needed): no reference"
        )
        return None
    write_reference(folder / REFERENCE, make_reference(values, seed, parity.uncertainties))
    return REFERENCE


def _metrics(parity: Parity, dataset: Dataset, notes: Sequence[str]) -> dict[str, Any]:
    return {
        **parity.to_json(),
        "dataset": dataset.name,
        "commit": dataset.commit.number,
        "fewest": FEWEST,
        "notes": list(notes),
    }


def _thresholds(parity: Parity, classes: Sequence[str]) -> dict[str, float]:
    """From which score on objects count: the one with the best F1 of all images, for every class."""
    best = parity.after.evaluation.tables["Thresholds"][0]["threshold"]
    return dict.fromkeys(classes, round(float(best), 4))


def _finish(folder: Path, manifest: dict[str, Any], asked: Asked) -> None:
    """Write what tells of the package as a whole."""
    (folder / CARD).write_text(model_card(manifest, asked.intended_use), encoding="utf-8")
    manifest["files"] |= dict.fromkeys([CARD, *([REFERENCE] if manifest["reference"] else [])], "")
    _seal(folder, manifest)
    write_sums(folder, manifest["files"])


def _bytes(folder: Path, written: Written) -> int:
    stem = Path(written.file).stem
    return sum((folder / name).stat().st_size for name in written.files if Path(name).stem == stem)


def _place_and_store(
    folder: Path, output: Path, dataset: Dataset, parity: Parity, exam: Exam, command: str
) -> list[Finding]:
    """Put the package in its place, and keep the images whose answer changed most: both, or neither where one fails."""
    images = dataset.table("images", columns=["image_id", "location"])
    locations = dict(zip(images["image_id"].to_pylist(), images["location"].to_pylist(), strict=True))
    found = changed_findings(parity, exam, locations, _MOST_FINDINGS)
    looked_at = set(exam.image_ids)
    with begin(dataset.name, command=command) as transaction:
        stored = replace_findings(transaction, CHECK, found, judged=lambda finding: finding.image_id in looked_at)
        _place(folder, output)
    return stored
