"""What is chosen for a segmentation where nobody says: from the images, the regions on them, and the device."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from curate.errors import ImageError, UsageError
from curate.imaging import read_header
from curate.models.predictors.base import VOID, Size
from curate.models.training.base import Example, TrainingSettings
from curate.models.training.defaults import require_known
from curate.models.training.segment.losses import DEFAULT, PARTS
from curate.models.training.segment.network import DEFAULT_MODEL, STRIDE
from curate.models.training.segment.regions import draw, region_extents

OPTIONS: Final[Mapping[str, str]] = {
    "loss": f"sum of {', '.join(PARTS)} ({DEFAULT})",
    "class_weights": "balanced or even",
    "background": "auto, yes or no: whether what no region covers is a class of its own, or unknown",
    "resize": "letterbox or squash",
    "flips": "none, horizontal or any",
}
"""What may be set for this task alone."""

_DEFAULTS: Final = {
    "loss": DEFAULT,
    "class_weights": "balanced",
    "background": "auto",
    "resize": "letterbox",
    "flips": "horizontal",
}
_VALUES: Final = {
    "class_weights": ("balanced", "even"),
    "background": ("auto", "yes", "no"),
    "resize": ("letterbox", "squash"),
    "flips": ("none", "horizontal", "any"),
}

_LOOKED_AT: Final = 200
# Where regions leave more than this of the images, what they leave is background and not merely unlabelled.
_MOST_UNLABELLED: Final = 0.25
_SIZES: Final = {"cpu": (256, 384, 512), "gpu": (512, 768, 1024)}
# Of every class, half of the regions are at least so many input pixels thick. For this images are made larger than they are,
# up to twice: a line that is one pixel wide does not survive being turned and moved.
_LEAST_THICK: Final = 3.0
_MOST_ENLARGED: Final = 2.0
_BATCHES: Final = {"cpu": 8, "gpu": 16}
# Smaller steps learn faster where an image takes as long in any batch, and no encoder is normalised by the others.
_BATCH_BUILTIN: Final = 4
_STEPS: Final = 1500
_EPOCHS: Final = (10, 150)
_RATE: Final = 1e-3
# Of the weights, over some hundred steps: those of a single one see now too much, now too little of what is rare.
_AVERAGE: Final = 0.995
_AUGMENT: Final = 0.5
_LONGEST: Final = 4.0
_MOST_WEIGHT: Final = 10.0


@dataclass(frozen=True)
class Look:
    """What some of the images and their regions are like.

    Attributes:
        share: Of the labelled pixels that each class has; float64 of shape (classes,).
        unlabelled: Share of the pixels that no region covers.
        thick: How thick regions of each class mostly are, as a part of the image's shorter side: the median; float64 of shape
            (classes,), NaN for a class that is on none of the images.
        ratio: Median of height / width.
        shorter: Median of the shorter sides, pixels.
        empty: How many of the regions that are no crowds enclose nothing.
    """

    share: npt.NDArray[np.float64]
    unlabelled: float
    thick: npt.NDArray[np.float64]
    ratio: float
    shorter: float
    empty: int


def look_at(examples: Sequence[Example], classes: int, seed: int) -> Look:
    """Look at up to 200 images, those with regions on them first.

    Raises:
        UsageError: There is no region with an area on any of them.
        InputError: A mask is of another shape than its image.
    """
    order = np.random.default_rng(seed).permutation(len(examples)).tolist()
    chosen = sorted((examples[k] for k in order), key=lambda example: not example.regions)[:_LOOKED_AT]
    pixels, total = np.zeros(classes + 1), 0
    thick: list[list[float]] = [[] for _ in range(classes)]
    ratios, shorter, empty = [], [], 0
    for example in filter(None, map(_with_size, chosen)):
        height, width = example.size or (1, 1)
        drawn = draw(example, background=True)
        pixels += np.bincount(drawn[drawn != VOID], minlength=classes + 1)
        total += drawn.size
        for region in region_extents(example):
            empty += region.area == 0
            if region.area:
                thick[region.label].append(region.thickness / min(height, width))
        ratios.append(height / width)
        shorter.append(min(height, width))
    if not pixels[1:].any():
        raise UsageError(
            "no mask or polygon on the training images encloses anything",
            remedy="name a --layer with masks or polygons, or loosen --where; 'curate mistakes' lists empty ones",
        )
    return Look(
        share=pixels[1:] / pixels[1:].sum(),
        unlabelled=float(pixels[0] / total),
        thick=np.array([np.median(parts) if parts else np.nan for parts in thick]),
        ratio=float(np.median(ratios)),
        shorter=float(np.median(shorter)),
        empty=empty,
    )


def settle_segmentation(
    settings: TrainingSettings, look: Look, examples: int, say: Callable[[str], None]
) -> TrainingSettings:
    """The settings with all that the task needs, but for the weights.

    Raises:
        UsageError: An option does not exist or has an impossible value, or settings exclude one another.
    """
    kind = "cpu" if (settings.device or "cpu") == "cpu" else "gpu"
    options = _options(settings.options, look, say)
    model = settings.model or DEFAULT_MODEL
    usual = _BATCH_BUILTIN if model == DEFAULT_MODEL and kind == "cpu" else _BATCHES[kind]
    batch = min(settings.batch_size or usual, examples)
    epochs = settings.epochs or int(np.clip(-(-_STEPS * batch // examples), *_EPOCHS))
    image_size = _whole(settings.image_size or _image_size(look, kind))
    if settings.image_size is None:
        say(f"image size: {image_size} pixels on the shorter side")
    elif image_size != settings.image_size:
        say(f"image size: {image_size} pixels on the shorter side, a multiple of {STRIDE}")
    if batch == 1 and model.lower().startswith("deeplab"):
        raise UsageError(
            "DeepLab cannot learn from one image at a time: it normalises over a batch of single pixels",
            where="--batch-size",
            remedy="2 or more, or another --model",
        )
    return replace(
        settings,
        model=model,
        freeze=settings.freeze or "nothing",
        image_size=image_size,
        batch_size=batch,
        epochs=epochs,
        patience=settings.patience or max(8, epochs // 2),
        learning_rate=settings.learning_rate or _RATE,
        average=_AVERAGE if settings.average is None else settings.average,
        augment=_AUGMENT if settings.augment is None else settings.augment,
        options=options,
    )


def input_size(image_size: int, ratio: float) -> Size:
    """Height and width of the input: the shorter side as asked for, the other as images mostly are (up to four times as long).

    Both are multiples of 32.
    """
    long = _whole(image_size * min(max(ratio, 1 / ratio), _LONGEST))
    return (long, image_size) if ratio > 1 else (image_size, long)


def class_weights(share: npt.NDArray[np.float64], how: str) -> npt.NDArray[np.float64]:
    """What a pixel of each channel counts in the loss.

    Balanced: by the square root of how rare it is, at most 10 times another (whole inverse frequencies make a network see a rare
    class everywhere); their mean over all pixels is 1.

    Args:
        share: Of the pixels, for each channel.
        how: 'balanced' or 'even'.
    """
    if how == "even":
        return np.ones(len(share))
    weights = 1 / np.sqrt(np.maximum(share, share.max() / _MOST_WEIGHT**2))
    return np.asarray(weights / (share @ weights))


def _with_size(example: Example) -> Example | None:
    """The example with its image's size; None if that cannot be read."""
    if example.size is not None:
        return example
    try:
        header = read_header(example.path)
    except ImageError:
        return None
    return replace(example, size=(header.height, header.width))


def _options(given: Mapping[str, Any] | None, look: Look, say: Callable[[str], None]) -> dict[str, str]:
    require_known(given, OPTIONS)
    options = {**_DEFAULTS, **{name: str(value).strip().lower() for name, value in (given or {}).items()}}
    options["background"] = {"true": "yes", "false": "no"}.get(options["background"], options["background"])
    for name, known in _VALUES.items():
        if options[name] not in known:
            raise UsageError(
                f"there is no {name} '{options[name]}'", where="--set", remedy=f"one of: {', '.join(known)}"
            )
    if options["background"] == "auto":
        is_wide = look.unlabelled > _MOST_UNLABELLED
        options["background"] = "yes" if is_wide else "no"
        meaning = "is learnt as background" if is_wide else "is not learnt, and every pixel will be given a class"
        say(
            f"regions leave {look.unlabelled:.0%} of the images, which {meaning} (--set background={options['background']})"
        )
    return options


def _image_size(look: Look, kind: str) -> int:
    """The smallest size at which most regions of every class are thick enough to be seen, and no larger than the images unless
    that takes it.
    """
    needed = _LEAST_THICK / float(np.nanmin(look.thick))
    chosen = next((size for size in _SIZES[kind] if size >= needed), _SIZES[kind][-1])
    enlarged = min(math.ceil(needed / STRIDE) * STRIDE, _whole(_MOST_ENLARGED * look.shorter))
    return min(chosen, max(_whole(look.shorter), enlarged))


def _whole(side: float) -> int:
    """The nearest multiple of the network's stride."""
    return max(STRIDE, round(side / STRIDE) * STRIDE)
