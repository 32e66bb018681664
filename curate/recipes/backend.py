"""The one file that imports albumentations 2.0.8: which of its transforms recipes may name, and how they are made.

Its upstream rests, so what is private there and used here cannot move.
"""

from __future__ import annotations

import difflib
import functools
import inspect
import os
import re
import warnings
from collections.abc import Callable, Mapping
from typing import Any, Final

os.environ["NO_ALBUMENTATIONS_UPDATE"] = "1"  # it would ask the network at import whether there is a newer one

import albumentations
import numpy as np
from albumentations.augmentations.geometric.distortion import BaseDistortion as BaseDistortion
from albumentations.core.composition import BaseCompose as BaseCompose
from albumentations.core.pydantic import check_range_bounds as check_range_bounds
from albumentations.core.pydantic import nondecreasing as nondecreasing
from albumentations.core.transforms_interface import BaseTransformInitSchema as BaseTransformInitSchema
from albumentations.core.transforms_interface import BasicTransform as BasicTransform
from albumentations.core.transforms_interface import ImageOnlyTransform as ImageOnlyTransform

from curate.errors import InputError
from curate.recipes.recipe import Step
from curate.recipes.warps_of import MOVING

VERSION: Final = str(albumentations.__version__)

GROUPS: Final = frozenset({"Compose", "Sequential", "OneOf", "SomeOf", "RandomOrder", "OneOrOther", "ByLight"})
"""Transforms that hold others."""

OWN_MODULE: Final = "curate.recipes.transforms"
"""Where transforms of our own are; their names in files start with it."""

COVERING: Final = frozenset({"NoOp", "CoarseDropout", "Erasing", "GridDropout", "PixelDropout", "XYMasking"})
"""Transforms that albumentations counts among the moving ones and that only cover pixels: labels stay."""

BY_BOXES: Final = frozenset({"AtLeastOneBBoxRandomCrop", "BBoxSafeRandomCrop", "RandomSizedBBoxSafeCrop"})
"""Crops that ask where the boxes are."""

BY_REFERENCES: Final = frozenset({"FDA", "HistogramMatching", "PixelDistributionAdaptation"})
"""Transforms that take colours from other images, which they find under their `metadata_key`."""

# Normalize is not among them: with FromFloat after it, it multiplies each channel by what is asked for, as nothing else does.
_NOT_HERE: Final = {
    **dict.fromkeys(["ToFloat", "ToTensorV2", "ToTensor3D"], "its result is no 8-bit image"),
    **dict.fromkeys(["TextImage", "OverlayElements", "Mosaic", "ToRGB"], "it needs other than an RGB image"),
    **dict.fromkeys(
        [
            "ConstrainedCoarseDropout",
            "CropNonEmptyMaskIfExists",
            "FrequencyMasking",
            "GridElasticDeform",
            "MaskDropout",
            "Morphological",
            "PiecewiseAffine",
            "RandomCropNearBBox",
            "RandomGridShuffle",
            "TimeMasking",
            "TimeReverse",
        ],
        "labels cannot follow it exactly",
    ),
    **dict.fromkeys(["Lambda", "ReplayCompose", "SelectiveChannelTransform"], "a recipe says all that it does"),
}
_GROUP_PARAMETERS: Final[Mapping[str, list[str]]] = {
    "SomeOf": ["n", "replace"],
    "RandomOrder": ["n", "replace"],
    "ByLight": ["lights", "scale"],
}
_NEEDED: Final[Mapping[str, list[str]]] = {"ByLight": ["lights", "scale"]}
_BASES: Final = frozenset({"ImageOnlyTransform", "BaseDomainAdaptation"})
LONGEST_SIDE: Final = 20_000
"""Pixels; squares of it are about what `curate.imaging.MAX_PIXELS` allows."""

# Parameters that say how large an image becomes.
_SIDES: Final = frozenset({"height", "width", "size", "max_size", "min_height", "min_width"})
_NO_MEMORY: Final = -4
_REFERENCE_FILES: Final = frozenset({"reference_images", "read_fn"})
_NO_PARAMETERS: Final = frozenset({"self", "p", "args", "kwargs", "transforms", "strict"})

_own: dict[str, type[Any]] = {}


def own(transform: type[Any]) -> type[Any]:
    """Class decorator: let recipes name a transform of our own. albumentations registers it by itself.

    One that leaves pixels where they are refuses, when albumentations calls it, what is no RGB image of 8 bits.
    """
    _own[transform.__name__] = transform
    if issubclass(transform, ImageOnlyTransform):
        apply = transform.apply

        @functools.wraps(apply)
        def checked(self: Any, img: Any, *args: Any, **params: Any) -> Any:
            require_rgb(img, transform.__name__)
            return apply(self, img, *args, **params)

        transform.apply = checked
    return transform


def require_rgb(image: Any, transform: str) -> None:
    """See that an image is one that our own transforms can be done to.

    Raises:
        InputError: It is no uint8 array of shape (height, width, 3).
    """
    if not isinstance(image, np.ndarray) or image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        found = f"{image.dtype} of shape {image.shape}" if isinstance(image, np.ndarray) else type(image).__name__
        raise InputError(
            f"{transform} changes RGB images of 8 bits, uint8 of shape (height, width, 3), and this is {found}",
            remedy="put it before ToFloat, Normalize and ToGray; repeat a grey image's channel three times",
        )


def transform_names() -> list[str]:
    """Every transform that a recipe may name, sorted."""
    images = (
        name
        for name, found in vars(albumentations).items()
        if inspect.isclass(found) and issubclass(found, ImageOnlyTransform)
    )
    theirs = {*images, *(name for name in MOVING if hasattr(albumentations, name)), *COVERING, *GROUPS}
    return sorted((theirs - _BASES - _NOT_HERE.keys()) | _own.keys())


def is_own(name: str) -> bool:
    """Whether a transform is one of ours."""
    return name in _own


def class_name(name: str) -> str:
    """A transform's name as files have it -> as steps have it."""
    return name.removeprefix(f"{OWN_MODULE}.") if name.startswith(OWN_MODULE) else name.rpartition("albumentations.")[2]


def full_name(name: str) -> str:
    """A transform's name as steps have it -> as files have it, which albumentations finds it by."""
    return f"{OWN_MODULE}.{name}" if name in _own else name


def transform_class(name: str, where: object) -> type[Any]:
    """The class of a transform.

    Raises:
        InputError: There is none of that name, or none that a recipe may name.
    """
    names = transform_names()
    if name in names:
        return _own.get(name) or getattr(albumentations, name)
    if name in _NOT_HERE:
        raise InputError(f"recipes cannot have {name}: {_NOT_HERE[name]}", where=where, remedy="take the step out")
    near = difflib.get_close_matches(name, names, n=3, cutoff=0.5)
    listed = (
        f"near ones: {', '.join(near)}" if near else "the names are those of albumentations 2.0.8, as in RandomGamma"
    )
    raise InputError(f"there is no transform {name!r}", where=where, remedy=listed)


def parameters(transform: type[Any]) -> dict[str, Any]:
    """A transform's parameters but `p`, with their defaults; `inspect.Parameter.empty` where one must be given."""
    return {
        name: parameter.default
        for name, parameter in inspect.signature(transform.__init__).parameters.items()
        if name not in _NO_PARAMETERS | _REFERENCE_FILES
    }


def make(step: Step, where: object) -> Any:
    """The transform that a step describes.

    Args:
        step: The step.
        where: What an error names.

    Raises:
        InputError: The transform, one of its parameters, or a value of one is not known.
    """
    transform = transform_class(step.transform, where)
    place = f"{where}, {step.transform}"
    _require_probability(step.p, place)
    if step.transform not in GROUPS:
        return _leaf(transform, step, place)
    if not step.steps:
        raise InputError("there are no transforms in it", where=place, remedy="name some, or take the step out")
    inner = [make(each, f"{where}, {number}") for number, each in enumerate(step.steps, 1)]
    _require_known(step.params, _GROUP_PARAMETERS.get(step.transform, []), place)
    missing = [name for name in _NEEDED.get(step.transform, ()) if name not in step.params]
    if missing:
        raise InputError(f"it needs {' and '.join(missing)}", where=place, remedy="say what they are")
    if step.transform == "OneOf" and not sum(each.p for each in step.steps) > 0:
        raise InputError("the chances of all its transforms are 0", where=place, remedy="give one a p above 0")
    kind = albumentations.Sequential if step.transform == "Compose" else transform
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return kind(transforms=inner, **step.params, p=step.p)
        except Exception as error:  # of albumentations
            raise _wrong_value(error, place) from error


def compose(steps: list[Any], *, depth: bool, boxes: bool) -> Any:
    """One pipeline of transforms; what it is given as `depth` moves like a mask, and boxes are only told to its crops."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of boxes that steps of colours alone do not move
        told = albumentations.BboxParams(
            format="pascal_voc", clip=True, min_width=1, min_height=1, label_fields=["rows"]
        )
        return albumentations.Compose(
            steps,
            additional_targets={"depth": "mask"} if depth else None,
            bbox_params=told if boxes else None,
        )


def said_of(error: Exception) -> str:
    """What went wrong in albumentations, OpenCV or numpy, in words: OpenCV tells its own version and lines of its source."""
    reason = getattr(error, "err", None)  # of OpenCV
    if isinstance(error, MemoryError) or getattr(error, "code", None) == _NO_MEMORY:
        return "its result does not fit into memory"
    if reason is not None:
        return f"it cannot be done to an image of this size or with these parameters ({str(reason).strip()})"
    return str(error).strip().partition("\n")[0] or type(error).__name__


def _require_sides(params: Mapping[str, Any], place: str) -> None:
    """See that what a step gives is not larger than images are."""
    for name in _SIDES & params.keys():
        value = params[name]
        longest = max((each for each in np.ravel(value).tolist() if isinstance(each, int | float)), default=0)
        if longest > LONGEST_SIDE:
            raise InputError(
                f"{name} is {longest:,}, and images here have at most {LONGEST_SIDE:,} pixels a side",
                where=place,
                remedy="make it smaller",
            )


def _leaf(transform: type[Any], step: Step, place: str) -> Any:
    if step.steps:
        raise InputError("it holds no other transforms", where=place, remedy=f"groups are {', '.join(sorted(GROUPS))}")
    known = parameters(transform)
    _require_known(step.params, list(known), place)
    _require_sides(step.params, place)
    missing = [name for name, value in known.items() if value is inspect.Parameter.empty and name not in step.params]
    if missing:
        raise InputError(f"it needs {', '.join(missing)}", where=place, remedy="say what they are")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of transforms that are slow, or that others replace
        try:
            # Not strict, albumentations would go on with defaults after some errors.
            strict = {"strict": True} if _checks_itself(transform) else {}
            return transform(**step.params, p=step.p, **strict)
        except Exception as error:  # of pydantic, albumentations and numpy
            raise _wrong_value(error, place) from error


def _checks_itself(transform: type[Any]) -> bool:
    """Whether a transform's constructor is one that albumentations wrapped in the checks of a schema."""
    defining = next(kind for kind in transform.__mro__ if "__init__" in vars(kind))
    return "InitSchema" in vars(defining)


def _require_known(given: Mapping[str, Any], known: list[str], place: str) -> None:
    for name in given:
        if name not in known:
            listed = f"it has {', '.join([*sorted(known), 'p'])}"
            raise InputError(f"it has no parameter {name!r}", where=place, remedy=listed)


def _require_probability(p: object, place: str) -> None:
    if isinstance(p, bool) or not isinstance(p, int | float) or not 0 <= p <= 1:
        raise InputError(f"p is {p!r}", where=place, remedy="a number between 0 and 1")


def _wrong_value(error: Exception, place: str) -> InputError:
    """pydantic's and albumentations' errors in one line."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    if len(lines) >= 2 and "validation error" in lines[0]:
        # Of one parameter, whose name is a line of its own; or of several together.
        name, said = (f"{lines[1]}: ", lines[2]) if len(lines) > 2 and "[type=" not in lines[1] else ("", lines[1])
        cleaned = re.sub(r"\s*\[type=.*", "", said).removeprefix("Value error, ")
        return InputError(f"{name}{cleaned}", where=place, remedy="change the value")
    return InputError(lines[0] if lines else type(error).__name__, where=place, remedy="change the value")


Observer = Callable[[Any, Mapping[str, Any], tuple[int, int], tuple[int, int]], None]


def observe(transform: Any, observer: Observer) -> None:
    """Tell an observer of every transform of a pipeline that is done: it, what it drew, the image's size before and after."""
    for inner in getattr(transform, "transforms", ()):
        observe(inner, observer)
    if isinstance(transform, BasicTransform):
        apply = transform.apply_with_params

        def apply_with_params(params: dict[str, Any], *args: Any, **data: Any) -> dict[str, Any]:
            height, width = data["image"].shape[:2]
            done: dict[str, Any] = apply(params, *args, **data)
            observer(transform, params, (height, width), done["image"].shape[:2])
            return done

        transform.apply_with_params = apply_with_params
