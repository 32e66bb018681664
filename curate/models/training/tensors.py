"""Tensors of a network that learns: which of them training changes, copies of them, and where they are."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def learnt(module: Any) -> dict[str, Any]:
    """The tensors of a module that training changes: what is frozen is what a learner begins with, and need not be kept."""
    frozen = {name for name, weight in module.named_parameters() if not weight.requires_grad}
    for prefix, part in module.named_modules():
        if _is_frozen(part):
            frozen |= {f"{prefix}.{name}" if prefix else name for name, _ in part.named_buffers()}
    return {name: value for name, value in module.state_dict().items() if name not in frozen}


def load_learnt(module: Any, tensors: Mapping[str, Any]) -> None:
    """Put back what `learnt` gave, for a module of the same names and shapes."""
    expected = learnt(module).keys()
    if expected != tensors.keys():
        raise ValueError(f"'{min(expected ^ tensors.keys())}' is in one and not in the other")
    module.load_state_dict(tensors, strict=False)


def copied(tensors: Mapping[str, Any]) -> dict[str, Any]:
    """Tensors with memory of their own, on the CPU: a GPU has little."""
    return {name: value.detach().to("cpu", copy=True) for name, value in tensors.items()}


def to_train_mode(module: Any) -> None:
    """Train mode, but for parts whose weights are all frozen: running means of theirs would change."""
    module.train()
    for part in module.modules():
        if _is_frozen(part):
            part.eval()


def to_device(content: Any, device: str | None) -> Any:
    """A batch with its tensors on a device."""
    import torch

    if device in (None, "cpu"):
        return content
    if isinstance(content, torch.Tensor):
        return content.to(device, non_blocking=True)
    if isinstance(content, Mapping):
        return {key: to_device(value, device) for key, value in content.items()}
    if isinstance(content, tuple) and hasattr(content, "_fields"):
        return type(content)(*(to_device(value, device) for value in content))
    if isinstance(content, list | tuple):
        return type(content)(to_device(value, device) for value in content)
    return content


def _is_frozen(part: Any) -> bool:
    """Whether a part of a module has weights, and none that may change."""
    weights = list(part.parameters())
    return bool(weights) and not any(weight.requires_grad for weight in weights)
