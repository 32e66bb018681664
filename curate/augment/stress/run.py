"""One stress run: a model on every corruption and severity, measured against the labels; one commit."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curate.augment.scoring.evaluate import evaluate_results, find_metric
from curate.augment.scoring.predicting import Subject, Version, predict_versions
from curate.augment.scoring.truth import Truth, digest_of
from curate.augment.stress.cells import STEPS, Cell, cell, choose, severities, version
from curate.augment.stress.curves import CLEAN, MAX_DROP, Point, Stress, clean_point, from_points, point
from curate.augment.stress.sample import Sample, draw_sample, learnt_task
from curate.augment.stress.store import STRESS, Header, known_points, run_id, store_points
from curate.checks.boxes import BoolArray, FloatArray, IntArray
from curate.checks.evaluation.bootstrap import draw, resample
from curate.checks.evaluation.compare import FEWEST
from curate.dataset import Transaction, begin, open_dataset
from curate.errors import InputError, UsageError
from curate.models.passes import ITEMS, Progress, fingerprints
from curate.models.predictors.base import Options, Predictor, Size
from curate.models.predictors.class_names import match_classes
from curate.models.predictors.registry import load_predictor
from curate.models.predictors.results import RESULTS
from curate.models.spool import Spool, discard
from curate.names import GROUND_TRUTH
from curate.wording import counted

RESAMPLES: Final = 300
"""Of each point: an end of an interval is then off by about a tenth of its width."""

LIMIT: Final = 200
"""Images that are enough to see a curve by."""

STANDARD_SIDE: Final = 256
"""Shorter side, pixels, at which images are corrupted, unless the model sees more: corruptions of ImageNet-C are for 224."""

_CLEAN: Final = Cell(CLEAN, 0.0, "")
_SPOOLED: Final = pa.schema(
    [
        pa.field("id", pa.string(), nullable=False),
        pa.field("fingerprint", pa.string(), nullable=False),
        pa.field("cell", pa.string(), nullable=False),
        *RESULTS,
        pa.field("moved", pa.string()),  # `Truth` as JSON, where the corruption has moved it
    ]
)


@dataclass(frozen=True)
class Asked:
    """What a person asks of a stress run.

    Attributes:
        corruptions: Names of them, or of recipes; none for all corruptions.
        steps: How many severities, the highest 1.
        splits: Of which the images are; None for val and test where there are any.
        where: SQL condition on the images.
        limit: At most so many images; 0 for all.
        layer: Of the labels.
        metric: What is measured; None for the task's main one.
        max_drop: Share of the clean metric that may be lost before a curve breaks.
        told: Classes of the dataset by those of the model.
        options: Thresholds and prompts.
        resamples: Of the intervals.
        seed: Of everything random.
    """

    corruptions: Sequence[str] = ()
    steps: int = STEPS
    splits: Sequence[str] | None = None
    where: str | None = None
    limit: int = LIMIT
    layer: str = GROUND_TRUTH
    metric: str | None = None
    max_drop: float = MAX_DROP
    told: Mapping[str, str] = field(default_factory=dict)
    options: Options = field(default_factory=Options)
    resamples: int = RESAMPLES
    seed: int = 0


def stress(name: str, spec: str, asked: Asked, *, command: str, progress: Progress | None = None) -> Stress:
    """Run a model over graded corruptions. Interrupted, it goes on where it stopped; what was measured is kept.

    Args:
        name: The dataset.
        spec: Of the model.
        asked: What else is wanted.
        command: The command line, for the history.
        progress: Told (predictions made, to make).

    Raises:
        DatasetNotFound: There is no such dataset.
        UsageError: There is no such corruption, metric or image, no class is common, or the model gives depths.
        InputError: The model cannot be read, or not one image.
        UnavailableError: The model's weights cannot be had.
    """
    dataset = open_dataset(name)  # before a model is loaded
    if not 0 < asked.max_drop < 1:
        raise UsageError(
            f"{asked.max_drop:g} is no share that could be lost", where="--max-drop", remedy="between 0 and 1"
        )
    grid = {corruption: _cells(corruption, asked.steps) for corruption in choose(asked.corruptions)}
    predictor = load_predictor(spec, asked.options)
    task = learnt_task(predictor.task, predictor.name)
    metric = find_metric(predictor.task, asked.metric)
    with begin(name, command=command) as transaction:
        dataset = transaction.base
        sample = draw_sample(
            dataset, task, layer=asked.layer, splits=asked.splits, where=asked.where, limit=asked.limit, seed=asked.seed
        )
        subject, notes = _subject(transaction, predictor, sample, asked)
        return _Run(transaction, subject, sample, asked, metric, notes, progress).run(grid)


def _cells(corruption: str, steps: int) -> tuple[Cell, ...]:
    return tuple(cell(corruption, severity) for severity in severities(steps))


def _subject(transaction: Transaction, predictor: Predictor, sample: Sample, asked: Asked) -> tuple[Subject, list[str]]:
    """The model and its images, and what is to be said of the classes."""
    material = sample.material
    known = [info["name"] for info in transaction.base.commit.classes]
    names = [*known, *(name for name in material.classes if name not in known)]
    mapping = match_classes(predictor.classes, names, told=asked.told, model=predictor.name)
    codes = np.array([mapping.names.index(each) for each in material.classes], dtype=np.int64)
    examples = material.take(material.labelled)
    side = None if predictor.input_size is None else max(STANDARD_SIDE, predictor.input_size)
    notes = list(getattr(predictor, "notes", ()))
    left_out = mapping.of_kind("unmatched")
    if left_out:
        notes.append(
            f"{counted(len(left_out), 'classes')} of the model are none of the dataset's: {', '.join(left_out[:5])}"
        )
    return Subject(predictor, mapping, asked.options, examples, codes, asked.seed, side), notes


@dataclass(frozen=True)
class _Measured:
    """One cell: its metric, and the same on resamples; None where there are too few images for any."""

    value: float | None
    draws: FloatArray | None


@dataclass
class _Run:
    """A run under way."""

    transaction: Transaction
    subject: Subject
    sample: Sample
    asked: Asked
    metric: str
    notes: list[str]
    progress: Progress | None

    def __post_init__(self) -> None:
        examples = self.subject.examples
        material = self.sample.material
        self._groups: IntArray = material.groups[np.flatnonzero(material.labelled)]
        ids = pa.array([example.image_id for example in examples], pa.string())
        paths = pa.array([example.path for example in examples], pa.string())
        items = pa.table([ids, paths, pa.nulls(len(ids), ITEMS.field("bbox").type)], schema=ITEMS)
        self._ids, self._prints = ids, pc.fill_null(fingerprints(items), "no file")
        self._run = run_id(self._identity())
        self._unreadable: dict[str, str] = {}
        self._truth: dict[tuple[int, Size | None], Truth] = {}

    def _identity(self) -> list[object]:
        """All that the numbers depend on, but for the corruptions."""
        asked, subject = self.asked, self.subject
        return [
            subject.predictor.name, sorted(subject.mapping.to_json().items()), sorted(asdict(asked.options).items()),
            asked.layer, self.metric, asked.resamples, asked.seed, *self._prints.to_pylist(),
            subject.side, digest_of(subject.examples), self._groups.tolist(),
        ]  # fmt: skip

    def run(self, grid: Mapping[str, Sequence[Cell]]) -> Stress:
        """Predict on what lacks, measure, and keep."""
        known = known_points(self.transaction.base, self._run)
        have = {
            each: known[key]
            for each in (_CLEAN, *(one for cells in grid.values() for one in cells))
            if (key := (each.corruption, each.severity, each.digest)) in known
        }
        lacking = {name: [each for each in cells if each not in have] for name, cells in grid.items()}
        lacking = {name: cells for name, cells in lacking.items() if cells}
        new: dict[Cell, Point] = {}
        if lacking or _CLEAN not in have:
            with self._spools(["", *lacking]) as spools:
                new = self._measure(spools, lacking)
        points = have | new
        images = len(self.subject.examples) - len(self._unreadable)
        header = Header(
            self._run, self.transaction.base.commit.number, self.subject.predictor.name, self.subject.predictor.task,
            self.metric, self.asked.layer, images, self.sample.chosen,
        )  # fmt: skip
        store_points(self.transaction, header, new)
        return self._result(
            header, {name: [points[each] for each in cells] for name, cells in grid.items()}, points[_CLEAN]
        )

    def _result(self, header: Header, points: Mapping[str, Sequence[Point]], clean: Point) -> Stress:
        notes = [*self.sample.notes, *self.notes]
        if self._unreadable:
            path, reason = next(iter(self._unreadable.items()))
            notes.append(f"{counted(len(self._unreadable), 'images')} cannot be read; the first: {path}: {reason}")
        units = len(np.unique(self._groups))
        if units < FEWEST:
            notes.append(f"of {counted(units, 'independent images')} nothing is sure: no intervals")
        curves = from_points(points, clean, self.asked.max_drop)
        return Stress(
            self.transaction.base.name, header.commit, header.model, header.task, header.metric, header.layer,
            header.images, header.chosen, clean, curves, self.asked.max_drop, tuple(notes),
        )  # fmt: skip

    def _measure(self, spools: Mapping[str, Spool], lacking: Mapping[str, Sequence[Cell]]) -> dict[Cell, Point]:
        """The points that lack."""
        versions = {
            "": [Version(_CLEAN.name)],
            **{name: [version(each) for each in cells] for name, cells in lacking.items()},
        }
        todo = {name: self._todo(spools[name], versions[name]) for name in versions}
        total, done = int(sum(each.sum() for each in todo.values())), 0
        for name, wanted in todo.items():
            tell = None if self.progress is None else partial(_told, self.progress, done, total)
            keep = partial(self._keep, spools[name])
            self._unreadable |= predict_versions(self.subject, versions[name], wanted, keep, tell)
            spools[name].close()
            done += int(wanted.sum())
        self._require_readable()
        clean = self._point_of(spools[""], _CLEAN)
        points = {_CLEAN: clean_point(clean.value, clean.draws)}
        for name, cells in lacking.items():
            for each in cells:
                found = self._point_of(spools[name], each)
                points[each] = point(each.severity, found.value, found.draws, points[_CLEAN], clean.draws)
        return points

    def _todo(self, spool: Spool, versions: Sequence[Version]) -> BoolArray:
        """Which versions of which images are not spooled as the files are now; bool of shape (n, versions)."""
        spooled = spool.read(["id", "fingerprint", "cell"])
        done = set(zip(*(spooled[name].to_pylist() for name in ("id", "fingerprint", "cell")), strict=True))
        keys = list(zip(self._ids.to_pylist(), self._prints.to_pylist(), strict=True))
        wanted = [[(*key, each.name) not in done for each in versions] for key in keys]
        return np.array(wanted, dtype=np.bool_).reshape(len(keys), len(versions))

    def _keep(
        self, spool: Spool, rows: IntArray, names: Sequence[str], results: pa.RecordBatch, moved: Sequence[str | None]
    ) -> None:
        chosen = pa.array(rows)
        columns = [self._ids.take(chosen), self._prints.take(chosen), pa.array(names, pa.string()), *results.columns]
        spool.add([*columns, pa.array(moved, pa.string())])

    def _point_of(self, spool: Spool, of: Cell) -> _Measured:
        """Measure one cell."""
        pieces = [piece.filter(pc.equal(piece["cell"], of.name)) for piece in spool.pieces()]
        table = pa.concat_tables(pieces).replace_schema_metadata(None)
        place = pc.index_in(self._ids, value_set=table["id"].combine_chunks())
        rows = np.flatnonzero(place.is_valid().to_numpy(zero_copy_only=False))
        table = table.take(place.drop_null())
        truth = [
            self._truth_of(row, size) if moved is None else Truth.from_text(moved)
            for row, size, moved in zip(
                rows.tolist(), table["size"].to_pylist(), table["moved"].to_pylist(), strict=True
            )
        ]
        names = self.subject.mapping.names
        evaluation = evaluate_results(self.subject.predictor.task, truth, table, names)
        value = evaluation.metrics[self.metric]
        groups = self._groups[rows]
        if len(np.unique(groups)) < FEWEST:
            return _Measured(value, None)
        draws = draw(groups, self.asked.resamples, self.asked.seed)
        return _Measured(value, resample([evaluation.resample], draws)[0]["all", self.metric])

    def _truth_of(self, row: int, size: Sequence[int] | None) -> Truth:
        """What is on an image that no corruption has moved; of all severities the same."""
        key = (row, None if size is None else (size[0], size[1]))
        if key not in self._truth:
            self._truth[key] = self.subject.truth(*key)
        return self._truth[key]

    def _require_readable(self) -> None:
        if len(self._unreadable) >= len({example.path for example in self.subject.examples}):
            path, reason = next(iter(self._unreadable.items()))
            raise InputError(f"not one image can be read; the first: {reason}", where=path)

    @contextmanager
    def _spools(self, names: Sequence[str]) -> Iterator[dict[str, Spool]]:
        """A spool for each corruption; they go with the commit, and stay where there is none."""
        folder = self.transaction.base.path / "spool" / f"{STRESS}_{self._run}"
        spools = {name: Spool(folder / (name or CLEAN), _SPOOLED, self._run) for name in names}
        try:
            yield spools
        finally:
            for spool in spools.values():
                spool.close()
        parts = [path for spool in spools.values() for path in spool.parts()]

        def clear() -> None:
            discard(parts)
            if folder.is_dir() and not any(folder.iterdir()):
                folder.rmdir()

        self.transaction.after_commit(clear)


def _told(progress: Progress, before: int, total: int, done: int, _: int) -> None:
    progress(before + done, total)
