"""Where a trained classifier looks: Grad-CAM (Selvaraju et al., ICCV 2017), of convolutional networks.

    explainer = load_explainer("run:bolts-1")
    heat = explainer.heat(pixels, "nut", against="bearing")   # float32 of the picture's height and width, 0 to 1
    Image.fromarray(overlay(pixels, heat))

The maps of one layer, weighted by the mean of their gradients, say which places speak for a class. They are as coarse as the
layer is: the last one of a ResNet has a place for every 32 pixels, an earlier one more of them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from curate.errors import UsageError
from curate.imaging import Pixels
from curate.models.predictors.preparation import Preparation, make_preparation
from curate.models.training.classify import builtin
from curate.models.training.classify.timm import TimmNetwork
from curate.models.training.runs import WEIGHTS_FILE, read_run, run_folder

Heat = npt.NDArray[np.float32]

_PREFIX: Final = "run:"
_COLOR: Final = np.array([255.0, 32.0, 0.0], np.float32)
_COVER: Final = 0.65  # of a pixel, where the heat is 1


@dataclass(frozen=True)
class Explainer:
    """A classifier that can be asked where it looks; `load_explainer` makes it.

    Attributes:
        classes: Names, in the order of the class numbers.
        module: The network, in eval mode on the CPU.
        preparation: From pixels to its input.
    """

    classes: tuple[str, ...]
    module: Any
    preparation: Preparation

    def heat(self, pixels: Pixels, label: str, *, against: str | None = None, layer: str | None = None) -> Heat:
        """What in a picture speaks for a class.

        Args:
            pixels: uint8 of shape (height, width, 3), RGB.
            label: The class.
            against: Another class: what speaks for the first one and not for this.
            layer: As for `grad_cam`.

        Returns:
            float32 of shape (height, width), 0 to 1.

        Raises:
            UsageError: The network knows no such class, or as for `grad_cam`.
        """
        import torch

        target, other = self._number(label), None if against is None else self._number(against)
        inputs = torch.from_numpy(self.preparation(pixels).array)[None]
        found = torch.from_numpy(grad_cam(self.module, inputs, target, against=other, layer=layer))
        scaled = _resized(found, (pixels.shape[0], pixels.shape[1]))
        return np.asarray(scaled.clamp(0, 1).numpy())

    def _number(self, label: str) -> int:
        if label not in self.classes:
            raise UsageError(f"the network knows no class '{label}'", remedy=f"one of {', '.join(self.classes)}")
        return self.classes.index(label)


def load_explainer(spec: str) -> Explainer:
    """The network of a run of `curate train --task classify`, as torch has it.

    Args:
        spec: 'run:NAME', or 'run:NAME/fold-2' for a model of a run with folds.

    Raises:
        UsageError: There is no such run, or it is no finished one of a network of timm.
        InputError: Its weights cannot be read, or are not the network's: a pruned one has another shape.
        MissingExtra: timm is not installed.
    """
    name = spec.removeprefix(_PREFIX)
    run = read_run(name)
    if run is None or run.folds is not None or run.task != "classify" or run.model == builtin.NAME:
        raise UsageError(
            "only a finished classifier of a network of timm can be asked where it looks",
            where=spec,
            remedy="curate train --task classify --model resnet50, say; of a run with folds name one: run:NAME/fold-1",
        )
    weights = run_folder(name) / WEIGHTS_FILE
    network = TimmNetwork(run.model, str(weights), run.classes, "nothing", run.settings["image_size"], "cpu")
    return Explainer(run.classes, network.module.eval(), make_preparation(network.sidecar, network.dtype))


def grad_cam(module: Any, inputs: Any, target: int, *, against: int | None = None, layer: str | None = None) -> Heat:
    """Grad-CAM of one input.

    Args:
        module: torch.nn.Module in eval mode that gives logits, of shape (1, classes).
        inputs: Tensor of shape (1, channels, height, width).
        target: Number of the class.
        against: Number of another class: the gradient is that of the difference of the two logits.
        layer: Name of a part of the module that gives maps, as 'layer3' of a ResNet; None for the last that does.

    Returns:
        float32 of shape (height, width), at most 1: the largest value is 1, or all are 0 where nothing speaks for the class.

    Raises:
        UsageError: There is no such class or layer, or nothing gives maps: tokens of a transformer are none.
    """
    import torch

    with torch.enable_grad():
        given = inputs.detach().clone().requires_grad_(True)  # else a frozen network would have no gradients
        name = layer if layer is not None else _last_map(module, given)
        parts = dict(module.named_modules())
        kept: list[Any] = []

        def keep(name: str, output: Any) -> Any:
            kept.append(output)
            return output.clone()  # what comes next may change it in place

        logits = _hooked(module, given, {name: parts[name]} if name in parts else {}, keep)
        for number in (target, against):
            if number is not None and not 0 <= number < logits.shape[1]:
                raise UsageError(f"the network has {logits.shape[1]} classes, and none of number {number}")
        if len(kept) != 1 or not _is_map(kept[0], module):
            raise UsageError(f"'{name}' gives no maps", where="layer", remedy=f"'{_last_map(module, given)}', say")
        score = logits[0, target] - (0 if against is None else logits[0, against])
        (gradient,) = torch.autograd.grad(score, kept[0], allow_unused=True)
    if gradient is None:
        raise UsageError(f"what '{name}' gives has no part in the answer", where="layer", remedy="name another one")
    maps, slopes = (_channels_first(each.detach(), module)[0] for each in (kept[0], gradient))
    heat = torch.relu((slopes.mean(dim=(1, 2), keepdim=True) * maps).sum(dim=0))
    heat = _resized(heat, inputs.shape[2:])
    return np.asarray((heat / heat.max().clamp(min=1e-12)).numpy())


def overlay(pixels: Pixels, heat: Heat) -> Pixels:
    """A picture, uint8 of shape (height, width, 3), with heat of its height and width in red on it."""
    weight = _COVER * heat[..., None]
    return np.asarray(np.round(pixels * (1 - weight) + _COLOR * weight), np.uint8)


def _last_map(module: Any, inputs: Any) -> str:
    """Name of the part that gives the last maps with more than one place.

    Raises:
        UsageError: There is none, or what the network makes of them are no maps any more.
    """
    names: list[str] = []

    def note(name: str, output: Any) -> None:
        if _is_map(output, module):
            names.append(name)

    features = getattr(module, "forward_features", None)
    if features is None or _is_map(features(inputs), module):
        _hooked(module, inputs, dict(module.named_modules()), note)
    if not names:
        raise UsageError(
            "the last features of the network are no maps: nothing says where they are on the picture",
            remedy="a convolutional network, as resnet50",
        )
    return names[-1]


def _hooked(module: Any, inputs: Any, parts: dict[str, Any], hook: Callable[[str, Any], Any]) -> Any:
    """What a module gives; a function is called with the name of each part and what it gives, and may give something else."""
    handles = [
        part.register_forward_hook(lambda part, taken, output, name=name: hook(name, output))
        for name, part in parts.items()
    ]
    try:
        return module(inputs)
    finally:
        for handle in handles:
            handle.remove()


def _is_map(output: Any, module: Any) -> bool:
    import torch

    if not isinstance(output, torch.Tensor) or output.ndim != 4:
        return False
    height, width = _channels_first(output, module).shape[2:]
    return bool(height * width > 1)


def _channels_first(maps: Any, module: Any) -> Any:
    """Maps of shape (n, channels, height, width); some of timm's networks have channels last, and say so."""
    return maps.permute(0, 3, 1, 2) if getattr(module, "output_fmt", None) == "NHWC" else maps


def _resized(heat: Any, size: Any) -> Any:
    import torch

    return torch.nn.functional.interpolate(heat[None, None], tuple(size), mode="bilinear", align_corners=False)[0, 0]
