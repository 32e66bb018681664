"""Encoders whose weights are torch's, exported once to ONNX and kept, so that the next run does without torch.

    $CURATE_HOME/cache/exported/clip-ViT-B-32-laion2b_s34b_b79k-1f0c22ab90d13c52/
        image.onnx        takes uint8 images of shape (n, height, width, 3); normalisation is inside
        text.onnx         takes tokens; tokenizer.npz makes them
        image.curate.json

The folder is what ``onnx:`` reads (`curate.models.encoders.onnx`), and may be copied elsewhere. It is made under another name
and renamed when it is complete and gives what torch gives; one process at a time makes it. What a killed one left is swept up
by the next, and the folder may be deleted at any time. Of a model whose texts could not be had for want of something that may be
there tomorrow, no export is kept.
"""

from __future__ import annotations

import hashlib
import importlib.util
import logging
import re
import shutil
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np
import numpy.typing as npt
from filelock import FileLock

from curate.dataset.home import HOME_VARIABLE, cache_folder
from curate.errors import InputError, MissingExtra, UnavailableError, UsageError
from curate.files import sync_folder, sync_tree
from curate.models.encoders.base import Encoder, NoTexts
from curate.models.encoders.clip_tokenizer import OPEN_CLIP, ClipTokenizer
from curate.models.encoders.hub import first_line
from curate.models.encoders.onnx import SIDECAR_SUFFIX, WHY_NO_TEXTS, Sidecar, TextSidecar, open_encoder
from curate.models.runtime import Precision, open_graph
from curate.models.torch_onnx import write_onnx

_LOG: Final = logging.getLogger(__name__)

MIN_COSINE: Final = 0.9999
"""A vector of the exported network that is further from torch's than this is an error."""

# Part of the key: raised when what is exported changes.
_FORMAT: Final = 1
_IMAGE: Final = "image.onnx"
_TEXT: Final = "text.onnx"
_TOKENIZER: Final = "tokenizer.npz"
_REMEDY: Final = "try a newer torch and onnxscript, or another model"


@dataclass(frozen=True)
class TextSide:
    """The network that embeds texts.

    Attributes:
        network: A torch module; takes tokens to vectors of shape (n, dimensions).
        tokens: Of a few texts, int64 array of shape (n, context length), n at least 3.
        tokenizer: What made them; the name of an open_clip model for its own.
        logit_scale: What cosines are multiplied by before a softmax over texts.
    """

    network: Any
    tokens: npt.NDArray[np.int64]
    tokenizer: ClipTokenizer | str
    logit_scale: float


@dataclass(frozen=True)
class Network:
    """What is exported.

    Attributes:
        image: A torch module; takes float32 images of shape (n, 3, height, width) to vectors of shape (n, dimensions).
        size: (height, width) of the images.
        mean: Of each channel, in [0, 1], subtracted before.
        std: The same, divided by after that.
        text: The side for texts; None if the model has none, or why it cannot be had now, in which case the export is not kept.
    """

    image: Any
    size: tuple[int, int]
    mean: Sequence[float]
    std: Sequence[float]
    text: TextSide | NoTexts | None


def load_exported(name: str, key: str, build: Callable[[], Network], precision: Precision) -> Encoder:
    """The encoder from its exported graphs, which are made if they are not there.

    Args:
        name: The encoder's.
        key: Tells the weights from all others.
        build: Makes the network with torch. Called only if it has to be exported.
        precision: As for `curate.models.runtime.open_graph`.

    Raises:
        UnavailableError: It cannot be exported, or the graph gives other vectors; whatever `build` raises.
        UsageError: The cache folder cannot be written, or the runtime is not to be had.
    """
    folder = _folder(key)
    if not folder.is_dir():
        try:
            passing = _export_once(folder, name, build, precision)
        except OSError as error:
            raise UsageError(
                f"the exported network cannot be kept: {error.strerror or error}",
                where=folder.parent,
                remedy=f"set {HOME_VARIABLE} to a folder that may be written and has space",
            ) from error
        if passing is not None:
            return passing
    return _open(folder, name, precision)


def is_exported(key: str) -> bool:
    """Whether the graphs of a key are there, so that torch is not needed."""
    return _folder(key).is_dir()


def _folder(key: str) -> Path:
    readable = re.sub(r"[^0-9A-Za-z_.]+", "-", key)[:80]
    digest = hashlib.blake2b(f"{_FORMAT} {key}".encode(), digest_size=8).hexdigest()
    return cache_folder() / "exported" / f"{readable}-{digest}"


def _open(folder: Path, name: str, precision: Precision) -> Encoder:
    """The encoder in a folder that was kept."""
    remedy = f"delete the folder {folder}; it is made anew"
    try:
        if not (folder / _IMAGE).with_suffix(SIDECAR_SUFFIX).is_file():  # without it, guesses would do for the images
            raise InputError("it has lost its sidecar")
        return open_encoder(name, folder / _IMAGE, precision, remedy=remedy)
    except InputError as error:
        raise InputError(f"the exported network is damaged: {error.what}", where=folder, remedy=remedy) from error


def _export_once(folder: Path, name: str, build: Callable[[], Network], precision: Precision) -> Encoder | None:
    """Make the folder unless another process does so meanwhile.

    Returns:
        The encoder if there is no folder: what the model's texts need is not there now, and may be tomorrow.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    hidden = f".{folder.name}."
    with FileLock(folder.with_name(f"{hidden}lock")):
        if folder.is_dir():
            return None
        for left in folder.parent.glob(f"{hidden}*.making"):
            shutil.rmtree(left, ignore_errors=True)
        network = build()
        _LOG.warning("exporting %s to ONNX, once for all datasets", name)  # it takes seconds, and a writer waits
        temporary = folder.with_name(f"{hidden}{uuid.uuid4().hex}.making")
        temporary.mkdir()  # unlike tempfile's, for whom the user lets in: several may share one home
        try:
            _export(network, temporary, name)
            if isinstance(network.text, NoTexts):
                _LOG.warning("the export is not kept, and knows images only: %s", network.text.reason)
                return open_encoder(name, temporary / _IMAGE, precision, remedy=network.text.remedy)
            sync_tree(temporary, since=0)
            temporary.rename(folder)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
        sync_folder(folder.parent)
        return None


def _export(network: Network, folder: Path, name: str) -> None:
    """Write graphs, tokenizer and sidecar into a folder."""
    about = {"name": name, **{package: version(package) for package in ("torch", "onnx", "onnxscript")}}
    images = _example_images(network.size)
    _to_onnx(_with_normalisation(network), images, folder / _IMAGE, name)
    text = None
    if isinstance(network.text, NoTexts):
        about[WHY_NO_TEXTS] = network.text.reason
    elif network.text is not None:
        try:
            text = _export_text(network.text, folder, f"the text side of {name}")
        except UnavailableError as error:  # images can do without
            about[WHY_NO_TEXTS] = str(error)
    sidecar = Sidecar(size=network.size, layout="nhwc", text=text, about=about)
    (folder / _IMAGE).with_suffix(SIDECAR_SUFFIX).write_bytes(msgspec.json.encode(sidecar))


def _export_text(text: TextSide, folder: Path, name: str) -> TextSidecar:
    _to_onnx(text.network, text.tokens, folder / _TEXT, name)
    if isinstance(text.tokenizer, str):
        return TextSidecar(_TEXT, OPEN_CLIP + text.tokenizer, text.logit_scale)
    text.tokenizer.save(folder / _TOKENIZER)
    return TextSidecar(_TEXT, _TOKENIZER, text.logit_scale)


def _to_onnx(module: Any, examples: npt.NDArray[Any], path: Path, name: str) -> None:
    """Write a torch module of one input, with any number of rows, and compare what it gives.

    Raises:
        UnavailableError: It cannot be exported, or gives something else than before.
        OSError: The disk is full.
    """
    if importlib.util.find_spec("onnxscript") is None:
        raise MissingExtra("onnxscript", "clip")
    import torch

    module = module.eval().cpu()
    try:
        with torch.inference_mode():
            expected = module(torch.from_numpy(examples)).float().numpy()
        write_onnx(module, examples, path, given="rows", outputs=["vectors"], external_data=True)
        graph = open_graph(path, runtime="onnxruntime")
        given = np.concatenate(graph.run([examples[:1], examples], "vectors"))
    except Exception as error:  # torch's and onnxscript's have no common base
        if isinstance(error, OSError) and error.errno is not None:  # the disk's; those of unknown source code have none
            raise
        raise UnavailableError(f"{name} cannot be exported to ONNX: {first_line(error)}", remedy=_REMEDY) from error
    if expected.ndim != 2 or len(expected) != len(examples):
        raise UnavailableError(f"{name} gives shape {expected.shape} for {len(examples)} rows, not a vector for each")
    cosine = _least_cosine(given, np.concatenate([expected[:1], expected]))
    if not cosine >= MIN_COSINE:
        raise UnavailableError(
            f"{name} gives other vectors when it is exported to ONNX: cosine {cosine:.4f} to torch's", remedy=_REMEDY
        )


def _with_normalisation(network: Network) -> Any:
    """The image network with uint8 images of shape (n, height, width, 3) as input, which are four times smaller."""
    import torch

    class FromPixels(torch.nn.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.network = network.image
            self.register_buffer("mean", 255 * torch.tensor(network.mean).reshape(1, 3, 1, 1))
            self.register_buffer("std", 255 * torch.tensor(network.std).reshape(1, 3, 1, 1))

        def forward(self, images: Any) -> Any:
            return self.network((images.permute(0, 3, 1, 2).float() - self.mean) / self.std)

    return FromPixels()


def _example_images(size: tuple[int, int]) -> npt.NDArray[np.uint8]:
    """Noise, and noise of larger grain: uint8 array of shape (4, height, width, 3)."""
    random = np.random.default_rng(0)
    fine = random.integers(0, 256, (2, *size, 3), dtype=np.uint8)
    rows, columns = (np.arange(side) * 8 // side for side in size)
    coarse = random.integers(0, 256, (2, 8, 8, 3), dtype=np.uint8)[:, rows][:, :, columns]
    return np.concatenate([fine, coarse])


def _least_cosine(a: npt.NDArray[Any], b: npt.NDArray[Any]) -> float:
    """Of corresponding rows; not a number where a shape or a value is wrong."""
    if a.shape != b.shape:
        return float("nan")
    a, b = a.astype(np.float64), b.astype(np.float64)
    with np.errstate(invalid="ignore"):  # a vector of zeros
        cosines = (a * b).sum(axis=1) / (np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1))
    return float(cosines.min())
