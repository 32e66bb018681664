"""Networks by the name 'arch/encoder', and the weights they begin with.

    unet/builtin                    on curate's own encoder (`builtin`), which ships with its weights
    unet/mobilenet_v2               of segmentation_models_pytorch, on an encoder of smp's own
    fpn/tu-mobilenetv4_conv_small   on one of timm's, with 'tu-' before its name

Weights are 'pretrained' (the encoder's; of smp and timm on ImageNet, from the hub or its cache on this disk), 'scratch', or a
local safetensors file: of a whole network such as a run's `model.safetensors`, or of the encoder alone.
"""

from __future__ import annotations

import difflib
import importlib.util
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from curate.errors import CurateError, InputError, MissingExtra, UnavailableError, UsageError
from curate.models.encoders.hub import first_line, hub, hub_cache, require_hub
from curate.models.predictors.base import Size
from curate.models.training.base import PRETRAINED, SCRATCH
from curate.models.training.defaults import EXTRA

ARCHITECTURES: Final = ("unet", "fpn", "deeplabv3plus", "segformer")
"""Decoders that are known to train and to export here; Ronneberger et al. 2015, Kirillov et al. 2019, Chen et al. 2018, and
Xie et al. 2021."""

DEFAULT_MODEL: Final = "unet/builtin"

STRIDE: Final = 32
"""Sides of the input are whole multiples of this many pixels."""

_BUILTIN: Final = "builtin"
_TIMM: Final = "tu-"
_HEAD: Final = "segmentation_head."
_ENCODER: Final = "encoder."
# What files of an encoder alone leave out of its names, the longest first.
_PREFIXES: Final = ("encoder.model.", _ENCODER)
_SYNTAX: Final = (
    f"write {DEFAULT_MODEL}, or ARCHITECTURE/ENCODER such as unet/mobilenet_v2; "
    f"architectures: {', '.join(ARCHITECTURES)}"
)
_IMAGENET: Final = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class Network:
    """A network and what it was told before it learns anything.

    Attributes:
        module: torch module; float32 images of shape (n, 3, height, width) to logits of shape (n, channels, height, width).
        weights: Where its weights came from: 'pretrained', 'scratch' or the file.
        trained: Whether its encoder has learnt something.
        mean: Of each colour, in [0, 1], subtracted from the images before.
        std: The same, divided by after that.
    """

    module: Any
    weights: str
    trained: bool
    mean: tuple[float, float, float]
    std: tuple[float, float, float]


def make_network(model: str, channels: int, size: Size, weights: str | None, say: Callable[[str], None]) -> Network:
    """Make a network.

    Args:
        model: 'arch/encoder'.
        channels: Of its output.
        size: (height, width) of its input.
        weights: 'pretrained', 'scratch', a safetensors file; None for the pretrained ones if they are on this disk already,
            else none.
        say: Told what was chosen, where `weights` leaves it open, and what of a file is not used.

    Raises:
        UsageError: There is no such network.
        UnavailableError: Pretrained weights are not on this disk and cannot be fetched.
        InputError: The file is not of this network.
        MissingExtra: segmentation_models_pytorch is not installed.
    """
    if model != DEFAULT_MODEL and importlib.util.find_spec("segmentation_models_pytorch") is None:
        raise MissingExtra("segmentation-models-pytorch", EXTRA)
    architecture, encoder = _parse(model)

    def create(trained: bool) -> Any:
        if model == DEFAULT_MODEL:
            return _create_builtin(size, channels, trained)
        return _create(architecture, encoder, channels, trained)

    mean, std = _normalisation(encoder)
    if model == DEFAULT_MODEL and weights in (None, PRETRAINED):
        return Network(create(True), PRETRAINED, True, mean, std)
    if weights is None:
        module = _from_cache(create)
        weights = SCRATCH if module is None else PRETRAINED
        if module is None:
            say(
                f"{model} begins with random weights: pretrained ones are not on this disk (--weights pretrained fetches them)"
            )
            module = create(False)
        else:
            say(f"{model} begins with pretrained weights")
    elif weights == PRETRAINED:
        module = _from_hub(create, encoder)
    else:
        module = create(False)
        if weights != SCRATCH:
            _load(module, Path(weights).expanduser(), model, say)
    return Network(module, weights, weights != SCRATCH, mean, std)


def _parse(model: str) -> tuple[str, str]:
    """Architecture and encoder, which are known to exist."""
    architecture, _, encoder = model.partition("/")
    architecture = architecture.lower()
    if architecture not in ARCHITECTURES or not encoder:
        raise UsageError(f"'{model}' is no network for segmentation", remedy=_SYNTAX)
    if model == DEFAULT_MODEL:
        return architecture, encoder
    with hub(online=False):
        import segmentation_models_pytorch as smp
        import timm
    name = encoder.removeprefix(_TIMM)
    if encoder.startswith(_TIMM):
        is_known, near = (
            timm.is_model(name),
            [_TIMM + each for each in difflib.get_close_matches(name, timm.list_models())],
        )
    else:
        known = smp.encoders.get_encoder_names()
        is_known, near = encoder in known, difflib.get_close_matches(encoder, known)
        near += [_TIMM + encoder] if timm.is_model(encoder) else []
    if not is_known:
        raise UsageError(
            f"there is no encoder '{encoder}'", where=model, remedy=f"like: {', '.join(near)}" if near else _SYNTAX
        )
    return architecture, encoder


def _create_builtin(size: Size, channels: int, trained: bool) -> Any:
    """The network on curate's own encoder."""
    from curate.models.training.segment.builtin import BuiltinUnet

    return BuiltinUnet(size, channels, trained=trained)


def _create(architecture: str, encoder: str, channels: int, trained: bool) -> Any:
    """The network, with random weights but for those of a trained encoder."""
    import segmentation_models_pytorch as smp

    weights = (True if encoder.startswith(_TIMM) else "imagenet") if trained else None
    try:
        return smp.create_model(architecture, encoder, weights, classes=channels)
    except (OSError, RuntimeError):  # of the hub
        raise
    except (
        Exception
    ) as error:  # an encoder without the strides that the decoder wants; timm's and smp's own have no base
        raise UsageError(
            f"{architecture} cannot be built on {encoder}: {first_line(error)}", remedy=f"another encoder; {_SYNTAX}"
        ) from error


def _normalisation(encoder: str) -> tuple[tuple[float, float, float], tuple[float, float, float]]:
    """Mean and deviation that an encoder was trained with."""
    if encoder == _BUILTIN:  # which does it itself
        return (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)
    if not encoder.startswith(_TIMM):
        return _IMAGENET
    import timm

    known = timm.get_pretrained_cfg(encoder.removeprefix(_TIMM), allow_unregistered=True)
    return (tuple(known.mean), tuple(known.std)) if known is not None else _IMAGENET


def _from_cache(create: Callable[[bool], Any]) -> Any | None:
    """The network with pretrained weights that were fetched before; None if they were not."""
    if not any(hub_cache().glob("models--*/snapshots/*/*")):
        return None
    try:
        with hub(online=False):
            return create(True)
    except (OSError, RuntimeError, CurateError):
        return None


def _from_hub(create: Callable[[bool], Any], encoder: str) -> Any:
    """The network with pretrained weights, fetched where they are not on this disk."""
    module = _from_cache(create)
    if module is not None:
        return module
    require_hub(
        encoder,
        remedy="--weights scratch; or a local safetensors file; or fetch them once where there is a network and copy the "
        f"cache folder {hub_cache()}",
    )
    with hub(online=True):
        try:
            return create(True)
        except (OSError, RuntimeError) as error:
            raise UnavailableError(
                f"the weights of '{encoder}' could not be fetched: {first_line(error)}",
                remedy="try again, or --weights scratch",
            ) from error


def _load(module: Any, path: Path, model: str, say: Callable[[str], None]) -> None:
    """Put weights of a file into the network: all but a head of other classes, or those of the encoder."""
    own = module.state_dict()
    try:
        given = _named_as(own, _read(path))
    except Exception as error:  # safetensors' own have no common base
        raise InputError(
            f"the weights cannot be read: {first_line(error)}",
            where=path,
            remedy="give a safetensors file, or write 'pretrained' or 'scratch'",
        ) from error
    fits = {name: value for name, value in given.items() if name in own and value.shape == own[name].shape}
    wanted = [name for name in own if not name.startswith(_HEAD)]
    if not any(not name.startswith(_ENCODER) for name in fits):
        wanted = [name for name in wanted if name.startswith(_ENCODER)]
        say(f"{path.name} has weights of the encoder alone; the rest of {model} begins with random ones")
    elif any(name not in fits for name in own):
        say(f"{path.name} was trained for other classes; the head of {model} begins with random weights")
    # Counters of batch normalisation say nothing of what was learnt, and some files do without.
    missing = [name for name in wanted if name not in fits and not name.endswith("num_batches_tracked")]
    if missing:
        raise InputError(
            f"the weights are not those of {model}: {len(missing)} of {len(wanted)} do not fit, first '{missing[0]}'",
            where=path,
            remedy="give --model as the file was trained",
        )
    module.load_state_dict(fits, strict=False)


def _read(path: Path) -> dict[str, Any]:
    from safetensors.torch import load_file

    found: dict[str, Any] = load_file(path)
    return found


def _named_as(own: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """Weights by the names they have in the network: files of an encoder alone leave 'encoder.' out."""
    shared = {prefix: sum(prefix + name in own for name in given) for prefix in ("", *_PREFIXES)}
    best = max(shared, key=lambda prefix: shared[prefix])
    return {best + name: value for name, value in given.items()}
