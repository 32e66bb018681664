"""Finding out what an ONNX file is when no sidecar, or not all of one, says so."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import msgspec
from msgspec.structs import replace

from curate.errors import InputError
from curate.models.predictors.evidence import Evidence, Names, find_names, probe, stated_size
from curate.models.predictors.layouts.read import output_names
from curate.models.predictors.network import Network
from curate.models.predictors.readings import readings, task_of
from curate.models.predictors.sidecar import (
    BoxesScores,
    ClassMapLayout,
    DepthMapLayout,
    Detections,
    Detr,
    LabelMap,
    Logits,
    NanoDet,
    Output,
    Rows,
    Sidecar,
    Yolov5,
    Yolov8,
    Yolox,
    sidecar_path,
)

_SMALL: Final = 224
_LARGE: Final = 640
_UNIT: Final = 1 / 255
_UNREADABLE_TASKS: Final = ("pose", "obb")

_NAME_KEYS: Final = ("output", "boxes", "labels", "scores", "logits")
_RANKS: Final[dict[type[Output], tuple[int, ...]]] = {
    Yolox: (3,),
    Yolov5: (3,),
    Yolov8: (3,),
    NanoDet: (3,),
    Rows: (2, 3),
    Logits: (2,),
    ClassMapLayout: (4,),
    LabelMap: (3, 4),
    DepthMapLayout: (3, 4),
}

_IMAGENET: Final[dict[str, Any]] = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}
_NANODET_BGR: Final[dict[str, Any]] = {"mean": (103.53, 116.28, 123.675), "std": (57.375, 57.12, 58.395)}


@dataclass(frozen=True)
class Known:
    """A model of which everything is known.

    Attributes:
        sidecar: With nothing left open but the class names of a model that has none.
        names: Class names that were found.
        guesses: What nothing in the file says, told to people.
    """

    sidecar: Sidecar
    names: Names | None
    guesses: tuple[str, ...]


def recognise(network: Network, sidecar: Sidecar) -> Known:
    """Complete a sidecar with what the model shows of itself.

    Args:
        network: The model.
        sidecar: What is known already; it is believed.

    Raises:
        InputError: No layout fits, or several; the error has a sidecar to start from.
    """
    _refuse(network)
    names = find_names(network.path, sidecar, network.graph.metadata)
    asked = replace(sidecar, layout=network.layout, color=sidecar.color or ("gray" if network.channels == 1 else None))
    sized = _with_size(asked, network)
    output = sidecar.output
    if output is None or _has_open_names(output):
        evidence = probe(network, _for_probe(sized, network), names)
        output = _choose(network.path, sized, evidence, output)
    _require_outputs(network, output)
    takes_any_size = sidecar.size is None and network.size == (None, None) and network.sizes is None
    full, guesses = _with_preparation(replace(sized, output=output), network, takes_any_size)
    if full.task not in (None, task_of(output)):
        raise InputError(
            f"the sidecar says task '{full.task}', and its output layout is for '{task_of(output)}'",
            where=sidecar_path(network.path),
            remedy="change one of them",
        )
    return Known(replace(full, task=task_of(output)), names, guesses)


def _refuse(network: Network) -> None:
    task = network.graph.metadata.get("task", "")
    if task in _UNREADABLE_TASKS:
        raise InputError(
            f"the file says that it is a model for '{task}', which is not read",
            where=network.path,
            remedy="models are read that classify, detect, segment or estimate depth",
        )


def _require_outputs(network: Network, output: Output) -> None:
    there = [port.name for port in network.graph.outputs]
    for name in output_names(output):
        if name not in there:
            raise InputError(
                f"the model has no output '{name}'",
                where=sidecar_path(network.path),
                remedy=f"its outputs are: {', '.join(there)}",
            )


def _with_size(sidecar: Sidecar, network: Network) -> Sidecar:
    """A sidecar whose size agrees with the network's; open sides are the metadata's, or usual ones."""
    fixed = network.size
    if sidecar.size is not None:
        wanted = (sidecar.size, sidecar.size) if isinstance(sidecar.size, int) else sidecar.size
        if any(side not in (None, given) for side, given in zip(fixed, wanted, strict=True)):
            raise InputError(
                f"the sidecar says size {wanted}, and the model takes {fixed[0]} x {fixed[1]} only",
                where=sidecar_path(network.path),
                remedy="change 'size', as [height, width], or leave it out",
            )
        return sidecar
    if sidecar.resize == "none":
        return sidecar
    vectors = all(port.shape is not None and len(port.shape) <= 2 for port in network.graph.outputs)
    usual = _SMALL if vectors else _LARGE
    stated = stated_size(network.graph.metadata) or (usual, usual)
    height, width = (side or other for side, other in zip(fixed, stated, strict=True))
    return replace(sidecar, size=(height, width))


def _for_probe(sidecar: Sidecar, network: Network) -> Sidecar:
    """How a picture of noise goes in: squashed to the size, whatever becomes of images."""
    scale = sidecar.scale or _plain_scale(network)
    return replace(sidecar, size=sidecar.size or _LARGE, resize="squash", scale=scale)


def _plain_scale(network: Network) -> float:
    return 1.0 if network.entry.dtype == "uint8" else _UNIT


def _has_open_names(output: Output) -> bool:
    """Whether a layout leaves names of outputs to be found."""
    return any(getattr(output, key, "") is None for key in _NAME_KEYS)


def _choose(path: Path, sidecar: Sidecar, evidence: Evidence, said: Output | None) -> Output:
    """The one layout that fits; or the sidecar's own, with the names of its outputs filled in."""
    if said is not None:
        return _fill_names(path, evidence, said)
    found = readings(evidence, sidecar.task)
    if len(found) == 1:
        return found[0]
    shapes = ", ".join(f"'{name}' {list(array.shape)}" for name, array in evidence.outputs.items())
    if not found:
        start = msgspec.json.encode(replace(sidecar, output=BoxesScores(boxes="NAME", scores="NAME"))).decode()
        raise InputError(
            f"the model's outputs are of no known layout: {shapes}",
            where=path,
            remedy=f"say how to read them in {sidecar_path(path)}, which could begin as: {start}",
        )
    starts = [msgspec.json.encode(replace(sidecar, task=task_of(each), output=each)).decode() for each in found]
    raise InputError(
        f"the model's outputs can be read in {len(found)} ways: {shapes}",
        where=path,
        remedy=f"write one of these to {sidecar_path(path)}: {' or '.join(starts)}",
    )


def _fill_names(path: Path, evidence: Evidence, said: Output) -> Output:
    """A sidecar's layout with the names of its outputs: those of a reading that agrees, or the only output that can be it."""
    open_keys = [key for key in _NAME_KEYS if getattr(said, key, "") is None]
    for reading in readings(evidence, None):
        if type(reading) is type(said):
            return replace(said, **{key: getattr(reading, key) for key in open_keys})
    ranks = _RANKS.get(type(said), ())
    fitting = [name for name, array in evidence.outputs.items() if array.ndim in ranks]
    if "output" not in open_keys or len(fitting) != 1:
        raise InputError(
            f"which output is '{open_keys[0]}' is not clear: the model gives {', '.join(evidence.outputs)}",
            where=sidecar_path(path),
            remedy=f"name {' and '.join(open_keys)} in the sidecar's 'output'",
        )
    return replace(said, output=fitting[0])


def _with_preparation(sidecar: Sidecar, network: Network, takes_any_size: bool) -> tuple[Sidecar, tuple[str, ...]]:
    """A sidecar that leaves nothing open of how images go in, and what of that was guessed."""
    usual = _usual_preparation(sidecar.output, takes_any_size)
    if network.entry.dtype == "uint8" or {sidecar.scale, sidecar.mean, sidecar.std} != {None}:
        usual = {key: value for key, value in usual.items() if key not in ("mean", "std")}
        usual["scale"] = _plain_scale(network)
    usual["color"] = usual.get("color", "rgb")
    guessed = {key: value for key, value in usual.items() if getattr(sidecar, key) is None}
    if "resize" in guessed:
        guessed["crop"] = usual.get("crop", sidecar.crop)
    full = replace(sidecar, **guessed)
    if full.resize == "none":
        full = replace(full, size=None)
    if guessed.get("scale") == _UNIT:
        guessed["scale"] = "1/255"
    told = [f"{key} {guessed[key]}" for key in ("resize", "color", "scale", "mean", "std") if key in guessed]
    return full, (f"nothing says how images go in; taken as usual for such a model: {', '.join(told)}",) if told else ()


def _usual_preparation(output: Output | None, takes_any_size: bool) -> dict[str, Any]:
    """How the project that a layout comes from prepares images."""
    unit = {"scale": _UNIT}
    match output:
        case Yolox():
            return {"resize": "letterbox", "pad": 114.0, "color": "bgr", "scale": 1.0}
        case Yolov5() | Yolov8() | Rows():
            return {"resize": "letterbox_centre", "pad": 114.0, **unit}
        case NanoDet():
            return {"resize": "squash", "color": "bgr", "scale": 1.0, **_NANODET_BGR}
        case Detections() if takes_any_size:  # torchvision's resize inside
            return {"resize": "none", **unit}
        case Detections() | Detr(activation="sigmoid"):
            return {"resize": "squash", **unit}
        case Detr():
            return {"resize": "squash", **unit, **_IMAGENET}
        case BoxesScores():
            return {"resize": "squash", "scale": 1.0, "mean": (127.0,), "std": (128.0,)}
        case Logits():
            return {"resize": "shortest_side_crop", "crop": 0.875, **unit, **_IMAGENET}
    return {"resize": "squash", **unit, **_IMAGENET}
