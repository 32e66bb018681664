"""CLIP through open_clip (Radford et al., ICML 2021; Cherti et al., CVPR 2023), exported to ONNX on first use.

Weights come from a local file or folder, or by tag from the Hugging Face hub. After the export, neither open_clip nor torch is
imported (`curate.models.encoders.exported`); texts too are read without them where the model has CLIP's own tokenizer. The
whole image is squashed to the model's input instead of cutting out the centre: what is annotated is often long and thin, or
off-centre.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np

from curate.errors import InputError, MissingExtra, UsageError
from curate.models.encoders.base import Encoder
from curate.models.encoders.clip_tokenizer import ClipTokenizer, IntArray
from curate.models.encoders.exported import Network, TextSide, is_exported, load_exported
from curate.models.encoders.hub import first_line, from_hub, hub, hub_cache
from curate.models.encoders.weights import WEIGHT_SUFFIXES, weights_digest
from curate.models.runtime import precision_suffix, split_precision

DEFAULT_MODEL: Final = "ViT-B-32/laion2b_s34b_b79k"
_DEFAULT_REPOSITORY: Final = "laion/CLIP-ViT-B-32-laion2B-s34B-b79K"

_LOCAL_SYNTAX: Final = "clip:MODEL//path/to/weights.safetensors"
_SYNTAX: Final = f"write clip:MODEL/TAG, {_LOCAL_SYNTAX} or clip:/folder"
_CONFIG: Final = "open_clip_config.json"

# What the exported text side, and our reading of texts, are compared on with open_clip's.
_EXAMPLES: Final = (
    "a photo of a cat",
    "Scratched BOLT in low light, 3.5 mm; it's bent -- isn't it?",
    "schräge Kante & Straße, 汽车 №42",
    "",
    " ".join(["one word after another until the text is too long for any model's context"] * 20),
)


def load(argument: str) -> Encoder:
    """Load an open_clip model, a `TextEncoder` if its text side can be exported.

    Args:
        argument: 'MODEL/TAG' (weights by tag), 'MODEL/PATH' (weights in a local file), the path of a folder with
            open_clip_config.json and weights, 'hf-hub:OWNER/NAME', or '' for `DEFAULT_MODEL`; '?precision=bf16' may follow.

    Raises:
        UsageError: No such model, tag or precision.
        InputError: The local weights cannot be read or are not this model's.
        UnavailableError: The weights are not on this disk and the hub cannot be reached, or they cannot be exported.
        MissingExtra: open_clip is not installed, and the model is not exported yet.
    """
    spec, precision = split_precision(argument)
    source = _parse(spec or DEFAULT_MODEL)
    name = f"clip:{source.spec}{precision_suffix(precision)}"
    if source.files:
        name += f"@{weights_digest(*source.files)}"
    return load_exported(name, source.key, partial(_build, source), precision)


def is_installed() -> bool:
    """Whether open_clip and torch are there, without importing them."""
    return all(importlib.util.find_spec(package) is not None for package in ("torch", "open_clip"))


def default_is_at_hand() -> bool:
    """Whether the default model is exported, or can be: its weights are in the hub's cache and open_clip is installed."""
    if is_exported(_parse(DEFAULT_MODEL).key):
        return True
    folder = f"models--{_DEFAULT_REPOSITORY.replace('/', '--')}"
    return is_installed() and any(path.exists() for path in hub_cache().glob(f"{folder}/snapshots/*/open_clip_*"))


@dataclass(frozen=True)
class _Source:
    """What a spec asks for: an open_clip model name, and its weights by tag or as files, the weights first."""

    spec: str
    model: str
    pretrained: str | None
    files: tuple[Path, ...] = ()

    @property
    def key(self) -> str:
        """Tells the weights from all others; not by where local files are."""
        if not self.files:
            return f"clip:{self.spec}"
        return f"clip:{self.model.partition(':')[0]}@{weights_digest(*self.files)}"


def _parse(spec: str) -> _Source:
    folder = Path(spec.removeprefix("local-dir:")).expanduser()
    if spec.startswith("local-dir:") or folder.is_dir():
        return _Source(spec, f"local-dir:{folder}", None, (_weights_in(folder), folder / _CONFIG))
    if spec.startswith("hf-hub:"):
        return _Source(spec, spec, None)
    model, _, rest = spec.partition("/")
    if not model or not rest:
        raise UsageError(f"'{spec}' does not say which CLIP weights", remedy=_SYNTAX)
    path = Path(rest).expanduser()
    if path.suffix not in WEIGHT_SUFFIXES:
        return _Source(spec, model, rest)
    if not path.is_file():
        raise InputError("the weights file is not there", where=path, remedy=_SYNTAX)
    return _Source(spec, model, str(path), (path,))


def _weights_in(folder: Path) -> Path:
    files = sorted(path for path in folder.glob("*") if path.suffix in WEIGHT_SUFFIXES)
    if not files or not (folder / _CONFIG).is_file():
        raise InputError(
            f"the folder has no {_CONFIG} with weights beside it",
            where=folder,
            remedy=f"name a folder that open_clip saved, or write {_LOCAL_SYNTAX}",
        )
    return files[0]


def _build(source: _Source) -> Network:
    """The torch model, for the export."""
    if not is_installed():
        raise MissingExtra("open_clip_torch", "clip")
    from_tag = not source.files
    model = from_hub(partial(_create, source), source.spec, local=_LOCAL_SYNTAX) if from_tag else _from_disk(source)
    import open_clip

    config = open_clip.get_model_preprocess_cfg(model)
    size = config["size"]
    height, width = (size, size) if isinstance(size, int) else size
    return Network(
        _side(model, "encode_image"), (height, width), config["mean"], config["std"], _text_side(source, model)
    )


def _side(model: Any, method: str) -> Any:
    """A method of a torch module as a module of its own."""
    import torch

    class Side(torch.nn.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, rows: Any) -> Any:
            return getattr(self.model, method)(rows)

    return Side()


def _text_side(source: _Source, model: Any) -> TextSide | str:
    import open_clip

    read = partial(open_clip.get_tokenizer, source.model)
    try:
        theirs = _offline(read) if source.files else from_hub(read, f"{source.spec} (tokenizer)", local=_LOCAL_SYNTAX)
        tokens = theirs(list(_EXAMPLES)).numpy()
    except Exception as error:  # of the hub's client, transformers and sentencepiece
        return f"its tokenizer cannot be had: {first_line(error)}"
    own = _own_tokenizer(theirs) if type(theirs) is open_clip.SimpleTokenizer else None
    same = own is not None and np.array_equal(own(_EXAMPLES), tokens)
    scale = float(model.logit_scale.detach().exp())
    return TextSide(_side(model, "encode_text"), tokens, own if own is not None and same else source.model, scale)


def _own_tokenizer(theirs: Any) -> ClipTokenizer:
    """Our tokenizer with what open_clip's has learned."""
    numbers = theirs.encoder
    merges: IntArray = np.array([[numbers[left], numbers[right]] for left, right in theirs.bpe_ranks], np.int64)
    of_bytes: IntArray = np.array([numbers[theirs.byte_encoder[byte]] for byte in range(256)], np.int64)
    return ClipTokenizer(of_bytes, merges, theirs.sot_token_id, theirs.eot_token_id, theirs.context_length)


def _from_disk(source: _Source) -> Any:
    try:
        return _offline(partial(_create, source))
    except UsageError:
        raise
    except Exception as error:  # torch, safetensors and open_clip each raise their own
        raise InputError(
            f"the CLIP weights cannot be loaded: {first_line(error)}",
            where=source.files[0],
            remedy=f"check that they are of the model '{source.model}'",
        ) from error


def _offline(create: Callable[[], Any]) -> Any:
    with hub(online=False):
        return create()


def _create(source: _Source) -> Any:
    """Make the model. Import happens here, after `hub` has said whether the network may be used."""
    import open_clip

    if ":" not in source.model:
        if source.model not in open_clip.list_models():
            raise UsageError(f"open_clip has no model named '{source.model}'", remedy="open_clip.list_models()")
        tags = open_clip.list_pretrained_tags_by_model(source.model)
        if not source.files and source.pretrained not in tags:
            raise UsageError(
                f"there are no weights '{source.pretrained}' of {source.model}", remedy=f"one of: {', '.join(tags)}"
            )
    return open_clip.create_model(source.model, pretrained=source.pretrained, require_pretrained=True)
