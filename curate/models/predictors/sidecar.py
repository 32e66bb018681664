"""The JSON file beside a model, `MODEL.curate.json` for `MODEL.onnx`: what goes in, and how to read what comes out.

A file of one's own need not say everything: what it leaves out is recognised from the graph
(`curate.models.predictors.recognise`), and what training writes says it all. A detector's:

    {"task": "detect",
     "classes": ["car", "bike"],
     "size": 416,                         pixels, or [height, width]
     "resize": "letterbox",
     "pad": 114,
     "color": "bgr",
     "scale": 1,                          the network sees (pixel * scale - mean) / std
     "output": {"layout": "yolox", "strides": [8, 16, 32]}}

Every key is described at `Sidecar`, and the keys of each output layout at its own class.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Final, Literal

import msgspec
from msgspec import Meta

from curate.errors import InputError
from curate.files import write_atomic
from curate.models.predictors.base import Task

SIDECAR_SUFFIX: Final = ".curate.json"

_LONGEST_SIDE: Final = 16384

Resize = Literal["squash", "letterbox", "letterbox_centre", "shortest_side_crop", "none"]
"""How an image of any size becomes the network's input.

squash: both sides to their length; letterbox: scaled to fit in, the other side rounded down (as YOLOX does), placed top left,
the rest padded; letterbox_centre: the same, rounded to the nearest (as YOLOv5 and YOLOv8 do), placed in the middle;
shortest_side_crop: scaled so that `crop` of the shorter side fills the input, and cut from the middle; none: as it
is, padded right and below to whole multiples of `multiple`.
"""

Activation = Literal["softmax", "sigmoid", "none"]
"""What turns a network's scores into probabilities; none where the graph does it."""

BoxForm = Literal["xyxy", "xywh", "cxcywh", "yxyx"]
"""What four numbers say of a box: its corners, corner and size, centre and size, or corners with y first."""

Positive = Annotated[float, Meta(gt=0)]
Part = Annotated[float, Meta(ge=0, le=1)]
Count = Annotated[int, Meta(ge=1)]


class OutputLayout(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True, tag_field="layout"):
    """What the layouts share: the key "layout" names one. Names of outputs that are None are recognised."""


class Yolox(OutputLayout, frozen=True, tag="yolox"):
    """YOLOX before decoding: [n, cells, 5 + classes] of dx, dy, log w, log h, objectness, and class probabilities.

    Cells are those of the strides' grids one after another, rows first. Boxes are (dx + column) * stride, exp(log w) * stride.
    Scores are objectness * class probability. Ge et al., "YOLOX: Exceeding YOLO Series in 2021".

    Attributes:
        output: Name of the output.
        strides: Input pixels per cell, of each grid.
        activation: Of objectness and class scores.
    """

    output: str | None = None
    strides: tuple[Count, ...] = (8, 16, 32)
    activation: Literal["sigmoid", "none"] = "none"


class Yolov5(OutputLayout, frozen=True, tag="yolov5"):
    """YOLOv5 and its like, decoded: [n, k, 5 + classes] of a box, objectness, and class probabilities.

    Attributes:
        output: Name of the output.
        form: Of the boxes.
        normalised: Whether boxes are parts of the input's sides instead of its pixels.
    """

    output: str | None = None
    form: BoxForm = "cxcywh"
    normalised: bool = False


class Yolov8(OutputLayout, frozen=True, tag="yolov8"):
    """YOLOv8, v9, v11 and their like: [n, 4 + classes, k], or transposed, of a box and class probabilities.

    With masks: [n, 4 + classes + m, k], where the last m are an instance's weights of the m prototypes of a second output,
    [n, m, h, w].

    Attributes:
        output: Name of the output.
        prototypes: Name of the prototypes' output, for instance masks.
        form: Of the boxes.
        normalised: Whether boxes are parts of the input's sides instead of its pixels.
    """

    output: str | None = None
    prototypes: str | None = None
    form: BoxForm = "cxcywh"
    normalised: bool = False


class NanoDet(OutputLayout, frozen=True, tag="nanodet"):
    """NanoDet: [n, cells, classes + 4 * (reg_max + 1)]: class scores, and distances to the box's four sides.

    Each distance is the mean of a distribution over 0 to reg_max, in strides, given as logits. Cells are as for `yolox`, a
    grid's sides rounded up. Li et al., "Generalized Focal Loss", 2020.

    Attributes:
        output: Name of the output.
        strides: Input pixels per cell, of each grid.
        reg_max: Largest distance that the distribution knows, in strides.
        activation: Of class scores.
        centre: Where in its cell distances are measured from: 0 the corner, 0.5 the middle.
    """

    output: str | None = None
    strides: tuple[Count, ...] = (8, 16, 32, 64)
    reg_max: Count = 7
    activation: Literal["sigmoid", "none"] = "none"
    centre: Part = 0.0


class Detections(OutputLayout, frozen=True, tag="detections"):
    """Boxes that are already suppressed and sorted: torchvision's, mmdeploy's, and D-FINE's and RT-DETR's deployment exports.

    Shapes are [n, k, 4] or, for one image, [k, 4]; labels and scores alike without the 4. Boxes of 5 numbers end in the score.

    Attributes:
        boxes: Name of the output.
        labels: Name of the output of class numbers.
        scores: Name of the output of confidences.
        masks: Name of the output of instance masks (probabilities): over the whole input ([k, 1, height, width] or [k, height,
            width]), or smaller, over each one's box.
        sizes: Name of an input that wants (width, height) of the image, int64 of shape [n, 2]. It is told the input's.
        form: Of the boxes.
        normalised: Whether boxes are parts of the input's sides instead of its pixels.
        background: Whether class number 0 is none, so that the first of `classes` is number 1.
    """

    boxes: str | None = None
    labels: str | None = None
    scores: str | None = None
    masks: str | None = None
    sizes: str | None = None
    form: BoxForm = "xyxy"
    normalised: bool = False
    background: bool = False


class Rows(OutputLayout, frozen=True, tag="rows"):
    """The same in one output: [n, k, 6] of a box, score and class number. Exports of YOLOv10, and of others with NMS inside.

    Attributes:
        output: Name of the output.
        form: Of the boxes.
        normalised: Whether boxes are parts of the input's sides instead of its pixels.
    """

    output: str | None = None
    form: BoxForm = "xyxy"
    normalised: bool = False


class Detr(OutputLayout, frozen=True, tag="detr"):
    """DETR, RT-DETR, D-FINE: logits [n, queries, classes] and boxes [n, queries, 4], normalised centre and size. No NMS.

    Attributes:
        logits: Name of the output of class scores.
        boxes: Name of the output of boxes.
        activation: Of class scores: DETR's softmax, whose last class is none; the others' sigmoid.
    """

    logits: str | None = None
    boxes: str | None = None
    activation: Activation = "sigmoid"


class Priors(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """Boxes that an SSD starts from, about the middle of each cell: Liu et al., "SSD: Single Shot MultiBox Detector", 2016.

    Attributes:
        strides: Input pixels per cell, of each grid.
        sizes: For each grid the priors of a cell, [width, height] in input pixels.
        variances: What offsets of middles and logarithms of sides are multiplied by.
        clip: Whether middles and sides of priors are limited to the input's sides.
    """

    strides: tuple[Count, ...]
    sizes: tuple[tuple[tuple[Positive, Positive], ...], ...]
    variances: tuple[Positive, Positive] = (0.1, 0.2)
    clip: bool = False


class BoxesScores(OutputLayout, frozen=True, tag="boxes_scores"):
    """A box for every anchor, and a score for each class of it: [n, anchors, 4] and [n, anchors, classes]; NMS is done here.

    Detectors trained here, and SSDs.

    Attributes:
        boxes: Name of the output.
        scores: Name of the output.
        background: Whether the first score is none's, so that the first of `classes` is the second.
        activation: Of the scores.
        form: Of the boxes.
        normalised: Whether boxes are parts of the input's sides instead of its pixels.
        priors: What boxes are offsets from, where the graph does not decode them; `form` and `normalised` do not matter then.
    """

    boxes: str | None = None
    scores: str | None = None
    background: bool = False
    activation: Activation = "none"
    priors: Priors | None = None
    form: BoxForm = "xyxy"
    normalised: bool = False


class Logits(OutputLayout, frozen=True, tag="logits"):
    """A classifier's [n, classes].

    Attributes:
        output: Name of the output.
        activation: softmax where one class excludes the others, sigmoid where not, none where these are probabilities.
    """

    output: str | None = None
    activation: Activation = "softmax"


class ClassMapLayout(OutputLayout, frozen=True, tag="class_map"):
    """A semantic segmenter's [n, channels, h, w], at the input's size or smaller.

    Attributes:
        output: Name of the output.
        background: Whether channel 0 is none, so that the first of `classes` is channel 1.
        activation: Of the channels. With sigmoid, a pixel where no class reaches 0.5 has none; one channel of one class is
            always sigmoid's.
    """

    output: str | None = None
    background: bool = False
    activation: Activation = "softmax"


class LabelMap(OutputLayout, frozen=True, tag="label_map"):
    """A semantic segmenter that gives class numbers itself: [n, h, w] or [n, 1, h, w].

    Attributes:
        output: Name of the output.
        background: Whether number 0 is none, so that the first of `classes` is number 1.
    """

    output: str | None = None
    background: bool = False


class DepthMapLayout(OutputLayout, frozen=True, tag="depth_map"):
    """A depth, or its inverse, for each pixel: [n, h, w] or [n, 1, h, w].

    Attributes:
        output: Name of the output.
        inverse: Whether larger is nearer (MiDaS, Depth Anything); None: it is, unless the numbers are metres.
        metric: Whether the numbers, or their inverse, are metres.
    """

    output: str | None = None
    inverse: bool | None = None
    metric: bool = False

    @property
    def nearer_is_larger(self) -> bool:
        """`inverse`, or what it is by default."""
        return not self.metric if self.inverse is None else self.inverse


Output = (
    Yolox
    | Yolov5
    | Yolov8
    | NanoDet
    | Detections
    | Rows
    | Detr
    | BoxesScores
    | Logits
    | ClassMapLayout
    | LabelMap
    | DepthMapLayout
)


class Sidecar(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True, kw_only=True):
    """What there is to know of a model; None leaves it to the graph.

    Attributes:
        task: What it gives.
        classes: Names in the order of class numbers, without a background.
        input: Name of the input that takes the images.
        size: Of the input in pixels: one number, or height and width. None: the graph's own.
        resize: How images get that size.
        crop: With shortest_side_crop: the part of the shorter side that is seen (0.875 means 256 pixels for an input of 224).
        multiple: With resize none: sides are padded to whole multiples of this.
        pad: Value of the padding, 0 to 255.
        interpolation: Of resizing, antialiased when it makes smaller.
        color: Order of the channels.
        layout: Order of the input's axes.
        scale: Pixels (0 to 255) are multiplied by this first: 1/255 where mean and std are of values in [0, 1], which is
            taken where only these are said.
        mean: Subtracted then, for each channel in the order of `color`, or for all.
        std: Divided by then.
        output: How to read what comes out.
        min_score: Objects below it are left out where nobody asks for another.
        nms_iou: Of two boxes of a class that overlap more, the surer stays, where nobody asks for another.
        about: Where the model came from; for people.
    """

    task: Task | None = None
    classes: tuple[str, ...] | None = None
    input: str | None = None
    size: int | tuple[int, int] | None = None
    resize: Resize | None = None
    crop: Annotated[float, Meta(gt=0, le=1)] = 1.0
    multiple: Count = 1
    pad: Annotated[float, Meta(ge=0, le=255)] | None = None
    interpolation: Literal["bilinear", "bicubic"] = "bilinear"
    color: Literal["rgb", "bgr", "gray"] | None = None
    layout: Literal["nchw", "nhwc"] | None = None
    scale: Positive | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[Positive, ...] | None = None
    output: Output | None = None
    min_score: Part | None = None
    nms_iou: Part | None = None
    about: dict[str, str] | None = None


def sidecar_path(model: Path) -> Path:
    """Where a model's sidecar is: `MODEL.curate.json` beside `MODEL.onnx`."""
    return model.with_suffix(SIDECAR_SUFFIX)


def read_sidecar(model: Path) -> Sidecar:
    """What the file beside a model says of it; a sidecar that says nothing where there is no file.

    Raises:
        InputError: The file cannot be read, or holds an unknown key or an impossible value.
    """
    path = sidecar_path(model)
    if not path.exists():
        return Sidecar()
    try:
        return _decode(path.read_bytes())
    except (OSError, ValueError) as error:
        known = ", ".join(Sidecar.__struct_fields__)
        raise InputError(f"the sidecar cannot be read: {error}", where=path, remedy=f"its keys are: {known}") from error


def write_sidecar(model: Path, sidecar: Sidecar) -> Path:
    """Write the file beside a model; returns its path.

    Raises:
        InputError: A value is impossible, so that `read_sidecar` would refuse it.
    """
    path = sidecar_path(model)
    content = sidecar_text(sidecar).encode()
    try:
        _decode(content)
    except ValueError as error:
        raise InputError(f"the sidecar would not be readable: {error}", where=path) from error
    write_atomic(path, content)
    return path


def sidecar_text(sidecar: Sidecar) -> str:
    """A sidecar as it is written to a file."""
    return msgspec.json.format(msgspec.json.encode(sidecar), indent=2).decode() + "\n"


def _decode(content: bytes) -> Sidecar:
    sidecar = msgspec.json.decode(content, type=Sidecar)
    sides = (sidecar.size,) if isinstance(sidecar.size, int) else sidecar.size or ()
    if any(not 1 <= side <= _LONGEST_SIDE for side in sides):
        raise ValueError(f"sides are 1 to {_LONGEST_SIDE} pixels - at `$.size`")
    priors = getattr(sidecar.output, "priors", None)
    if priors is not None and not len(priors.strides) == len(priors.sizes) > 0:
        raise ValueError("'sizes' has one list for each of 'strides' - at `$.output.priors`")
    channels = {1} if sidecar.color == "gray" else {1, 3}
    for key, values in (("mean", sidecar.mean), ("std", sidecar.std)):
        if values is not None and len(values) not in channels:
            raise ValueError(f"'{key}' has {len(values)} numbers, one for each channel are wanted - at `$.{key}`")
    return sidecar
