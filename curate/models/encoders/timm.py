"""Image networks of timm (Wightman, PyTorch Image Models), exported to ONNX on first use: the pooled features before the head.

    timm:resnet18.a1_in1k                            weights from the Hugging Face hub, by tag
    timm:resnet18//path/to/weights.safetensors       weights in a local file, with or without the head's

After the export, neither timm nor torch is imported (`curate.models.encoders.exported`). Images are squashed to the network's
input size, and normalised as its weights were trained.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any, Final

from curate.errors import InputError, MissingExtra, UsageError
from curate.models.encoders.base import Encoder
from curate.models.encoders.exported import Network, load_exported
from curate.models.encoders.hub import first_line, from_hub, hub
from curate.models.encoders.weights import NAME_DIGITS, WEIGHT_SUFFIXES, located, weights_key
from curate.models.runtime import precision_suffix, split_precision

_LOCAL_SYNTAX: Final = "timm:NAME//path/to/weights.safetensors"
_SYNTAX: Final = f"write timm:NAME.TAG or {_LOCAL_SYNTAX}"


def load(argument: str) -> Encoder:
    """Load an image network of timm.

    Args:
        argument: 'NAME.TAG' (weights by tag) or 'NAME/PATH' (weights in a local file); '?precision=bf16' may follow.

    Raises:
        UsageError: No such network, tag or precision.
        InputError: The local weights cannot be read or are not this network's.
        UnavailableError: The weights are not on this disk and the hub cannot be reached, or they cannot be exported.
        MissingExtra: timm is not installed, and the network is not exported yet.
    """
    spec, precision = split_precision(argument)
    network, _, file = spec.partition("/")
    if not network or (file and Path(file).suffix not in WEIGHT_SUFFIXES):
        raise UsageError(f"'timm:{spec}' does not name a network of timm with weights", remedy=_SYNTAX)
    suffix = precision_suffix(precision)
    if not file:
        return load_exported(f"timm:{spec}{suffix}", f"timm:{network}", partial(_build, network, None), precision)
    path = located(file)
    if not path.is_file():
        raise InputError("the weights file is not there", where=path, remedy=_SYNTAX)
    key = weights_key(path)
    name = f"timm:{network}/{path}{suffix}@{key[:NAME_DIGITS]}"
    return load_exported(name, f"timm:{network}@{key}", partial(_build, network, path), precision)


def is_installed() -> bool:
    """Whether timm and torch are there, without importing them."""
    return all(importlib.util.find_spec(package) is not None for package in ("torch", "timm"))


def _build(name: str, weights: Path | None) -> Network:
    """The torch model, for the export."""
    if not is_installed():
        raise MissingExtra("timm", "clip")
    with hub(online=False):
        _require_network(name, with_tag=weights is None)
    fetch = partial(_pretrained, name)
    model = _local(name, weights) if weights is not None else from_hub(fetch, name, local=_LOCAL_SYNTAX)
    from timm.data import resolve_model_data_config

    config = resolve_model_data_config(model)
    _, height, width = config["input_size"]
    return Network(model, (height, width), config["mean"], config["std"], text=None)


def _require_network(name: str, *, with_tag: bool) -> None:
    import timm

    if not timm.is_model(name):
        raise UsageError(f"timm has no network named '{name}'", remedy="timm.list_models()")
    known = timm.list_pretrained(f"{name.partition('.')[0]}.*")
    # Without a tag, the weights would be those that this version of timm prefers.
    if with_tag and name not in known:
        raise UsageError(
            f"timm has no weights '{name}'" if "." in name else f"'{name}' does not say which weights",
            remedy=f"one of: {', '.join(known)}" if known else f"there are none to be fetched: write {_LOCAL_SYNTAX}",
        )


def _pretrained(name: str) -> Any:
    """The network with weights by tag."""
    import timm

    return timm.create_model(name, pretrained=True, num_classes=0)


def _local(name: str, path: Path) -> Any:
    """The network with the weights in a file.

    Raises:
        InputError: They cannot be read, or are not all that the network needs, or more than it and its head have.
    """
    import timm

    model = timm.create_model(name, pretrained=False, num_classes=0)
    heads = model.pretrained_cfg.get("classifier") or ()
    try:
        missing, unexpected = model.load_state_dict(_read_weights(path), strict=False)
    except Exception as error:  # torch, safetensors and pickle each raise their own
        raise InputError(
            f"the weights cannot be loaded: {first_line(error)}",
            where=path,
            remedy=f"check that they are of the network '{name}'",
        ) from error
    head = tuple(f"{each}." for each in ([heads] if isinstance(heads, str) else heads))
    wrong = [*missing, *(key for key in unexpected if not key.startswith(head))]
    if wrong:
        raise InputError(
            f"the weights are not those of the network: {len(wrong)} do not fit, first '{wrong[0]}'",
            where=path,
            remedy=f"check that they are of the network '{name}'",
        )
    return model


def _read_weights(path: Path) -> Mapping[str, Any]:
    """A state dict by name; nothing else than tensors is read from a pickle."""
    if path.suffix == ".safetensors":
        from safetensors.torch import load_file

        content = load_file(path)
    else:
        import torch

        content = torch.load(path, map_location="cpu", weights_only=True)
    inner = content.get("state_dict", content)
    return inner if isinstance(inner, Mapping) else {}
