"""What is chosen where nobody says: by the number of images, the size of what is on them, and the device."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final, get_args

import numpy as np

from curate.errors import UsageError
from curate.models.training.augment import Flips
from curate.models.training.base import PRETRAINED, SCRATCH, Example, TrainingSettings
from curate.models.training.defaults import require_known
from curate.models.training.detect.data import labelled

FCOS: Final = "fcos"
SSDLITE: Final = "ssdlite320"
BUILTIN: Final = "builtin"
ONNX: Final = "onnx"
ONNX_WEIGHTS: Final = "onnx:"

OPTIONS: Final = {
    "flips": f"how images may be turned over: {', '.join(get_args(Flips))}",
    "features": "names of the tensors of an ONNX graph that the head shall read, with commas between them",
    "color": "order of the colours that an ONNX graph was trained on: rgb or bgr",
}
"""What may be set besides, and what it means."""

_MULTIPLE: Final = 32  # coarsest stride: sides are whole numbers of its cells
_SMALLEST, _LARGEST, _LARGEST_GPU = 160, 416, 640
_PATIENCE: Final = 8
# More and smaller steps learn faster, where an image takes as long in any batch and none is normalised by the others.
_BATCH, _BATCH_NORMALISED, _GPU_BATCH, _MANY = 4, 8, 16, 500
_PIXELS, _GPU_PIXELS = 5e8, 5e9  # of all inputs together
_EPOCHS: Final = (12, 60)
_SEEN: Final = 24.0  # pixels that the smallest boxes (but for one in twenty) should have on each side
_ALIKE: Final = 0.8  # of the images are of one shape: then the input has it too
_LONGEST: Final = 2.5  # longer side of an input by its shorter one


@dataclass(frozen=True)
class Shape:
    """What the images and boxes are like.

    Attributes:
        aspect: Width by height that most images have; None where they are too different.
        elongation: Longer side by shorter side of the middle image.
        small: Side of a small box (the 5th of 100, as the root of its area) by the shorter side of its image; 1 without boxes.
    """

    aspect: float | None
    elongation: float
    small: float


def complete(settings: TrainingSettings, examples: Sequence[Example]) -> TrainingSettings:
    """The settings with nothing left open.

    Args:
        settings: As the user gave them.
        examples: That will be trained on.

    Raises:
        UsageError: Settings contradict one another, or an option does not exist.
    """
    require_known(settings.options, OPTIONS)
    flips = (settings.options or {}).get("flips", "horizontal")
    if flips not in get_args(Flips):
        raise UsageError(f"images cannot be turned over '{flips}'", where="--set flips", remedy=OPTIONS["flips"])
    weights = settings.weights
    from_file = weights is not None and weights.startswith(ONNX_WEIGHTS)
    model = settings.model or (f"{FCOS}/{ONNX}" if from_file else f"{FCOS}/{BUILTIN}")
    if from_file != (model == f"{FCOS}/{ONNX}"):
        raise UsageError(
            f"the model '{model}' does not go with the weights '{weights}'",
            remedy=f"--weights {ONNX_WEIGHTS}PATH goes with --model {FCOS}/{ONNX}, or with none",
        )
    if weights is None:
        weights = PRETRAINED
    on_gpu = (settings.device or "cpu").startswith("cuda")
    shape = shape_of(examples)
    size = settings.image_size or _image_size(model, shape, on_gpu=on_gpu)
    trained = weights != SCRATCH
    height, width = input_size(replace(settings, model=model, image_size=size), shape)
    epochs = settings.epochs or _epochs(len(examples), height * width, trained=trained, on_gpu=on_gpu)
    few = _BATCH if model in (f"{FCOS}/{BUILTIN}", f"{FCOS}/{ONNX}") else _BATCH_NORMALISED
    batch = settings.batch_size or (_GPU_BATCH if on_gpu and len(examples) >= _MANY else few)
    return replace(
        settings,
        model=model,
        weights=weights,
        freeze=settings.freeze or "nothing",
        image_size=size,
        batch_size=batch,
        epochs=epochs,
        learning_rate=settings.learning_rate or 1e-3,
        patience=max(_PATIENCE, epochs // 3) if settings.patience is None else settings.patience,
        augment=0.5 if settings.augment is None else settings.augment,
        average=0.998 if settings.average is None else settings.average,
    )


def shape_of(examples: Sequence[Example]) -> Shape:
    """Look at the sizes of images and boxes; images whose size is not known are left out."""
    aspects, small = [], []
    for example in examples:
        if example.size is None or min(example.size) <= 0:
            continue
        aspects.append(example.size[1] / example.size[0])
        boxes = labelled(example).boxes
        small += (np.sqrt(boxes[:, 2] * boxes[:, 3]) / min(example.size)).tolist()
    if not aspects:
        return Shape(None, 1.0, 1.0)
    logs = np.log(aspects)
    middle = float(np.median(logs))
    alike = float((np.abs(logs - middle) < 0.15).mean()) >= _ALIKE
    elongation = float(np.exp(np.median(np.abs(logs))))
    return Shape(
        float(np.exp(middle)) if alike else None, elongation, float(np.quantile(small, 0.05)) if small else 1.0
    )


def input_size(settings: TrainingSettings, shape: Shape) -> tuple[int, int]:
    """(height, width) of an input whose images have about `image_size` pixels on their shorter side."""
    image_size, aspect = settings.image_size or _SMALLEST, shape.aspect
    if settings.model == SSDLITE:  # its anchors are made for a square
        return image_size, image_size
    if aspect is None:  # a square that holds both tall and wide ones
        side = _rounded(image_size * min(shape.elongation, _LONGEST))
        return side, side
    aspect = float(np.clip(aspect, 1 / _LONGEST, _LONGEST))
    short = _rounded(image_size)
    return (short, _rounded(short * aspect)) if aspect >= 1 else (_rounded(short / aspect), short)


def _rounded(side: float) -> int:
    return max(_MULTIPLE, round(side / _MULTIPLE) * _MULTIPLE)


def _image_size(model: str, shape: Shape, *, on_gpu: bool) -> int:
    if model == SSDLITE:
        return 320
    if not model.startswith(FCOS):
        return 640
    wanted = _SEEN / max(shape.small, 1e-3)
    return int(np.clip(_rounded(wanted), _SMALLEST, _LARGEST_GPU if on_gpu else _LARGEST))


def _epochs(images: int, pixels: int, *, trained: bool, on_gpu: bool) -> int:
    """So that a core is done in some ten minutes with the built-in backbone; from scratch it takes twice as long."""
    looks = (_GPU_PIXELS if on_gpu else _PIXELS) * (1 if trained else 2) / pixels
    return int(np.clip(round(looks / max(images, 1)), *_EPOCHS))
