"""Fewer channels: whole filters of the least weight are taken out, and with them whatever hangs on them.

Li et al., "Pruning Filters for Efficient ConvNets", ICLR 2017. Which layers hang together (a sum of two branches, a
depthwise convolution) is found by torch-pruning (Fang et al., "DepGraph", CVPR 2023; MIT licence), where it is installed.
"""

from __future__ import annotations

import warnings
from typing import Any, Final

import numpy.typing as npt

from curate.edge.compress.teacher import Taught
from curate.errors import InputError, MissingExtra, UsageError
from curate.models.encoders.hub import first_line

_MULTIPLE: Final = 8
"""Channels stay whole multiples of this: processors compute so many at once."""


def prune(learner: Taught, image: npt.NDArray[Any], share: float) -> dict[str, Any]:
    """Take channels out of a learner's module, in place.

    Args:
        learner: Whose module loses channels; on the CPU.
        image: Input of one row.
        share: Of the channels of each layer.

    Returns:
        How many weights there were and are.

    Raises:
        MissingExtra: torch-pruning is not installed.
        UsageError: The network is of a kind that cannot lose channels here.
        InputError: It cannot be followed from layer to layer.
    """
    import torch

    try:
        import torch_pruning
    except ImportError as error:
        raise MissingExtra("torch-pruning", "compress") from error
    module = learner.module
    require_prunable(module)
    example = torch.from_numpy(image[:1].copy()).float()
    before = sum(weight.numel() for weight in module.parameters())
    shapes = _shapes(module, example)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of parameters outside of layers, which keep their shape
            torch_pruning.pruner.BasePruner(
                module.eval(), example, importance=torch_pruning.importance.GroupMagnitudeImportance(p=1),
                pruning_ratio=share, ignored_layers=_outputs(module), round_to=_MULTIPLE,
            ).step()  # fmt: skip
        kept = _shapes(module, example)
    except Exception as error:  # torch-pruning's have no common base
        raise InputError(
            f"channels cannot be taken out of this network: {first_line(error)}",
            where=str(learner.settings.model),
            remedy="leave 'prune' out of --methods",
        ) from error
    if kept != shapes:
        raise InputError("taking channels out changed what the network gives", where=str(learner.settings.model))
    for weight in module.parameters():
        weight.requires_grad_(True)
    return {"weights_before": before, "weights": sum(weight.numel() for weight in module.parameters())}


def require_prunable(module: Any) -> None:
    """See that all layers of a network are modules, so that they can be followed.

    Raises:
        UsageError: Part of it is a graph from an ONNX file, as curate's own encoder is.
    """
    from curate.models.training.detect.graph import GraphModule

    if any(isinstance(part, GraphModule) for part in module.modules()):
        raise UsageError(
            "networks on the built-in encoder cannot lose channels",
            where="prune",
            remedy="train with a network of timm (--model), or use another of the --methods",
        )


def _outputs(module: Any) -> list[Any]:
    """Layers whose channels are what the network gives."""
    import torch

    if hasattr(module, "get_classifier"):
        return [module.get_classifier()]
    names = ("segmentation_head", "class_output", "box_output", "head")
    heads = [getattr(module, name) for name in names if hasattr(module, name)]
    kinds = (torch.nn.Conv2d, torch.nn.Linear, torch.nn.ConvTranspose2d)
    return [part for head in heads for part in head.modules() if isinstance(part, kinds)]


def _shapes(module: Any, example: Any) -> list[tuple[int, ...]]:
    import torch

    module.eval()
    with torch.no_grad():
        given = module(example)
    return [tuple(each.shape) for each in ([given] if isinstance(given, torch.Tensor) else given)]
