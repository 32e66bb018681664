"""From a model's name and weights to a network that is ready to learn."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, Final

from curate.errors import InputError, MissingExtra, UsageError
from curate.models.encoders.hub import first_line, hub
from curate.models.predictors.network import open_network
from curate.models.predictors.recognise import recognise
from curate.models.predictors.sidecar import read_sidecar
from curate.models.training.base import PRETRAINED, SCRATCH, TrainingSettings
from curate.models.training.detect.backbones import (
    Backbone,
    Normalisation,
    builtin_backbone,
    onnx_backbone,
    timm_backbone,
)
from curate.models.training.detect.base import Detector
from curate.models.training.detect.defaults import BUILTIN, FCOS, ONNX, ONNX_WEIGHTS, SSDLITE
from curate.models.training.detect.detr import FAMILIES, build_detr
from curate.models.training.detect.fcos import Fcos
from curate.models.training.detect.fetching import fetched
from curate.models.training.detect.ssdlite import build_ssdlite

_SYNTAX: Final = (
    f"{FCOS}/{BUILTIN}, {FCOS}/NETWORK (of timm), {SSDLITE}, rtdetr/ID, dfine/ID; or --weights {ONNX_WEIGHTS}PATH"
)


def build(
    settings: TrainingSettings, counts: Sequence[int], size: tuple[int, int], tell: Callable[[str], None]
) -> Detector:
    """Make a network, with its weights.

    Args:
        settings: With model and weights.
        counts: Objects of each class in the training images.
        size: (height, width) of its input.
        tell: Told which weights were not used.

    Raises:
        UsageError: There is no such model.
        InputError: The weights cannot be read, or are another network's.
        UnavailableError: They are not on this disk and cannot be fetched.
    """
    model, weights = settings.model or "", settings.weights or SCRATCH
    family, _, name = model.partition("/")
    local = Path(weights).expanduser() if weights not in (PRETRAINED, SCRATCH) else None
    if local is not None and weights.startswith(ONNX_WEIGHTS):
        local = None
    pretrained = weights == PRETRAINED
    detector: Detector
    if family == FCOS and name:
        detector = Fcos(_backbone(name, weights, size, settings.options or {}), counts)
    elif model == SSDLITE:
        detector = build_ssdlite(len(counts), pretrained=pretrained)
    elif family in FAMILIES:
        detector = build_detr(family, name, len(counts), pretrained=pretrained)
    else:
        raise UsageError(f"there is no detector '{model}'", remedy=f"one of: {_SYNTAX}")
    if local is not None:
        load_weights(detector, local, tell)
    return detector


def load_weights(module: Any, path: Path, tell: Callable[[str], None]) -> None:
    """Load weights of the same network; those that are of other classes start anew.

    Raises:
        InputError: They cannot be read, or are another network's.
    """
    from safetensors.torch import load_file

    if not path.is_file():
        raise InputError(
            "the weights file is not there", where=path, remedy="'pretrained', 'scratch', or a .safetensors file"
        )
    try:
        given: Mapping[str, Any] = load_file(path)
    except Exception as error:  # safetensors has an error of its own, and the system others
        raise InputError(
            f"the weights cannot be read: {first_line(error)}", where=path, remedy="give a .safetensors file"
        ) from error
    own = module.state_dict()
    fitting = {name: value for name, value in given.items() if name in own and own[name].shape == value.shape}
    anew = [name for name in own if name not in fitting]
    wrong = [name for name in anew if not any(part in name for part in module.of_classes)]
    if wrong:
        raise InputError(
            f"the weights are not those of the network: {len(wrong)} do not fit, first '{wrong[0]}'",
            where=path,
            remedy="choose the --model that they were trained as, with the same settings",
        )
    module.load_state_dict(fitting, strict=False)
    if anew:
        tell(f"the weights in {path} are of other classes, which are learnt anew")


def _backbone(name: str, weights: str, size: tuple[int, int], options: Mapping[str, Any]) -> Backbone:
    names = [each.strip() for each in str(options["features"]).split(",")] if options.get("features") else None
    if name == ONNX:
        path = Path(weights.removeprefix(ONNX_WEIGHTS)).expanduser()
        return onnx_backbone(path, size, normalisation(path, options), names)
    if name == BUILTIN:
        return reset(builtin_backbone(size)) if weights == SCRATCH else builtin_backbone(size)
    try:
        import timm
    except ImportError as error:
        raise MissingExtra("timm", "train") from error
    if not timm.is_model(name):
        raise UsageError(f"timm has no network named '{name}'", remedy="timm.list_models()")
    create = partial(timm.create_model, name, pretrained=weights == PRETRAINED)
    if weights == PRETRAINED:
        return fetched(partial(timm_backbone, name, create), name)
    with hub(online=False):
        return timm_backbone(name, create)


def normalisation(path: Path, options: Mapping[str, Any]) -> Normalisation:
    """What a network in ONNX wants done to its images: as its sidecar or the options say, or as detectors of its kind do."""
    sidecar = read_sidecar(path)
    with suppress(InputError):  # of outputs that are no detector's; whatever is known is enough
        sidecar = recognise(open_network(path, sidecar), sidecar).sidecar
    color = str(options.get("color") or sidecar.color or "rgb")
    return Normalisation(color, sidecar.scale or 1.0, sidecar.mean or (0.0,), sidecar.std or (1.0,))


def reset(backbone: Backbone) -> Backbone:
    """The same network knowing nothing (He et al., ICCV 2015)."""
    import torch

    for weight in backbone.parameters():
        if weight.ndim > 1:
            torch.nn.init.kaiming_normal_(weight, nonlinearity="relu")
        else:
            torch.nn.init.zeros_(weight)
    return backbone
