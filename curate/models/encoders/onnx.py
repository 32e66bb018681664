"""Any image encoder in ONNX, with or without a text side; see `curate.models.runtime` for what runs it.

What the graph does not say is guessed, and can be told in a JSON file beside it, ``encoder.curate.json`` for ``encoder.onnx``:

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

from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Final, Literal, TypeVar

import msgspec
import numpy as np
import numpy.typing as npt

from curate.errors import CurateError, InputError, UsageError
from curate.imaging import Pixels, resize
from curate.models.encoders.base import Encoder, NoTexts, Vectors
from curate.models.encoders.clip_tokenizer import IntArray, Tokenizer, load_tokenizer
from curate.models.encoders.external_data import external_files
from curate.models.encoders.hub import first_line
from curate.models.encoders.weights import located, weights_digest
from curate.models.runtime import Graph, Precision, open_graph, precision_suffix, split_precision

SIDECAR_SUFFIX: Final = ".curate.json"

WHY_NO_TEXTS: Final = "text"
"""Key of `Sidecar.about`: why a model's side for texts was not exported."""

T = TypeVar("T")

_DEFAULT_SIZE: Final = 224
_LARGEST_SIZE: Final = 8192  # pixels a side: one image is then 800 MB of float32
_IMAGENET_MEAN: Final = (0.485, 0.456, 0.406)
_IMAGENET_STD: Final = (0.229, 0.224, 0.225)
_DTYPES: Final = {"float32": np.float32, "float16": np.float16, "uint8": np.uint8}
_TEXT_REMEDY: Final = (
    "export both sides of one model, the texts' with tokens alone as input: int64 of shape (n, context length)"
)
_REMEDY: Final = f"say what it needs in a file beside it of the same name that ends in {SIDECAR_SUFFIX}"


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
    path = located(location)
    if not path.is_file():
        raise InputError("the ONNX file is not there", where=path)
    # All that the vectors of images depend on; those of texts are not kept.
    sidecar = path.with_suffix(SIDECAR_SUFFIX)
    digest = weights_digest(path, *external_files(path), *([sidecar] if sidecar.is_file() else []))
    return open_encoder(f"onnx:{path}{precision_suffix(precision)}@{digest}", path, precision)


def open_encoder(name: str, path: Path, precision: Precision, *, remedy: str = _TEXT_REMEDY) -> Encoder:
    """An encoder from a graph, and from the sidecar beside it; a `TextEncoder` if that names a text side.

    Args:
        name: The encoder's.
        path: The graph of images.
        precision: As for `curate.models.runtime.open_graph`.
        remedy: What to do where the side for texts is missing or damaged.

    Raises:
        InputError: As for `load`.
    """
    sidecar = _read_sidecar(path.with_suffix(SIDECAR_SUFFIX))
    if sidecar.text is None:
        return OnnxEncoder(name, path, sidecar, precision, remedy)
    return OnnxTextEncoder(name, path, sidecar, sidecar.text, precision, remedy)


class OnnxEncoder:
    """An ONNX graph; see `curate.models.encoders.base.Encoder`. Images are squashed to its input size."""

    def __init__(self, name: str, path: Path, sidecar: Sidecar, precision: Precision, remedy: str) -> None:
        self.name = name
        why = (sidecar.about or {}).get(WHY_NO_TEXTS)
        self.no_texts = NoTexts(why, remedy) if why else None
        self._path = path
        self._precision = precision
        self._remedy = remedy
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
        self._require_fit(entry.shape[1:])
        self._mean, self._std = self._normalisation(sidecar)
        self._output = self._choose_output(sidecar.output)
        vectors = _try_out(lambda: self._run(self._blank()), path, f"see what it takes, and {_REMEDY}")
        self.dimensions = int(vectors.shape[1])

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
        """Raw vectors of n images."""
        output = _run_rows(self._graph, images, self._output)
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

    def _require_fit(self, taken: Sequence[int | None]) -> None:
        """Raise an `InputError` if the images are not what the graph takes, None where that is open."""
        channels = 1 if self._color == "gray" else 3
        shape = (*self._size, channels) if self._layout == "nhwc" else (channels, *self._size)
        if any(fixed and fixed != side for fixed, side in zip(taken, shape, strict=True)):
            raise InputError(
                f"the graph takes images of shape {tuple(taken)}, and gets {shape}",
                where=self._path,
                remedy=f"size, layout and color must fit it: {_REMEDY}",
            )

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
                    where=self._path.with_suffix(SIDECAR_SUFFIX),
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

    def __init__(
        self, name: str, path: Path, sidecar: Sidecar, text: TextSidecar, precision: Precision, remedy: str
    ) -> None:
        super().__init__(name, path, sidecar, precision, remedy)
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
        graph, tokenizer = self._reader
        return _unit(self._run_texts(graph, tokenizer(texts)))

    @cached_property
    def _reader(self) -> tuple[Graph, Tokenizer]:
        """The graph of texts, which was tried out, and what makes its tokens."""
        path = self._path.parent / self._text.graph
        try:
            graph = open_graph(path, precision=self._precision)
            tokenizer = load_tokenizer(self._text.tokenizer, self._path.parent)
            tokens = tokenizer([""])
            _try_out(lambda: self._run_texts(graph, tokens), path, self._remedy)
        except InputError as error:
            raise InputError(error.what, where=error.where, remedy=self._remedy) from error
        return graph, tokenizer

    def _run_texts(self, graph: Graph, tokens: IntArray) -> Vectors:
        vectors = _run_rows(graph, tokens, graph.outputs[0].name)
        if vectors.shape != (len(tokens), self.dimensions):
            raise InputError(
                f"the text graph gives shape {vectors.shape} for {len(tokens)} texts, and images have {self.dimensions} numbers",
                where=self._path.parent / self._text.graph,
                remedy=self._remedy,
            )
        return vectors


def _run_rows(graph: Graph, rows: npt.NDArray[np.generic], output: str) -> Vectors:
    """An output for n rows. What a graph that was made for a fixed number of rows lacks is filled up with zeros."""
    count, shape = len(rows), graph.inputs[0].shape
    fixed = (shape[0] or None) if shape else None
    if fixed is not None:
        rows = np.concatenate([rows, np.zeros((-count % fixed, *rows.shape[1:]), rows.dtype)])
    return np.concatenate(graph.run(graph.pieces(rows, fixed), output))[:count].astype(np.float32)


def _try_out(run: Callable[[], T], path: Path, remedy: str) -> T:
    """What the first run of a graph gives. A graph that refuses its input was exported for another, or damaged.

    Raises:
        InputError: It does.
    """
    try:
        return run()
    except CurateError:
        raise
    except Exception as error:  # the runtimes' own have no common base
        raise InputError(f"the graph cannot be run: {first_line(error)}", where=path, remedy=remedy) from error


def _unit(vectors: Vectors) -> Vectors:
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.asarray(vectors / np.maximum(norms, np.finfo(np.float32).tiny), dtype=np.float32)


def _read_sidecar(path: Path) -> Sidecar:
    if not path.exists():
        return Sidecar()
    try:
        sidecar = msgspec.json.decode(path.read_bytes(), type=Sidecar)
    except (OSError, msgspec.DecodeError, UnicodeDecodeError) as error:
        known = ", ".join(Sidecar.__struct_fields__)
        raise InputError(f"the sidecar cannot be read: {error}", where=path, remedy=f"keys: {known}") from error
    sides = sidecar.size if isinstance(sidecar.size, tuple) else (sidecar.size,)
    if not all(side is None or 1 <= side <= _LARGEST_SIZE for side in sides):
        raise InputError(f"'size' must be from 1 to {_LARGEST_SIZE} pixels", where=path)
    if sidecar.text is not None and not sidecar.text.logit_scale > 0:
        raise InputError("'logit_scale' must be above 0", where=path)
    return sidecar


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
