"""Weights of the hub for detectors: from its cache on this disk, else fetched, else an error that says what needs none."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from curate.errors import UnavailableError
from curate.models.encoders.hub import from_hub, hub_cache

T = TypeVar("T")


def fetched(create: Callable[[], T], name: str) -> T:
    """Make a network with weights that the hub has.

    Args:
        create: Makes it.
        name: What the weights are called.

    Raises:
        UnavailableError: The weights are not on this disk and cannot be fetched.
    """
    try:
        return from_hub(create, name, local="")
    except UnavailableError as error:
        raise UnavailableError(
            error.what,
            where=f"--model {name}",
            remedy="--model fcos/builtin needs none; or --weights scratch; or onnx:PATH or FILE.safetensors; or load them "
            f"once where there is a network, and copy the cache folder {hub_cache()}",
        ) from error
