"""What a model of transformers can do, read from its configuration."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal, get_args

from curate.errors import InputError, UsageError
from curate.models.predictors.base import Task
from curate.models.predictors.hf.snapshots import CONFIG, IMAGE_SETTINGS, PROCESSOR_SETTINGS, Snapshot

Role = Literal["detect", "prompted", "segment", "universal", "depth", "classify", "box_masks"]
"""The kinds of network. prompted: a detector of what texts name; universal: masks with classes, read as instances or as a
class for each pixel; box_masks: masks of things in boxes (SAM)."""


@dataclass(frozen=True)
class Kind:
    """A role and what it means to transformers.

    Attributes:
        auto: The class that loads a model of it.
        table: Names of its architectures by type of model, in `transformers.models.auto.modeling_auto`.
        tasks: What it can be asked for; the first unless the model, or a person, says otherwise. None for `box_masks`.
    """

    auto: str
    table: str
    tasks: tuple[Task, ...] = ()


# A type of model that can do several things and does not say which is asked in this order.
KINDS: Final[Mapping[Role, tuple[Kind, ...]]] = {
    "prompted": (
        Kind("AutoModelForZeroShotObjectDetection", "MODEL_FOR_ZERO_SHOT_OBJECT_DETECTION_MAPPING_NAMES", ("detect",)),
    ),
    "detect": (Kind("AutoModelForObjectDetection", "MODEL_FOR_OBJECT_DETECTION_MAPPING_NAMES", ("detect",)),),
    "universal": (
        Kind(
            "AutoModelForUniversalSegmentation",
            "MODEL_FOR_UNIVERSAL_SEGMENTATION_MAPPING_NAMES",
            ("instances", "segment"),
        ),
        Kind("AutoModelForInstanceSegmentation", "MODEL_FOR_INSTANCE_SEGMENTATION_MAPPING_NAMES", ("instances",)),
    ),
    "segment": (
        Kind("AutoModelForSemanticSegmentation", "MODEL_FOR_SEMANTIC_SEGMENTATION_MAPPING_NAMES", ("segment",)),
    ),
    "depth": (Kind("AutoModelForDepthEstimation", "MODEL_FOR_DEPTH_ESTIMATION_MAPPING_NAMES", ("depth",)),),
    "classify": (
        Kind("AutoModelForImageClassification", "MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING_NAMES", ("classify",)),
    ),
    "box_masks": (Kind("AutoModelForMaskGeneration", "MODEL_FOR_MASK_GENERATION_MAPPING_NAMES"),),
}

_VIDEO_ONLY: Final = frozenset({"videomt"})
# What Meta's SAM 2 checkpoints say: trackers in videos, whose weights for single images transformers loads by themselves.
_TRACKERS: Final = {"Sam2VideoModel": "Sam2Model", "EdgeTamVideoModel": "EdgeTamModel"}


@dataclass(frozen=True)
class Part:
    """What one model is to do here.

    Attributes:
        role: Its kind.
        auto: The class of transformers that loads it.
        task: What is asked of it; None for `box_masks`.
    """

    role: Role
    auto: str
    task: Task | None


def choose_part(snapshot: Snapshot, asked: str | None) -> Part:
    """Say what a model is to do.

    Args:
        snapshot: The model.
        asked: What a person wrote after ``?task=``, or None.

    Raises:
        UsageError: There is no such task, or the model cannot do it.
        InputError: The model is none for images, or needs code of its own.
    """
    tasks = get_args(Task)
    if asked is not None and asked not in tasks:
        raise UsageError(f"there is no task '{asked}'", where=snapshot.source, remedy=f"one of: {', '.join(tasks)}")
    config = snapshot.read(CONFIG)
    able = _able(config)
    if not able:
        raise _refusal(snapshot, config)
    for role, kind in able:
        if asked is None:
            return Part(role, kind.auto, _usual(kind, snapshot, config))
        if asked in kind.tasks:
            return Part(role, kind.auto, next(task for task in kind.tasks if task == asked))
    able_to = sorted({task for _, kind in able for task in kind.tasks})
    raise UsageError(
        f"the model cannot be asked to {asked}: it is a {_architecture(config)}",
        where=snapshot.source,
        remedy=f"leave ?task= out, or ask for {' or '.join(able_to)}" if able_to else "leave ?task= out",
    )


def _able(config: Mapping[str, Any]) -> list[tuple[Role, Kind]]:
    """The kinds that a model is of: by its architecture, and if it names none, by the type of model."""
    from transformers.models.auto import modeling_auto

    model_type = str(config.get("model_type"))
    if model_type in _VIDEO_ONLY:
        return []
    named = {_TRACKERS.get(str(each), str(each)) for each in config.get("architectures") or ()}
    by_name: list[tuple[Role, Kind]] = []
    by_type: list[tuple[Role, Kind]] = []
    for role, kinds in KINDS.items():
        for kind in kinds:
            table: Mapping[str, str | tuple[str, ...]] = getattr(modeling_auto, kind.table)
            if named & {name for names in table.values() for name in ((names,) if isinstance(names, str) else names)}:
                by_name.append((role, kind))
            if model_type in table:
                by_type.append((role, kind))
    return by_name if named else by_type


def _usual(kind: Kind, snapshot: Snapshot, config: Mapping[str, Any]) -> Task | None:
    """What a model is for. Whether masks with classes were trained as regions or as things, its configuration does not say."""
    if kind.tasks == ("instances", "segment"):
        names = (snapshot.source, str(config.get("_name_or_path", "")))
        images = snapshot.read(PROCESSOR_SETTINGS).get("image_processor") or snapshot.read(IMAGE_SETTINGS)
        # EoMT looks at an image in parts only for classes of pixels.
        is_semantic = any("semantic" in name.lower() for name in names) or images.get("do_split_image")
        return "segment" if is_semantic else "instances"
    return kind.tasks[0] if kind.tasks else None


def _architecture(config: Mapping[str, Any]) -> str:
    return ", ".join(map(str, config.get("architectures") or ())) or str(
        config.get("model_type", "model of unknown type")
    )


def _refusal(snapshot: Snapshot, config: Mapping[str, Any]) -> InputError:
    if "auto_map" in config:
        return InputError(
            f"the model ({_architecture(config)}) brings code of its own, which is not run",
            where=snapshot.folder / CONFIG,
            remedy="choose a model that is part of transformers, or export it to ONNX and write onnx:PATH",
        )
    return InputError(
        f"a {_architecture(config)} finds nothing on images that could be kept",
        where=snapshot.folder / CONFIG,
        remedy="choose a detector, a segmenter, a depth estimator, an image classifier or a SAM model",
    )
