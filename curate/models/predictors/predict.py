"""`curate predict`: what a model says of a dataset, as a layer of predictions, or as maps of depth; one commit."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Final

import pyarrow.compute as pc

from curate.dataset.query import in_layer
from curate.dataset.store import Dataset, Transaction, begin, open_dataset
from curate.errors import UsageError
from curate.formats.base import ReadOptions
from curate.formats.importing import ImportResult, import_source
from curate.models.depth.predict import DepthResult, predict_depth
from curate.models.passes import Progress
from curate.models.predictors.base import BoxSegmenter, Options, Predictor
from curate.models.predictors.box_masks import layer_of_boxes, segment_boxes
from curate.models.predictors.class_names import ClassMapping, match_classes
from curate.models.predictors.layer_store import (
    Author,
    LayerUpdate,
    authors,
    class_names,
    clear_layer,
    layer_name,
    settings_text,
)
from curate.models.predictors.layers import predict_dataset, require_annotations
from curate.models.predictors.registry import RESULTS, load_predictor
from curate.models.predictors.seen import seen_images
from curate.wording import counted

_MODEL_FILES: Final = frozenset({".json", ".onnx", ".pt", ".pth", ".safetensors"})
_IDS: Final = "?ids="
_NAMED: Final = 5


@dataclass(frozen=True)
class ClassCount:
    """What a layer has of one class.

    Attributes:
        label: The class; None for what has none.
        objects: How many annotations.
        images: On how many images.
        mean_score: Their mean confidence; None where one has none.
    """

    label: str | None
    objects: int
    images: int
    mean_score: float | None


@dataclass(frozen=True)
class PredictResult:
    """What predicting did.

    Attributes:
        update: What became of the layer.
        classes: What is in the layer now, the most frequent class first.
        mapping: Which of the model's classes is which; None where the model has none of its own.
        commit: Number of the dataset's newest commit afterwards.
        notes: What a person should know; one sentence each.
    """

    update: LayerUpdate
    classes: list[ClassCount]
    mapping: ClassMapping | None
    commit: int
    notes: list[str]

    def to_json(self) -> dict[str, Any]:
        """JSON-ready values."""
        update, mapping = self.update, self.mapping
        return {
            "layer": update.layer,
            "model": update.model,
            "images": update.images,
            "predicted": update.predicted,
            "reused": update.reused,
            "objects": update.objects,
            "classes": [asdict(each) for each in self.classes],
            "mapping": mapping.to_json() if mapping else {},
            "unmapped": mapping.of_kind("unmatched") if mapping else [],
            "suggested": mapping.suggested if mapping else {},
            "dropped": dict(update.dropped.most_common()),
            "left_out": [asdict(each) for each in update.left_out],
            "skipped": [asdict(each) for each in update.skipped],
            "refused": dict(update.refused),
            "emptied": update.emptied,
            "commit": self.commit,
        }

    def describe(self) -> str:
        """A sentence for a person."""
        update = self.update
        return (
            f"{update.layer}: {counted(update.predicted, 'images')} predicted with {update.model}, "
            f"{counted(update.objects, 'annotations')}; {update.reused:,} were there already"
        )


@dataclass(frozen=True)
class Request:
    """What a person asks of `predict`.

    Attributes:
        layer: Where predictions go; None for 'predictions/' and the model's short name.
        told: Classes of the dataset by those of the model; '' leaves one out.
        keep_unmapped: Add classes that the dataset does not have, where the model finds them.
        options: Thresholds and prompts.
        boxes_from: A layer whose boxes are to be turned into masks.
        where: SQL condition on the images; None for all.
        replace: Take away what the layer has, and predict anew.
        batch_size: Images for each call of the model; None for as many as fit well into memory.
    """

    layer: str | None = None
    told: Mapping[str, str] = field(default_factory=dict)
    keep_unmapped: bool = False
    options: Options = field(default_factory=Options)
    boxes_from: str | None = None
    where: str | None = None
    replace: bool = False
    batch_size: int | None = None


def predict(
    name: str, spec: str, request: Request, *, command: str, progress: Progress | None = None
) -> PredictResult | DepthResult:
    """Predict on the images of a dataset that a model has not seen yet; one commit, or none if it has seen all.

    Args:
        name: The dataset.
        spec: Of the model, as `curate.models.predictors.registry` has it.
        request: What else is wanted.
        command: The command line, for the history.
        progress: Told (done, to do).

    Raises:
        DatasetNotFound: There is no such dataset.
        UsageError: The spec, layer, condition or mapping cannot be understood; the layer is another model's; the dataset has
            none of the model's classes.
        InputError: The model cannot be read, or not one image.
        UnavailableError: The model's weights cannot be had.
    """
    open_dataset(name)  # a dataset that is not there is told before a model is loaded
    layer = layer_name(request.layer or short_name(spec))
    model = load_predictor(spec, request.options)
    if getattr(model, "task", None) == "depth":
        return _predict_depth(name, model, request, command, progress)
    mapping: ClassMapping | None = None
    with begin(name, command=command) as transaction:
        if request.boxes_from is None:
            update, mapping = _predict(transaction, _require_predictor(model), layer, request, progress)
        else:
            segmenter = _require_segmenter(model)
            update = _segment(transaction, segmenter, request.boxes_from, layer, request, progress)
    stored = open_dataset(name)
    notes = _notes(model, update, mapping)
    return PredictResult(update, layer_counts(stored, layer), mapping, stored.commit.number, notes)


def import_results(name: str, spec: str, *, layer: str | None = None, command: str) -> ImportResult:
    """Import a COCO results file into a layer: `results:FILE`.

    Args:
        name: The dataset.
        spec: 'results:FILE', or 'results:FILE?ids=INSTANCES' with the COCO file whose ids the results have.
        layer: Where its predictions go; None for 'predictions/' and the file's name.
        command: The command line, for the history.

    Raises:
        DatasetNotFound: There is no such dataset.
        UsageError: There is no such file, or the layer is that of a model that was run here.
        FormatError: It holds no results, or not one of an image of the dataset.
    """
    file, _, ids = spec.removeprefix(RESULTS).partition(_IDS)
    chosen = layer_name(layer or short_name(spec))
    seen = seen_images(open_dataset(name), chosen)
    if seen is not None and seen.num_rows:
        raise UsageError(
            f"the layer holds what {seen['model'][0]} says", where=chosen, remedy="name another one with --layer"
        )
    path, names = Path(file).expanduser(), Path(ids).expanduser() if ids else None
    for each, what in ((path, "results"), (names, "ids")):
        if each is not None and not each.is_file():
            raise UsageError(
                f"there is no such file of {what}", where=each, remedy=f"check --model results:FILE{_IDS}INSTANCES.json"
            )
    return import_source(name, path, format="coco", options=ReadOptions(layer=chosen, ids=names), command=command)


def is_results(spec: str) -> bool:
    """Whether a spec names a file of results, and no model."""
    return spec.startswith(RESULTS)


def short_name(spec: str) -> str:
    """What a person would call a model: 'onnx:/data/yolox_nano.onnx' is 'yolox_nano'.

    Raises:
        UsageError: Nothing is left of it.
    """
    argument = spec.partition(":")[2].partition("?")[0].rstrip("/\\")
    last = re.split(r"[/\\]", argument)[-1]
    name = Path(last).stem if Path(last).suffix.lower() in _MODEL_FILES else last
    if not name.strip(". "):
        raise UsageError(
            f"'{spec}' does not name a model", where="--model", remedy="write onnx:PATH, hf:ID or run:NAME"
        )
    return name


def layer_counts(dataset: Dataset, layer: str) -> list[ClassCount]:
    """What is in a layer, by class, the most frequent first."""
    columns = ["image_id", "label", "score"]
    rows = dataset.table("annotations", columns=columns, where=in_layer(layer))
    grouped = rows.group_by("label").aggregate(
        [("image_id", "count_distinct"), ("score", "mean"), ("score", "count"), ([], "count_all")]
    )
    counts = [
        ClassCount(
            row["label"],
            row["count_all"],
            row["image_id_count_distinct"],
            row["score_mean"] if row["score_count"] == row["count_all"] else None,
        )
        for row in grouped.to_pylist()
    ]
    return sorted(counts, key=lambda each: (-each.objects, each.label or ""))


def _predict(
    transaction: Transaction, predictor: Predictor, layer: str, request: Request, progress: Progress | None
) -> tuple[LayerUpdate, ClassMapping]:
    require_annotations(predictor)
    mapping = match_classes(
        predictor.classes,
        class_names(transaction),
        told=request.told,
        before={} if request.replace else _classes_before(transaction, layer, predictor.name),
        keep_unmapped=request.keep_unmapped,
        model=predictor.name,
    )
    author = Author(predictor.name, settings_text(mapping, request.options))
    emptied = _take_over(transaction, layer, author, request)
    update = predict_dataset(
        transaction,
        predictor,
        layer=layer,
        where=request.where,
        mapping=mapping,
        options=request.options,
        batch_size=request.batch_size,
        progress=progress,
    )
    return replace(update, emptied=emptied), mapping


def _predict_depth(
    name: str, predictor: Predictor, request: Request, command: str, progress: Progress | None
) -> DepthResult:
    asked = {
        "--layer": request.layer,
        "--map": request.told,
        "--keep-unmapped": request.keep_unmapped,
        "--prompts": request.options.prompts,
        "--boxes-from": request.boxes_from,
    }
    return predict_depth(
        name,
        predictor,
        where=request.where,
        replace=request.replace,
        batch_size=request.batch_size,
        refused=tuple(option for option, value in asked.items() if value),
        command=command,
        progress=progress,
    )


def _segment(
    transaction: Transaction,
    segmenter: BoxSegmenter,
    boxes: str,
    layer: str,
    request: Request,
    progress: Progress | None,
) -> LayerUpdate:
    boxes = layer_of_boxes(transaction, boxes)
    if boxes == layer:
        raise UsageError("masks cannot go where their boxes are", where=layer, remedy="name another one with --layer")
    author = Author(segmenter.name, settings_text(None, None, boxes=boxes))
    emptied = _take_over(transaction, layer, author, request)
    update = segment_boxes(
        transaction,
        segmenter,
        boxes=boxes,
        layer=layer,
        where=request.where,
        batch_size=request.batch_size,
        progress=progress,
    )
    return replace(update, emptied=emptied)


def _require_predictor(model: Any) -> Predictor:
    if hasattr(model, "predict"):
        return model  # type: ignore[no-any-return]
    raise UsageError(
        "the model turns boxes into masks, and has to be given boxes",
        where=model.name,
        remedy="name a layer that has boxes: --boxes-from ground_truth",
    )


def _require_segmenter(model: Any) -> BoxSegmenter:
    if isinstance(model, BoxSegmenter):
        return model
    raise UsageError(
        "the model does not turn boxes into masks",
        where=model.name,
        remedy="leave out --boxes-from, or name one that does (SAM 2): --model hf:facebook/sam2.1-hiera-tiny",
    )


def _take_over(transaction: Transaction, layer: str, author: Author, request: Request) -> int:
    """See that a layer may be written to: it is empty, or the same author's, or is to be replaced.

    Returns:
        Of how many images that are not predicted on now it has lost what it said.

    Raises:
        UsageError: It holds what somebody else says, or the condition on the images cannot be understood.
    """
    if request.replace:
        chosen = transaction.read("images", columns=["image_id"], where=request.where)["image_id"].combine_chunks()
        spoken_of = clear_layer(transaction, layer)
        return pc.sum(pc.invert(pc.is_in(spoken_of, value_set=chosen))).as_py() or 0
    others = [each for each in authors(transaction, layer) if each != author]
    remedy = f"--replace predicts all of {layer} anew; --layer NAME keeps both, to compare them"
    if others:
        raise UsageError(_difference(author, others[0]), where=layer, remedy=remedy)
    if not authors(transaction, layer) and transaction.base.count("annotations", where=in_layer(layer)):
        raise UsageError("the layer has annotations that were imported", where=layer, remedy=remedy)
    return 0


def _classes_before(transaction: Transaction, layer: str, model: str) -> dict[str, str]:
    """Which of a model's classes was which when it was run into a layer before."""
    settings = [json.loads(each.settings) for each in authors(transaction, layer) if each.model == model]
    return dict(settings[0].get("classes", {})) if len(settings) == 1 else {}


def _difference(author: Author, other: Author) -> str:
    """What makes two authors differ, in words."""
    if author.model != other.model:
        return f"the layer holds what another model says: {other.model}, not {author.model}"
    now, before = json.loads(author.settings), json.loads(other.settings)
    changed = [key for key in {**before, **now} if now.get(key) != before.get(key)]
    told = [f"{key} {_short(before.get(key), now.get(key))}" for key in changed]
    return f"the layer was predicted with other settings: {'; '.join(told)}"


def _short(before: Any, now: Any) -> str:
    """How a setting was and is; of a mapping only what differs."""
    if isinstance(before, dict) and isinstance(now, dict):
        names = [name for name in {**before, **now} if before.get(name) != now.get(name)]
        parts = [f"{name} was {before.get(name) or 'left out'}, is {now.get(name) or 'left out'}" for name in names]
        return "(" + ", ".join(parts[:_NAMED]) + (", ...)" if len(parts) > _NAMED else ")")
    return f"{json.dumps(before)}, now {json.dumps(now)}"


def _notes(model: object, update: LayerUpdate, mapping: ClassMapping | None) -> list[str]:
    """What a person should know; first of all what a model says of itself, where it had to guess."""
    notes = [*getattr(model, "notes", ()), *(mapping.describe() if mapping is not None else ())]
    if update.emptied:
        notes.append(
            f"--replace took away what {update.layer} said of {counted(update.emptied, 'other images')}, which --where "
            "leaves out; 'curate undo' brings it back"
        )
    if update.dropped:
        named = ", ".join(f"{name} {count:,}" for name, count in update.dropped.most_common(_NAMED))
        more = ", ..." if len(update.dropped) > _NAMED else ""
        total = counted(update.dropped.total(), "things")
        notes.append(f"{total} found but left out, as the dataset has no class for them: {named}{more}")
    for reason, count in update.refused.items():
        notes.append(f"{counted(count, 'boxes')} without masks, as the model cannot take their images: {reason}")
    for rows, what in ((update.left_out, "images cannot be read"), (update.skipped, "boxes have no pixels")):
        if rows:
            notes.append(f"{len(rows):,} {what}; the first: {rows[0]}")
    return notes
