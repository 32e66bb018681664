"""Names of COCO's 80 classes, in the order that most detectors give them. Lin et al., "Microsoft COCO", 2014."""

from __future__ import annotations

from typing import Final

# fmt: off
COCO_NAMES: Final = (
    "person", "bicycle", "car", "motorcycle", "airplane", "bus", "train", "truck", "boat", "traffic light", "fire hydrant",
    "stop sign", "parking meter", "bench", "bird", "cat", "dog", "horse", "sheep", "cow", "elephant", "bear", "zebra",
    "giraffe", "backpack", "umbrella", "handbag", "tie", "suitcase", "frisbee", "skis", "snowboard", "sports ball", "kite",
    "baseball bat", "baseball glove", "skateboard", "surfboard", "tennis racket", "bottle", "wine glass", "cup", "fork",
    "knife", "spoon", "bowl", "banana", "apple", "sandwich", "orange", "broccoli", "carrot", "hot dog", "pizza", "donut",
    "cake", "chair", "couch", "potted plant", "bed", "dining table", "toilet", "tv", "laptop", "mouse", "remote",
    "keyboard", "cell phone", "microwave", "oven", "toaster", "sink", "refrigerator", "book", "clock", "vase", "scissors",
    "teddy bear", "hair drier", "toothbrush",
)
# fmt: on
"""In the order of class numbers."""

_SKIPPED: Final = frozenset({0, 12, 26, 29, 30, 45, 66, 68, 69, 71, 83})


def coco_names(count: int) -> tuple[str, ...] | None:
    """Names of a model with so many classes, if that is a number that COCO's models have.

    80 classes are COCO's in order. 91 are COCO's category ids from 0 to 90, and 90 those from 1, of which some are nothing's.
    """
    if count == len(COCO_NAMES):
        return COCO_NAMES
    if count not in (90, 91):
        return None
    names = iter(COCO_NAMES)
    by_id = [f"unused_{number}" if number in _SKIPPED else next(names) for number in range(91)]
    return tuple(by_id[91 - count :])
