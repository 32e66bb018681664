"""Any image encoder in ONNX, run by onnxruntime.

What the graph does not say is guessed, and can be told in a JSON file beside it (``encoder.onnx.curate.json``):

    {"size": 224,                         pixels, or [height, width]
     "mean": [0.485, 0.456, 0.406],       of channel values in [0, 1]
     "std": [0.229, 0.224, 0.225],
     "color": "rgb",                      or "bgr", "gray"
     "layout": "nchw",                    or "nhwc"
     "output": "image_embeds"}            name of the output that holds the vector

Every key is optional. Guesses: size, layout and colour from the input's shape (224, nchw, rgb where it is open); ImageNet's
mean and standard deviation, or raw 0-255 for a uint8 input; the first output of shape (n, d), else the mean over space of the
first feature map.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, Literal

import msgspec
import numpy as np
import numpy.typing as npt

from curate.errors import InputError, UsageError
from curate.imaging import Pixels, resize
from curate.models.encoders.base import Encoder, Vectors
from curate.models.encoders.weights import weights_digest

SIDECAR_SUFFIX: Final = ".curate.json"

_DEFAULT_SIZE: Final = 224
_IMAGENET_MEAN: Final = (0.485, 0.456, 0.406)
_IMAGENET_STD: Final = (0.229, 0.224, 0.225)
_DTYPES: Final = {"tensor(float)": np.float32, "tensor(float16)": np.float16, "tensor(uint8)": np.uint8}
_REMEDY: Final = f"say what it needs in a file of the same name with {SIDECAR_SUFFIX} after it"


class Sidecar(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The JSON file beside a graph; None where it leaves the guess."""

    size: int | tuple[int, int] | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    color: Literal["rgb", "bgr", "gray"] | None = None
    layout: Literal["nchw", "nhwc"] | None = None
    output: str | None = None


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
    path = Path(argument).expanduser()
    if not path.is_file():
        raise InputError("the ONNX file is not there", where=path)
    sidecar = _read_sidecar(path.with_name(path.name + SIDECAR_SUFFIX))
    return OnnxEncoder(f"onnx:{argument}@{weights_digest(path)}", path, sidecar)


class OnnxEncoder:
    """An ONNX graph; see `curate.models.encoders.base.Encoder`. Images are squashed to its input size."""

    def __init__(self, name: str, path: Path, sidecar: Sidecar) -> None:
        self.name = name
        self._path = path
        self._session = _open(path)
        entry = self._session.get_inputs()[0]
        if len(self._session.get_inputs()) != 1 or len(entry.shape) != 4 or entry.type not in _DTYPES:
            raise InputError(
                f"the graph does not take one image: its first input '{entry.name}' is a {entry.type} of shape {entry.shape}",
                where=path,
                remedy="export the image encoder alone, with an input of shape (n, channels, height, width)",
            )
        self._input = entry.name
        self._dtype = _DTYPES[entry.type]
        self._layout = sidecar.layout or (
            "nhwc" if entry.shape[3] in (1, 3) and entry.shape[1] not in (1, 3) else "nchw"
        )
        channels, height, width = _channels_first(entry.shape[1:], self._layout)
        self._color = sidecar.color or ("gray" if channels == 1 else "rgb")
        self._size = _size(sidecar.size, height, width)
        self.input_size = min(self._size)
        fixed = entry.shape[0]
        self._fixed_batch = fixed if isinstance(fixed, int) and fixed > 0 else None
        self._mean, self._std = self._normalisation(sidecar)
        self._outputs = self._choose_output(sidecar.output)
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
        step = self._fixed_batch or len(prepared)
        vectors = np.concatenate(
            [self._run(np.stack(prepared[at : at + step])) for at in range(0, len(prepared), step)]
        )
        norms = np.linalg.norm(vectors, axis=1, keepdims=True)
        return np.asarray(vectors / np.maximum(norms, np.finfo(np.float32).tiny), dtype=np.float32)

    def _run(self, images: npt.NDArray[np.generic]) -> Vectors:
        """Raw vectors of a batch; a graph made for a fixed batch gets it filled up with blank images."""
        count = len(images)
        if self._fixed_batch is not None and count < self._fixed_batch:
            filling = np.zeros((self._fixed_batch - count, *images.shape[1:]), images.dtype)
            images = np.concatenate([images, filling])
        output = self._session.run(self._outputs, {self._input: images})[0][:count].astype(np.float32)
        if output.ndim == 4:
            channels_last = self._layout == "nhwc"
            output = output.mean(axis=(1, 2) if channels_last else (2, 3))
        if output.ndim != 2:
            raise InputError(
                f"the output '{self._outputs[0]}' has shape {output.shape}, not one vector per image",
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

    def _choose_output(self, wanted: str | None) -> list[str]:
        outputs = self._session.get_outputs()
        names = [output.name for output in outputs]
        if wanted is not None:
            if wanted not in names:
                raise InputError(
                    f"the graph has no output '{wanted}'", where=self._path, remedy=f"outputs: {', '.join(names)}"
                )
            return [wanted]
        for rank in (2, 4):
            for output in outputs:
                if output.shape is not None and len(output.shape) == rank:
                    return [output.name]
        return names[:1]


def _read_sidecar(path: Path) -> Sidecar:
    if not path.exists():
        return Sidecar()
    try:
        return msgspec.json.decode(path.read_bytes(), type=Sidecar)
    except (OSError, msgspec.DecodeError, UnicodeDecodeError) as error:
        known = ", ".join(Sidecar.__struct_fields__)
        raise InputError(f"the sidecar cannot be read: {error}", where=path, remedy=f"keys: {known}") from error


def _open(path: Path) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    wanted = ("CUDAExecutionProvider", "CPUExecutionProvider")
    providers = [name for name in wanted if name in onnxruntime.get_available_providers()]
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=providers)
    except Exception as error:  # onnxruntime's exceptions have no common base of their own
        raise InputError(
            f"the file is not an ONNX model that can be run: {str(error).strip().partition(chr(10))[0]}", where=path
        ) from error


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
