"""Encoders by spec string: the name of an encoder, and what it wants after a colon.

    builtin                                 ships with curate; works offline, at once
    builtin:style                           its other view: light, colour, blur, noise, how a picture is drawn
    clip:ViT-B-32/laion2b_s34b_b79k         open_clip, weights by tag
    clip:ViT-B-32//data/clip.safetensors    open_clip, weights from a local file
    clip:/data/my-clip                      open_clip, a folder with open_clip_config.json and weights
    timm:resnet18.a1_in1k                   timm, weights by tag
    timm:resnet18//data/resnet.safetensors  timm, weights from a local file
    onnx:/data/encoder.onnx                 any ONNX image encoder, with or without a text side
    auto                                    CLIP where its weights are on this disk, else builtin

An encoder made from local weights has a digest of them in its name (``onnx:encoder.onnx@1f0c22ab``), so that vectors of two
versions of a file are never compared. A name is a spec, with the path from the root: loading it again, from any folder, checks
the digest. Behind clip, timm and onnx specs
``?precision=bf16`` asks for speed at the price of exactness (`curate.models.runtime`), and stays in the name.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final

from curate.errors import InputError, UnavailableError, UsageError
from curate.models.encoders.base import Encoder
from curate.registry import Registry

ENCODERS: Final[Registry[Callable[[str], Encoder]]] = Registry(
    "encoder",
    {
        "auto": "curate.models.encoders.registry:load_auto",
        "builtin": "curate.models.encoders.builtin:load",
        "builtin-v0": "curate.models.encoders.descriptor:load",
        "builtin-v1": "curate.models.encoders.builtin:load",
        "clip": "curate.models.encoders.clip:load",
        "onnx": "curate.models.encoders.onnx:load",
        "timm": "curate.models.encoders.timm:load",
    },
)
"""Loaders by name: each takes what stands after the colon ('' if nothing does)."""

_DIGEST = re.compile(r"(?P<spec>.+)@(?P<digest>[0-9a-f]{8})")


def load_encoder(spec: str) -> Encoder:
    """Load an encoder.

    Args:
        spec: As in the module's docstring, or an encoder's `name`.

    Raises:
        UsageError: There is no such encoder, or it does not understand the spec.
        InputError: A weights file cannot be read, or is not the one that the name's digest stands for.
        UnavailableError: Weights that are neither on this disk nor to be fetched; `MissingExtra` for a package.
    """
    match = _DIGEST.fullmatch(spec)
    name, _, argument = (match["spec"] if match else spec).partition(":")
    encoder = ENCODERS.get(name)(argument)
    if match and not encoder.name.endswith(f"@{match['digest']}"):
        raise InputError(
            "the weights are not the ones that the vectors were made with",
            where=spec,
            remedy=f"embed again: curate embed --encoder '{match['spec']}'; or put the old files back",
        )
    return encoder


def load_auto(argument: str) -> Encoder:
    """CLIP with its default weights if it is exported, or they are on this disk and open_clip is installed; else `builtin`.

    The `name` of what is returned says which. Never touches the network.
    """
    from curate.models.encoders import clip

    if argument:
        raise UsageError(f"'auto' takes no argument, got '{argument}'", remedy="write 'auto', or name an encoder")
    if clip.default_is_at_hand():
        try:
            return ENCODERS.get("clip")("")
        except UnavailableError:  # a download that was broken off, say
            pass
    return ENCODERS.get("builtin")("")
