"""Any image encoder in ONNX, with or without a text side; see `curate.models.runtime` for what runs it.

What the graph does not say is guessed, and can be told in a JSON file beside it (``encoder.onnx.curate.json``):

    {"size": 224,                         pixels, or [height, width]
     "mean": [0.485, 0.456, 0.406],       of channel values in [0, 1]
     "std": [0.229, 0.224, 0.225],
     "color": "rgb",                      or "bgr", "gray"
     "layout": "nchw",                    or "nhwc"
     "output": "image_embeds",            name of the output that holds the vector
     "text": {"graph": "text.onnx",       takes tokens, int64 of shape (n, context length); its first output is the vectors
              "tokenizer": "clip.npz",    what `ClipTokenizer.save` wrote, or open_clip:MODEL for open_clip's own
              "logit_scale": 100}}        what cosines are multiplied by before a softmax over texts

Every key is optional. Guesses: size, layout and colour from the input's shape (224, nchw, rgb where it is open); ImageNet's
mean and standard deviation, or raw 0-255 for a uint8 input; the first output of shape (n, d), else the mean over space of the
first feature map.

``onnx:PATH?precision=bf16`` is faster and less exact, where OpenVINO is installed.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Final, Literal

import msgspec
import numpy as np
import numpy.typing as npt

from curate.errors import InputError, UsageError
from curate.imaging import Pixels, resize
from curate.models.encoders.base import Encoder, Vectors
from curate.models.encoders.clip_tokenizer import Tokenizer, load_tokenizer
from curate.models.encoders.weights import weights_digest
from curate.models.runtime import Graph, Precision, open_graph, precision_suffix, split_precision

SIDECAR_SUFFIX: Final = ".curate.json"

_DATA_SUFFIXES: Final = (".data", "_data")
_DEFAULT_SIZE: Final = 224
_IMAGENET_MEAN: Final = (0.485, 0.456, 0.406)
_IMAGENET_STD: Final = (0.229, 0.224, 0.225)
_DTYPES: Final = {"float32": np.float32, "float16": np.float16, "uint8": np.uint8}
_REMEDY: Final = f"say what it needs in a file of the same name with {SIDECAR_SUFFIX} after it"


class TextSidecar(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The part of a sidecar that makes texts comparable with images. Files are beside the graph."""

    graph: str
    tokenizer: str
    logit_scale: float


class Sidecar(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The JSON file beside a graph; None where it leaves the guess."""

    size: int | tuple[int, int] | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    color: Literal["rgb", "bgr", "gray"] | None = None
    layout: Literal["nchw", "nhwc"] | None = None
    output: str | None = None
    text: TextSidecar | None = None
    about: dict[str, str] | None = None  # where the graph came from; for people


def load(argument: str) -> Encoder:
    """Load an ONNX image encoder.

    Args:
        argument: Path of the file.

    Raises:
        UsageError: No path was given.
        InputError: The file or its sidecar cannot be read, or does not take one image input and give vectors.
    """
    if not argument:
        raise UsageError("'onnx' needs the path of an encoder", remedy="write onnx:PATH")
    location, precision = split_precision(argument)
    path = Path(location).expanduser()
    if not path.is_file():
        raise InputError("the ONNX file is not there", where=path)
    # All that the numbers depend on: exporters put large weights into a file beside the graph.
    beside = (path.with_name(path.name + suffix) for suffix in (*_DATA_SUFFIXES, SIDECAR_SUFFIX))
    digest = weights_digest(path, *(each for each in beside if each.is_file()))
    return open_encoder(f"onnx:{location}{precision_suffix(precision)}@{digest}", path, precision)


def open_encoder(name: str, path: Path, precision: Precision) -> Encoder:
    """An encoder from a graph, and from the sidecar beside it; a `TextEncoder` if that names a text side.

    Raises:
        InputError: As for `load`.
    """
    sidecar = _read_sidecar(path.with_name(path.name + SIDECAR_SUFFIX))
    if sidecar.text is None:
        return OnnxEncoder(name, path, sidecar, precision)
    return OnnxTextEncoder(name, path, sidecar, sidecar.text, precision)


class OnnxEncoder:
    """An ONNX graph; see `curate.models.encoders.base.Encoder`. Images are squashed to its input size."""

    def __init__(self, name: str, path: Path, sidecar: Sidecar, precision: Precision) -> None:
        self.name = name
        self._path = path
        self._precision = precision
        self._graph = open_graph(path, precision=precision)
        entry = self._graph.inputs[0]
        if len(self._graph.inputs) != 1 or entry.shape is None or len(entry.shape) != 4 or entry.dtype not in _DTYPES:
            raise InputError(
                f"the graph does not take one image: its first input '{entry.name}' is {entry.dtype} of shape {entry.shape}",
                where=path,
                remedy="export the image encoder alone, with an input of shape (n, channels, height, width)",
            )
        self._dtype = _DTYPES[entry.dtype]
        self._layout = sidecar.layout or (
            "nhwc" if entry.shape[3] in (1, 3) and entry.shape[1] not in (1, 3) else "nchw"
        )
        channels, height, width = _channels_first(entry.shape[1:], self._layout)
        self._color = sidecar.color or ("gray" if channels == 1 else "rgb")
        self._size = _size(sidecar.size, height, width)
        self.input_size = min(self._size)
        self._fixed_batch = entry.shape[0] or None
        self._mean, self._std = self._normalisation(sidecar)
        self._output = self._choose_output(sidecar.output)
        self.dimensions = int(self._run(self._blank()).shape[1])

    def prepare(self, pixels: Pixels) -> npt.NDArray[np.generic]:
        """Squash to the input size, in the graph's colour order, layout and range; shape of one input image."""
        height, width = self._size
        image = resize(pixels, (width, height))
        if self._color == "gray":
            image = np.round(image @ np.array([0.299, 0.587, 0.114])).astype(np.uint8)[..., None]
        elif self._color == "bgr":
            image = image[..., ::-1]
        if self._dtype is not np.uint8:
            image = ((image / np.float32(255) - self._mean) / self._std).astype(self._dtype)
        return np.ascontiguousarray(image if self._layout == "nhwc" else image.transpose(2, 0, 1))

    def encode(self, prepared: Sequence[npt.NDArray[np.generic]]) -> Vectors:
        """Embed prepared images; float32 of shape (n, dimensions), rows of unit length."""
        return _unit(self._run(np.stack(prepared)))

    def _run(self, images: npt.NDArray[np.generic]) -> Vectors:
        """Raw vectors of n images. What a graph made for a fixed batch lacks is filled up with blank images."""
        count = len(images)
        if self._fixed_batch is not None:
            filling = np.zeros((-count % self._fixed_batch, *images.shape[1:]), images.dtype)
            images = np.concatenate([images, filling])
        outputs = self._graph.run(_cut(images, self._graph, self._fixed_batch), self._output)
        output = np.concatenate(outputs)[:count].astype(np.float32)
        if output.ndim == 4:
            channels_last = self._layout == "nhwc"
            output = output.mean(axis=(1, 2) if channels_last else (2, 3))
        if output.ndim != 2:
            raise InputError(
                f"the output '{self._output}' has shape {output.shape}, not one vector per image",
                where=self._path,
                remedy=f"name another output: {_REMEDY}",
            )
        return np.asarray(output)

    def _blank(self) -> npt.NDArray[np.generic]:
        height, width = self._size
        return self.prepare(np.zeros((height, width, 3), np.uint8))[None]

    def _normalisation(self, sidecar: Sidecar) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
        default_mean, default_std = _IMAGENET_MEAN, _IMAGENET_STD
        channels = 3
        if self._color == "gray":
            channels = 1
            default_mean, default_std = (float(np.mean(default_mean)),), (float(np.mean(default_std)),)  # type: ignore[assignment]
        elif self._color == "bgr":
            default_mean, default_std = default_mean[::-1], default_std[::-1]
        mean = np.array(default_mean if sidecar.mean is None else sidecar.mean, np.float32)
        std = np.array(default_std if sidecar.std is None else sidecar.std, np.float32)
        for values, key in ((mean, "mean"), (std, "std")):
            if (
                values.shape not in {(1,), (channels,)}
                or not np.isfinite(values).all()
                or (key == "std" and (values <= 0).any())
            ):
                raise InputError(
                    f"'{key}' must be {channels} finite numbers" + (" above 0" if key == "std" else ""),
                    where=self._path.name + SIDECAR_SUFFIX,
                )
        return mean, std

    def _choose_output(self, wanted: str | None) -> str:
        outputs = self._graph.outputs
        names = [output.name for output in outputs]
        if wanted is not None:
            if wanted not in names:
                raise InputError(
                    f"the graph has no output '{wanted}'", where=self._path, remedy=f"outputs: {', '.join(names)}"
                )
            return wanted
        for rank in (2, 4):
            for output in outputs:
                if output.shape is not None and len(output.shape) == rank:
                    return output.name
        return names[0]


class OnnxTextEncoder(OnnxEncoder):
    """The same with a second graph, for texts; see `curate.models.encoders.base.TextEncoder`. It is opened when needed."""

    def __init__(self, name: str, path: Path, sidecar: Sidecar, text: TextSidecar, precision: Precision) -> None:
        super().__init__(name, path, sidecar, precision)
        self.logit_scale = text.logit_scale
        self._text = text

    def encode_text(self, texts: Sequence[str]) -> Vectors:
        """Embed n texts; float32 of shape (n, dimensions), rows of unit length.

        Raises:
            InputError: The text graph or the tokenizer cannot be read.
            UnavailableError: The tokenizer is open_clip's, and that or what it needs is not there.
        """
        if not texts:
            return np.zeros((0, self.dimensions), np.float32)
        graph = self._text_graph
        vectors = np.concatenate(graph.run(_cut(self._tokenizer(texts), graph, None), graph.outputs[0].name))
        if vectors.shape != (len(texts), self.dimensions):
            raise InputError(
                f"the text graph gives shape {vectors.shape} for {len(texts)} texts, and images have {self.dimensions} numbers",
                where=self._path.with_name(self._text.graph),
                remedy="export both sides of one model",
            )
        return _unit(vectors.astype(np.float32))

    @cached_property
    def _text_graph(self) -> Graph:
        return open_graph(self._path.with_name(self._text.graph), precision=self._precision)

    @cached_property
    def _tokenizer(self) -> Tokenizer:
        return load_tokenizer(self._text.tokenizer, self._path.parent)


def _cut(rows: npt.NDArray[np.generic], graph: Graph, step: int | None) -> list[npt.NDArray[np.generic]]:
    """A batch in pieces of `step` rows, or (None) in as many as run at a time, or more where they would be too large."""
    if step is None:
        pieces = max(graph.workers, -(-len(rows) // (graph.most_rows or len(rows))))
        return np.array_split(rows, min(pieces, len(rows)))
    return [rows[at : at + step] for at in range(0, len(rows), step)]


def _unit(vectors: Vectors) -> Vectors:
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.asarray(vectors / np.maximum(norms, np.finfo(np.float32).tiny), dtype=np.float32)


def _read_sidecar(path: Path) -> Sidecar:
    if not path.exists():
        return Sidecar()
    try:
        return msgspec.json.decode(path.read_bytes(), type=Sidecar)
    except (OSError, msgspec.DecodeError, UnicodeDecodeError) as error:
        known = ", ".join(Sidecar.__struct_fields__)
        raise InputError(f"the sidecar cannot be read: {error}", where=path, remedy=f"keys: {known}") from error


def _channels_first(shape: Sequence[object], layout: str) -> tuple[object, object, object]:
    first, second, third = shape
    return (third, first, second) if layout == "nhwc" else (first, second, third)


def _size(wanted: int | tuple[int, int] | None, height: object, width: object) -> tuple[int, int]:
    """(height, width) of the input: the sidecar's, else the graph's, else the default."""
    if isinstance(wanted, int):
        return wanted, wanted
    if wanted is not None:
        return wanted
    return tuple(side if isinstance(side, int) and side > 0 else _DEFAULT_SIZE for side in (height, width))  # type: ignore[return-value]
