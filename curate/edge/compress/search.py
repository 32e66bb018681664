"""The search: quantise first, since it costs minutes; learn again only where that does not hold the budget.

1. INT8 of everything, by several schemes. Where one loses too much, its most sensitive layers go back to float, 1, 2, 4, 8 of
   them, until it does not.
2. Where accuracy is still lost: learning with the rounding (`qat`). Where it is too large or slow: fewer channels (`prune`).
   Where a larger model is named: learning from its answers (`distil`). Whatever these give is quantised in turn.
"""

from __future__ import annotations

import importlib.util
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final, Literal

from curate.augment.scoring.evaluate import find_metric
from curate.dataset import open_dataset
from curate.edge.compress.calibration import COUNT
from curate.edge.compress.frontier import (
    ORIGINAL,
    Budget,
    Candidate,
    Prefer,
    best,
    frontier,
    nearest,
)
from curate.edge.compress.graph import layers, ready
from curate.edge.compress.images import Images, Parent, choose_images, open_parent
from curate.edge.compress.latency import latencies
from curate.edge.compress.quantise import Calibrated, Ranges, Scheme, calibrate, quantise, schemes
from curate.edge.compress.sensitivity import sensitivities
from curate.edge.compress.store import store_run
from curate.edge.scoring import LIMIT, Drops, Exam, Scores, drops, score_model
from curate.errors import MissingExtra, UsageError
from curate.models.predictors import onnx as onnx_predictor
from curate.models.predictors.base import Options
from curate.models.predictors.sidecar import write_sidecar
from curate.models.runtime import Runtime
from curate.models.training.defaults import require_packages
from curate.models.training.runs import Run, free_name, require_free
from curate.names import GROUND_TRUTH
from curate.wording import counted

Method = Literal["quantise", "nncf", "qat", "prune", "distil"]

METHODS: Final[tuple[Method, ...]] = ("quantise", "nncf", "qat", "prune", "distil")
SHARES: Final = (0.3, 0.5)
"""Of the channels, that pruning takes away."""

_SENSITIVITY_IMAGES: Final = 12
_MOST_FLOAT: Final = 0.5
"""Of the layers, that go back to float before a scheme is given up."""


@dataclass(frozen=True)
class Asked:
    """What a person asks for.

    Attributes:
        model: Spec of the model.
        dataset: That judges; None for the one that a run was trained on.
        name: Of the new run; None for one that is free.
        budget: What it may cost.
        prefer: What the best has most of.
        methods: That are tried; None for quantising, and whatever else the budget needs.
        teacher: Spec of a larger model to learn from.
        runtime: What latency is measured with.
        shares: Of channels, that are pruned.
        minutes: Of each training; None, without `steps`, for a tenth of what the run itself took, a minute at least.
        steps: Of each training, in place of `minutes`: the same work on every machine.
        layer: Of the labels.
        splits: That judge; None to choose.
        where: SQL condition on the images that judge.
        slices: Further parts that are looked at.
        metric: What counts.
        limit: At most so many images judge.
        calibration: So many images calibrate.
        seed: Of everything random.
    """

    model: str
    dataset: str | None = None
    name: str | None = None
    budget: Budget = field(default_factory=Budget)
    prefer: Prefer = "speed"
    methods: tuple[Method, ...] | None = None
    teacher: str | None = None
    runtime: Runtime = "onnxruntime"
    shares: tuple[float, ...] = SHARES
    minutes: float | None = None
    steps: int | None = None
    layer: str = GROUND_TRUTH
    splits: tuple[str, ...] | None = None
    where: str | None = None
    slices: tuple[str, ...] = ()
    metric: str | None = None
    limit: int = LIMIT
    calibration: int = COUNT
    seed: int = 0


@dataclass(frozen=True)
class Confirmation:
    """What the chosen model has lost on images that had no part in choosing it.

    Attributes:
        images: Which they are.
        before: The original.
        after: The chosen model.
        drops: What it lost.
    """

    images: str
    before: Scores
    after: Scores
    drops: Drops

    def to_json(self) -> dict[str, Any]:
        """JSON-ready."""
        worst = self.drops.worst_slice()
        return {
            "images": self.images,
            "before": self.before.overall,
            "after": self.after.overall,
            "drop": self.drops.overall,
            "worst_slice": None if worst is None else {"name": worst[0], "drop": worst[1]},
        }


@dataclass(frozen=True)
class Compressed:
    """What a search came to.

    Attributes:
        parent: Spec of the model that was made smaller.
        candidates: All that were measured, the original first.
        chosen: The best that holds the budget; None where none does, or none is better than the original.
        nearest: The one that breaks the budget least, where none holds it.
        run: The new run.
        budget: What was asked.
        confirmed: The chosen one on images that chose nothing; None where there are none.
        images: Which images judged.
        runtime: What latency was measured with.
        notes: What a person should know.
    """

    parent: str
    candidates: Sequence[Candidate]
    chosen: Candidate | None
    nearest: Candidate | None
    run: Run | None
    budget: Budget
    confirmed: Confirmation | None
    images: str
    runtime: Runtime
    notes: Sequence[str] = ()

    @property
    def frontier(self) -> list[Candidate]:
        """The candidates worth having."""
        return frontier(self.candidates)

    def to_json(self) -> dict[str, Any]:
        """JSON-ready."""
        on = {each.name for each in self.frontier}
        return {
            "parent": self.parent,
            "images": self.images,
            "runtime": self.runtime,
            "budget": {
                "max_drop": self.budget.max_drop,
                "max_slice_drop": self.budget.max_slice_drop,
                "max_latency_ms": None if self.budget.max_seconds is None else 1000 * self.budget.max_seconds,
                "max_size": self.budget.max_size,
            },
            "chosen": None if self.chosen is None else self.chosen.name,
            "run": None if self.run is None else self.run.name,
            "candidates": [
                {**each.to_json(), "frontier": each.name in on, "refused": self.budget.refusals(each)}
                for each in self.candidates
            ],
            "confirmed": None if self.confirmed is None else self.confirmed.to_json(),
            "notes": list(self.notes),
        }


Say = Callable[[str], None]
Report = Callable[[int, int, str], None]


def compress(asked: Asked, *, command: str, say: Say, report: Report) -> Compressed:
    """Search for the best smaller model that holds a budget, and keep it as a run; without one, nothing is written.

    Args:
        asked: What is wanted.
        command: The command line, for the record.
        say: Told what a person should read.
        report: Told (done, to do, what is going on).

    Raises:
        UsageError: The request makes no sense for this model or dataset, or the name is taken.
        InputError: The model or the images cannot be read, or the model cannot be quantised.
        MissingExtra: What a method needs is not installed.
    """
    started = time.monotonic()
    if asked.name is not None:
        require_free(asked.name)
    parent = open_parent(asked.model)
    _require_possible(asked, parent)
    dataset = asked.dataset or (None if parent.run is None else parent.run.plan.dataset)
    if dataset is None:
        raise UsageError("labelled images are needed to judge by", where="--dataset", remedy="name a dataset")
    images = choose_images(
        parent, open_dataset(dataset), layer=asked.layer, splits=asked.splits, where=asked.where, slices=asked.slices,
        metric=asked.metric, limit=asked.limit, calibration=asked.calibration, seed=asked.seed,
    )  # fmt: skip
    say(f"judged by {images.exam.chosen}; calibrated with {counted(len(images.calibration), 'images')}")
    with TemporaryDirectory(prefix="curate-compress-") as folder:
        search = _Search(asked, parent, images, Path(folder), say, report)
        search.run()
        return _conclude(search, command, started)


def _require_possible(asked: Asked, parent: Parent) -> None:
    """Refuse what cannot be, before anything is computed."""
    find_metric(parent.predictor.task, asked.metric)
    methods = asked.methods or ()
    if "distil" in methods and asked.teacher is None:
        raise UsageError(
            "whose answers are to be learnt?", where="--methods distil", remedy="name a larger model: --teacher"
        )
    if any(not 0 < share < 1 for share in asked.shares):
        raise UsageError("a share of channels is between 0 and 1", where="--prune")
    learning = sorted({"qat", "prune", "distil"} & {*methods, *(["distil"] if asked.teacher else [])})
    if learning:
        require_packages()
        from curate.edge.compress.rebuild import require_trainable

        for method in learning:
            require_trainable(parent, method)
    if "nncf" in methods and importlib.util.find_spec("nncf") is None:
        raise MissingExtra("nncf", "compress")


def _conclude(search: _Search, command: str, started: float) -> Compressed:
    """Choose, confirm, and keep."""
    asked, candidates = search.asked, search.candidates
    found = best(candidates, asked.budget, asked.prefer)
    notes = [*search.images.exam.notes]
    chosen = None if found is None or found.method == ORIGINAL else found
    if found is not None and chosen is None:
        notes.append("nothing that holds the budget is better than the original, which holds it")
    confirmed = None if chosen is None else search.confirm(chosen)
    result = Compressed(
        parent=asked.model, candidates=candidates, chosen=chosen,
        nearest=nearest(candidates, asked.budget) if found is None else None, run=None, budget=asked.budget,
        confirmed=confirmed, images=search.images.exam.chosen, runtime=asked.runtime, notes=notes,
    )  # fmt: skip
    if chosen is None:
        return result
    name = asked.name or free_name(f"{_stem(asked.model)}-small")
    compression = {**chosen.to_json(), "calibration": search.images.calibration_ids, "search": result.to_json()}
    run = store_run(
        name, chosen, search.parent, search.images, compression, command=command, seconds=time.monotonic() - started
    )
    return replace(result, run=run)


def _stem(spec: str) -> str:
    """What a new run's name begins with."""
    name = spec.partition(":")[2].partition("?")[0]
    return Path(name).stem if spec.startswith("onnx:") else name.replace("/", "-")


@dataclass
class _Search:
    """A search under way; `candidates` grows."""

    asked: Asked
    parent: Parent
    images: Images
    folder: Path
    say: Say
    report: Report
    candidates: list[Candidate] = field(default_factory=list)

    def run(self) -> None:
        """Measure the original, and try the methods in their order."""
        asked, methods = self.asked, self.asked.methods
        self._add(ORIGINAL, ORIGINAL, self.parent.path, {})
        if methods is None or "quantise" in methods:
            self._quantise(self.parent.path, "")
        if "nncf" in (methods or ()):
            self._nncf(self.parent.path, "")
        self._measure()
        if methods is None and asked.teacher is None and not self._can_learn():
            return
        if asked.teacher is not None:
            self._learn("distil", "distilled", {"teacher": asked.teacher})
        if "qat" in (methods or ()) or (methods is None and self._loses_too_much()):
            self._learn("qat", "qat", {})
        prunes = "prune" in (methods or ()) or (methods is None and self._too_heavy() and self._can_prune())
        for share in asked.shares if prunes else ():
            if methods is not None or self._too_heavy():
                self._learn("prune", f"pruned {share:.0%}", {"share": share})

    def confirm(self, chosen: Candidate) -> Confirmation | None:
        """The chosen model on images that chose nothing."""
        exam = self.images.confirm
        if exam is None:
            return None
        before = score_model(exam, self.parent.predictor, self._telling("confirming the original"), prepared=True)
        after = self._score(exam, chosen.path, chosen.name)
        return Confirmation(exam.chosen, before, after, drops(before, after))

    def _can_learn(self) -> bool:
        """Whether learning again could help, and is possible: said where it is not."""
        if best(self.candidates[1:], self.asked.budget) is not None:
            return False
        if self.parent.run is None or importlib.util.find_spec("torch") is None:
            self.say("quantising does not hold the budget; only runs learn on, where torch is installed")
            return False
        from curate.edge.compress.rebuild import why_not_trainable

        reason = why_not_trainable(self.parent)
        if reason is not None:
            self.say(f"quantising does not hold the budget, and {reason}")
        return reason is None

    def _can_prune(self) -> bool:
        from curate.edge.compress.rebuild import why_not_prunable, why_not_trainable

        reason = why_not_trainable(self.parent) or why_not_prunable(self.parent)
        if reason is not None:
            self.say(f"no channels are taken out: {reason}")
        return reason is None

    def _loses_too_much(self) -> bool:
        small = [each for each in self.candidates[1:] if not self.asked.budget.too_heavy(each)]
        return bool(small) and all(self.asked.budget.lost_too_much(each) for each in small)

    def _too_heavy(self) -> bool:
        return best(self.candidates[1:], self.asked.budget) is None

    def _quantise(
        self, path: Path, before: str, details: Mapping[str, Any] | None = None, *, worth_it: bool = True
    ) -> None:
        """INT8 of a float model, by each scheme; where one loses too much, with layers in float if that is worth it."""
        model = ready(path)
        rows = self.parent.rows(self.images.calibration)
        self.report(0, 1, f"{before or 'original'}: calibrating")
        calibrated = calibrate(model, self.parent.entry, rows)
        for scheme in self._schemes(model):
            tried: list[Candidate] = []
            for ranges in calibrated.ranges:
                tried.append(self._quantised(calibrated, scheme, ranges, before, details or {}, ()))
                if not self.asked.budget.lost_too_much(tried[-1]):
                    break
            else:
                kept = min(tried, key=lambda each: each.drops.overall).details["ranges"]
                if not worth_it:  # the float model has lost too much already
                    continue
                self._exclude(calibrated, scheme, kept, rows[:_SENSITIVITY_IMAGES], before, details or {})

    def _exclude(
        self,
        calibrated: Calibrated,
        scheme: Scheme,
        ranges: Ranges,
        rows: Sequence[Any],
        before: str,
        details: Mapping[str, Any],
    ) -> None:
        """Leave the most sensitive layers in float, twice as many each time, until little enough is lost."""
        costs = sensitivities(calibrated, rows, scheme, ranges, self._telling("sensitivity of layers"))
        most = int(len(costs) * _MOST_FLOAT)
        count = 1
        while count <= most:
            left_out = tuple(costs)[:count]
            made = self._quantised(calibrated, scheme, ranges, before, details, left_out)
            if not self.asked.budget.lost_too_much(made):
                return
            count *= 2

    def _quantised(
        self,
        calibrated: Calibrated,
        scheme: Scheme,
        ranges: Ranges,
        before: str,
        details: Mapping[str, Any],
        left_out: Sequence[str],
    ) -> Candidate:
        import onnx

        kept = f", {counted(len(left_out), 'layers')} float" if left_out else ""
        name = f"{before + ' ' if before else ''}int8 {scheme}, {ranges}{kept}"
        path = self._path()
        onnx.save(quantise(calibrated, scheme, ranges, excluded=left_out), str(path))
        done = {
            **details, "scheme": scheme, "ranges": ranges, "float_layers": list(left_out),
            "layers": len(layers(calibrated.model)),
        }  # fmt: skip
        method = "quantised" if not before else f"{before.split()[0]}+quantised"
        return self._add(name, method, path, done)

    def _nncf(self, path: Path, before: str) -> None:
        """INT8 by NNCF."""
        from curate.edge.compress.nncf import quantise_by_nncf

        target = self._path()
        self.report(0, 1, "nncf")
        quantise_by_nncf(ready(path), self.parent.entry, self.parent.rows(self.images.calibration), target)
        self._add(f"{before + ' ' if before else ''}int8 nncf", "nncf", target, {})

    def _learn(self, method: Literal["qat", "prune", "distil"], name: str, details: Mapping[str, Any]) -> None:
        """A model that learnt again, and INT8 of it."""
        from curate.edge.compress.learn import learn_again

        self.say(f"{name}: learning again")
        folder = self.folder / f"{len(self.candidates)}-{method}"
        teacher = str(details.get("teacher", self.asked.model))
        share = float(details.get("share", 0.0))
        learnt = learn_again(
            self.parent, method, folder, teacher=teacher, share=share, minutes=self._minutes(), steps=self.asked.steps,
            seed=self.asked.seed, calibration=self.parent.rows(self.images.calibration), say=self.say, report=self.report,
        )  # fmt: skip
        done = {**details, **learnt.details}
        worth_it = True
        if method != "qat":  # which is of no use before it is quantised
            made = self._add(name, name.split()[0], learnt.path, done)
            worth_it = not self.asked.budget.lost_too_much(made)
        self._quantise(learnt.path, name, done, worth_it=worth_it)
        self._measure()

    def _schemes(self, model: Any) -> tuple[Scheme, ...]:
        """Those to try: what did best for the original does best for what is made of it."""
        tried = [each for each in self.candidates if each.method == "quantised"]
        if not tried:
            return schemes(model)
        return (min(tried, key=lambda each: (len(each.details["float_layers"]), each.drops.overall)).details["scheme"],)

    def _minutes(self) -> float | None:
        if self.asked.minutes is not None or self.asked.steps is not None:
            return self.asked.minutes
        run = self.parent.run
        return 1.0 if run is None else max(1.0, run.seconds / 600)

    def _add(self, name: str, method: str, path: Path, details: dict[str, Any]) -> Candidate:
        """Measure the accuracy of a model, and keep it among the candidates."""
        if method == ORIGINAL:
            text = self._telling(name)
            scores = score_model(self.images.exam, self.parent.predictor, text, prepared=True)
        else:
            scores = self._score(self.images.exam, path, name)
        against = self.candidates[0].scores if self.candidates else scores
        made = Candidate(name, method, path, path.stat().st_size, scores, drops(against, scores), details=details)
        self.candidates.append(made)
        return made

    def _score(self, exam: Exam, path: Path, name: str) -> Scores:
        write_sidecar(path, self.parent.predictor.sidecar)
        predictor = onnx_predictor.open_predictor(name, path, Options())
        return score_model(exam, predictor, self._telling(name), prepared=True)

    def _measure(self) -> None:
        """Time all candidates in turn, so that they can be compared."""
        self.report(0, 1, "latency")
        row = self.parent.rows(self.images.calibration[:1])[0]
        paths = {str(number): each.path for number, each in enumerate(self.candidates)}
        found = latencies(paths, row, runtime=self.asked.runtime)
        self.candidates = [replace(each, seconds=found[str(number)]) for number, each in enumerate(self.candidates)]

    def _path(self) -> Path:
        return self.folder / f"{len(self.candidates)}.onnx"

    def _telling(self, text: str) -> Callable[[int, int], None]:
        return lambda done, total: self.report(done, total, text)
