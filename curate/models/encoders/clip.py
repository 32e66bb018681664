"""CLIP through open_clip (Radford et al., ICML 2021; Cherti et al., CVPR 2023), exported to ONNX on first use.

Weights come from a local file or folder, or by tag from the Hugging Face hub. After the export, neither open_clip nor torch is
imported (`curate.models.encoders.exported`); texts too are read without them where the model has CLIP's own tokenizer. The
whole image is squashed to the model's input instead of cutting out the centre: what is annotated is often long and thin, or
off-centre.
"""

from __future__ import annotations

import difflib
import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np

from curate.errors import CurateError, InputError, MissingExtra, UsageError
from curate.models.encoders.base import Encoder, NoTexts
from curate.models.encoders.clip_tokenizer import ClipTokenizer, IntArray
from curate.models.encoders.exported import Network, TextSide, is_exported, load_exported
from curate.models.encoders.hub import first_line, from_hub, hub, hub_cache
from curate.models.encoders.weights import NAME_DIGITS, WEIGHT_SUFFIXES, located, weights_key
from curate.models.runtime import precision_suffix, split_precision

DEFAULT_MODEL: Final = "ViT-B-32/laion2b_s34b_b79k"
_DEFAULT_REPOSITORY: Final = "laion/CLIP-ViT-B-32-laion2B-s34B-b79K"

_LOCAL_SYNTAX: Final = "clip:MODEL//path/to/weights.safetensors"
_SYNTAX: Final = f"write clip:MODEL/TAG, {_LOCAL_SYNTAX} or clip:/folder"
_CONFIG: Final = "open_clip_config.json"
_FOLDER: Final = "local-dir:"
# What may be read of a folder: weights, of which open_clip chooses, and what its config and a tokenizer are made of.
_READ_SUFFIXES: Final = WEIGHT_SUFFIXES | {".json", ".txt", ".model"}

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
    if source.path is not None:
        name += f"@{source.version[:NAME_DIGITS]}"
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
    """What a spec asks for.

    Attributes:
        spec: The same, as it reads from every working folder.
        model: What open_clip calls the model.
        pretrained: Tag or path of the weights; None if the model's name says which.
        path: The file or folder of local weights; None for a tag.
        version: Key of what is in it.
    """

    spec: str
    model: str
    pretrained: str | None
    path: Path | None = None
    version: str = ""

    @property
    def key(self) -> str:
        """Tells the weights from all others: a file by its content, a folder by its place too, as a tokenizer stays there."""
        return f"clip:{self.spec}" if self.path is None else f"clip:{self.model}@{self.version}"


def _parse(spec: str) -> _Source:
    folder = located(spec.removeprefix(_FOLDER))
    if spec.startswith(_FOLDER) or folder.is_dir():
        return _Source(str(folder), f"{_FOLDER}{folder}", None, folder, weights_key(*_files_in(folder), named=True))
    if spec.startswith("hf-hub:"):
        return _Source(spec, spec, None)
    model, _, rest = spec.partition("/")
    if not model or not rest:
        raise UsageError(f"'{spec}' does not say which CLIP weights", remedy=_SYNTAX)
    if Path(rest).suffix not in WEIGHT_SUFFIXES:
        return _Source(spec, model, rest)
    path = located(rest)
    if not path.is_file():
        raise InputError("the weights file is not there", where=path, remedy=_SYNTAX)
    return _Source(f"{model}/{path}", model, str(path), path, weights_key(path))


def _files_in(folder: Path) -> list[Path]:
    files = sorted(path for path in folder.glob("*") if path.suffix in _READ_SUFFIXES and path.is_file())
    if folder / _CONFIG not in files or not any(path.suffix in WEIGHT_SUFFIXES for path in files):
        raise InputError(
            f"the folder has no {_CONFIG} with weights beside it",
            where=folder,
            remedy=f"name a folder that open_clip saved, or write {_LOCAL_SYNTAX}",
        )
    return files


def _build(source: _Source) -> Network:
    """The torch model, for the export."""
    if not is_installed():
        raise MissingExtra("open_clip_torch", "clip")
    with hub(online=False):
        _require_known(source)
    from_tag = source.path is None
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


def _text_side(source: _Source, model: Any) -> TextSide | NoTexts:
    import open_clip

    read, called = partial(open_clip.get_tokenizer, source.model), f"{source.spec} (tokenizer)"
    try:
        theirs = from_hub(read, called, local=_LOCAL_SYNTAX) if source.path is None else _offline(read)
        tokens = theirs(list(_EXAMPLES)).numpy()
    except Exception as error:  # of the hub's client, transformers and sentencepiece
        said = error.what if isinstance(error, CurateError) else first_line(error)
        return NoTexts(
            f"its tokenizer cannot be had: {said}",
            remedy="put what it lacks on this disk: packages, the tokenizer's files beside the weights in a folder, or in "
            f"the hub's cache {hub_cache()}",
        )
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
    except Exception as error:  # torch, safetensors and open_clip each raise their own
        raise InputError(
            f"the CLIP weights cannot be loaded: {first_line(error)}",
            where=source.path,
            remedy=f"check that they are of the model '{source.model}'",
        ) from error


def _offline(create: Callable[[], Any]) -> Any:
    with hub(online=False):
        return create()


def _require_known(source: _Source) -> None:
    """Raise a `UsageError` unless open_clip has the model, and the tag if one is named: no network is needed to say so."""
    import open_clip

    if ":" in source.model:
        return
    models = {model.lower(): model for model in open_clip.list_models()}
    if source.model not in models.values():
        near = [models[model] for model in difflib.get_close_matches(source.model.lower(), models)]
        raise UsageError(
            f"open_clip has no model named '{source.model}'",
            remedy=f"perhaps {' or '.join(near)}" if near else "open_clip.list_models() names them",
        )
    tags = open_clip.list_pretrained_tags_by_model(source.model)
    if source.path is None and source.pretrained not in tags:
        raise UsageError(
            f"there are no weights '{source.pretrained}' of {source.model}",
            remedy=f"one of: {', '.join(tags)}" if tags else f"there are none to be fetched: write {_LOCAL_SYNTAX}",
        )


def _create(source: _Source) -> Any:
    """Make the model. Import happens here, after `hub` has said whether the network may be used."""
    import open_clip

    return open_clip.create_model(source.model, pretrained=source.pretrained, require_pretrained=True)
