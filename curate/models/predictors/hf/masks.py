"""Segmenters: a class for each pixel, or things with their masks.

Networks that give masks with classes (MaskFormer, Mask2Former, OneFormer, EoMT, DETR) are read as their papers do: a thing's
score is the probability of its class times the mean probability of the pixels in its mask (Cheng et al., CVPR 2022). The
functions of transformers for things are not used, since they paint one over the other, or round masks to 384 x 384 pixels; the
one for classes of pixels is. Both take padding for a part of the image, so it is cut off before.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any, Final, TypeVar

import numpy as np
import numpy.typing as npt

from curate.models.predictors.base import VOID, ClassMap, Objects, Options, Size
from curate.models.predictors.hf.detection import Activation, to_numpy, to_probabilities
from curate.models.predictors.hf.names import ClassNames
from curate.models.predictors.hf.network import Network, Prepared
from curate.models.predictors.hf.predictor import Read

T = TypeVar("T", bound=np.generic)

_MOST_SCORES: Final = 1 << 28
_AT_A_TIME: Final = 16  # masks, or rows of all classes' scores: at an image's full size they are large

# What the same outputs are called, by the models' families.
_QUERY_CLASSES: Final = ("class_queries_logits", "logits")
_QUERY_MASKS: Final = ("masks_queries_logits", "pred_masks")
_PADS_UNTOLD: Final = frozenset({"eomt", "eomt_dinov3"})  # to a square, with no mask of what is padding


def read_class_map(network: Network, names: ClassNames, *, universal: bool) -> Read:
    """Say what a semantic segmenter's outputs mean.

    Args:
        network: The segmenter.
        names: Its classes; pixels of others become `VOID`.
        universal: Whether it gives masks with classes. The scores of a pixel are probabilities then, which need not sum to 1.
    """
    post_process = network.post_process("post_process_semantic_segmentation")

    def read(outputs: Any, prepared: Prepared) -> ClassMap:
        if universal:
            outputs = _without_padding(network, outputs, prepared)
        # An image in parts is put together at its own size.
        in_parts = bool(getattr(outputs, "patch_offsets", None))
        size = prepared.size if in_parts else _scaled_size(prepared.size, len(names.numbers))
        result = post_process(outputs, target_sizes=[size], return_segmentation_scores=True)[0]
        labels = to_numpy(result["segmentation"])
        numbers = np.full(max(len(names.numbers), int(labels.max()) + 1), VOID, np.int16)
        numbers[: len(names.numbers)] = names.numbers
        confidence = _confidence(result["segmentation_scores"], is_probability=universal)
        return ClassMap(_stretch(numbers[labels], prepared.size), _stretch(confidence, prepared.size))

    return read


def read_instances(network: Network, names: ClassNames, options: Options) -> Read:
    """Say what the outputs of a segmenter of things mean."""

    def read(outputs: Any, prepared: Prepared) -> Objects:
        import torch

        logits = _first(outputs, _QUERY_CLASSES)[0]
        masks = _first(_without_padding(network, outputs, prepared), _QUERY_MASKS)
        # Probabilities of 'no object' are known by the one logit more than there are classes.
        activation: Activation = "softmax" if logits.shape[-1] > network.config.num_labels else "sigmoid"
        kept = torch.from_numpy(names.kept).to(logits.device)
        probabilities = to_probabilities(logits, activation)[:, kept]
        of_class, labels = probabilities.max(-1)
        likely = torch.nonzero(of_class > options.min_score)[:, 0]
        likely = likely[of_class[likely].argsort(descending=True, stable=True)][: options.most_objects]
        shapes, scores = [np.zeros((0, *prepared.size), bool)], [torch.zeros(0, device=logits.device)]
        for some in likely.split(_AT_A_TIME) if len(likely) else ():
            shape = torch.nn.functional.interpolate(
                masks[:, some], size=prepared.size, mode="bilinear", align_corners=False
            )[0]
            inside = shape > 0
            certainty = (shape.sigmoid() * inside).sum((1, 2)) / inside.sum((1, 2)).clamp(min=1)
            scores.append(of_class[some] * certainty)
            shapes.append(to_numpy(inside))
        return _keep(
            prepared.size,
            np.concatenate(shapes),
            to_numpy(labels[likely]),
            to_numpy(torch.cat(scores)).astype(np.float64),
            to_numpy(probabilities[likely]),
            options,
        )

    return read


def boxes_of_masks(masks: npt.NDArray[np.bool_]) -> npt.NDArray[np.float64]:
    """[x, y, width, height] around each mask; float64 of shape (k, 4), zeros for an empty mask.

    Args:
        masks: bool of shape (k, height, width).
    """
    left, width = _spans(np.asarray(masks.any(axis=1)))
    top, height = _spans(np.asarray(masks.any(axis=2)))
    return np.stack([left, top, width, height], axis=1).astype(np.float64)


def _spans(taken: npt.NDArray[np.bool_]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Where in each row the first True is, and how far it is to the last; zeros in a row without."""
    first = taken.argmax(axis=1)
    end = taken.shape[1] - taken[:, ::-1].argmax(axis=1)
    return first, np.where(taken[np.arange(len(taken)), first], end - first, 0)


def _keep(
    size: Size,
    masks: npt.NDArray[np.bool_],
    labels: npt.NDArray[np.int64],
    scores: npt.NDArray[np.float64],
    probabilities: npt.NDArray[np.float32],
    options: Options,
) -> Objects:
    """Things that have a pixel and are sure enough, surest first."""
    boxes = boxes_of_masks(masks)
    fit = np.flatnonzero((scores > options.min_score) & (boxes[:, 2] > 0))
    best = fit[np.argsort(-scores[fit], kind="stable")]
    return Objects(size, boxes[best], labels[best], scores[best], probabilities[best], masks[best])


def _without_padding(network: Network, outputs: Any, prepared: Prepared) -> Any:
    """Outputs whose masks are of the image alone, where the network was given it with padding to the right and below."""
    import torch

    padded = tuple(prepared.inputs["pixel_values"].shape[-2:])
    height, width = _filled(network, prepared)
    if (height, width) == padded:
        return outputs
    name = next(name for name in _QUERY_MASKS if getattr(outputs, name, None) is not None)
    masks = torch.nn.functional.interpolate(getattr(outputs, name), size=padded, mode="bilinear", align_corners=False)
    return SimpleNamespace(**{**vars(outputs), name: masks[..., :height, :width]})


def _filled(network: Network, prepared: Prepared) -> Size:
    """The part of what the network is given that the image fills."""
    pixel_mask = prepared.inputs.get("pixel_mask")
    if pixel_mask is not None:
        return int(pixel_mask[0].any(dim=1).sum()), int(pixel_mask[0].any(dim=0).sum())
    height, width = prepared.inputs["pixel_values"].shape[-2:]
    processor = network.image_processor
    if network.config.model_type in _PADS_UNTOLD and processor.do_pad:
        from transformers.image_transforms import get_size_with_aspect_ratio

        size = processor.size
        scaled = get_size_with_aspect_ratio(prepared.size, size["shortest_edge"], size["longest_edge"])
        return min(height, scaled[0]), min(width, scaled[1])
    return height, width


def _scaled_size(size: Size, classes: int) -> Size:
    """The size at which scores of all classes are held: the image's, unless they would take more than a gigabyte."""
    height, width = size
    ratio = math.sqrt(min(1.0, _MOST_SCORES / (height * width * max(1, classes))))
    return max(1, int(height * ratio)), max(1, int(width * ratio))


def _stretch(values: npt.NDArray[T], size: Size) -> npt.NDArray[T]:
    """An array at another size, each value that of the nearest one."""
    if values.shape == size:
        return values
    rows, columns = (
        ((np.arange(side) + 0.5) * (old / side)).astype(np.intp) for side, old in zip(size, values.shape, strict=True)
    )
    stretched: npt.NDArray[T] = values[rows[:, None], columns]
    return stretched


def _confidence(scores: Any, *, is_probability: bool) -> npt.NDArray[np.float32]:
    """The best class's probability at each pixel; float32 of shape (height, width) from scores of shape (m, height, width)."""

    def parts() -> Iterator[npt.NDArray[np.float32]]:
        for rows in scores.split(_AT_A_TIME, dim=1):
            yield to_numpy((rows if is_probability else rows.softmax(0)).amax(0).clamp(0, 1))

    return np.concatenate(list(parts())).astype(np.float32)


def _first(outputs: Any, names: tuple[str, ...]) -> Any:
    return next(value for name in names if (value := getattr(outputs, name, None)) is not None)
