"""Ways to turn pictures into vectors that `benchmarks/encoders.py` compares: from raw pixels to a detector trained on COCO."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

import cv2
import numpy as np
import numpy.typing as npt
from sklearn.decomposition import PCA

from benchmarks.encoder_sets import parts, places, read
from curate.errors import InputError, UsageError
from curate.imaging import Pixels, resize
from curate.models.encoders.base import Vectors
from curate.models.encoders.builtin import SIDE
from curate.models.encoders.descriptor import describe_color, describe_edges, to_canonical
from curate.models.encoders.registry import load_encoder

Method = Callable[[Sequence[Pixels]], Vectors]
"""From n pictures to n rows of unit length."""

BUILTIN: Final = ("builtin-v0", "builtin", "builtin:style")
"""The descriptor that came before the network, and the network's two views."""

YOLOX: Final = "models/yolox_nano.onnx"

# What the last three stages of its backbone give, at strides 8, 16 and 32.
_YOLOX_MAPS: Final = ("input.175", "input.283", "input.359")
_YOLOX_SIDE: Final = 416
_YOLOX_BORDER: Final = 114


def choose_methods(
    names: Sequence[str] | None, specs: Sequence[str], data: Path | None, notes: list[str]
) -> dict[str, Callable[[], Method]]:
    """What makes each method that can be had here, by the method's name; a note says which cannot be had, and why.

    Args:
        names: The methods that are wanted; None for all.
        specs: Encoders to be compared besides the built-in ones.
        data: Folder of public data, or None.
        notes: What is left out is added.

    Raises:
        UsageError: There is no method of such a name.
    """
    found: dict[str, Callable[[], Method]] = {
        "raw 16 x 16": lambda: raw,
        "HOG + colour": lambda: plain,
        "whitened HOG + colour + texture": whitened,
        "random network": random_network,
        "pooled YOLOX-nano": lambda: yolox(data / YOLOX if data else Path()),
    }
    found |= {spec: partial(encode_with, spec) for spec in (*BUILTIN, *specs)}
    unknown = set(names or ()) - set(found)
    if unknown:
        raise UsageError(f"no vectors called '{min(unknown)}'", remedy=f"choose from: {', '.join(found)}")
    wanted = {name: make for name, make in found.items() if names is None or name in names}
    for name, missing in _missing(data).items():
        if wanted.pop(name, None) is not None:
            notes.append(f"{name} is left out: {missing}")
    return wanted


def _missing(data: Path | None) -> dict[str, str]:
    """Methods that cannot be had here, and why."""
    missing = {}
    if not find_spec("torch"):
        missing["random network"] = "torch is not installed"
    if data is None or not (data / YOLOX).is_file():
        missing["pooled YOLOX-nano"] = f"there is no {YOLOX} in the folder given by --data"
    elif not find_spec("onnx"):
        missing["pooled YOLOX-nano"] = "onnx is not installed"
    return missing


def encode(method: Method, images: Sequence[Pixels | Path], batch: int = 128) -> Vectors:
    """Vectors of many pictures, few of which are in memory at a time if they are files."""
    return np.concatenate(
        [method([read(image) for image in images[start : start + batch]]) for start in range(0, len(images), batch)]
    )


def encode_with(spec: str) -> Method:
    """An encoder by its spec."""
    encoder = load_encoder(spec)
    return lambda images: encoder.encode([encoder.prepare(image) for image in images])


def raw(images: Sequence[Pixels]) -> Vectors:
    """16 x 16 pixels less their mean."""
    return _unit([resize(image, (16, 16)).astype(np.float32) - image.mean() for image in images])


def plain(images: Sequence[Pixels]) -> Vectors:
    """Histograms of gradients and mean colours on a 4 x 4 grid."""
    canonical = [to_canonical(image) for image in images]
    edges, colors = (_unit([block(image)[0] for image in canonical]) for block in (describe_edges, describe_color))
    return _unit(np.concatenate([edges, 0.5 * colors], axis=1))


def whitened(dimensions: int = 128) -> Method:
    """HOG, colour and texture on their principal components, whitened; those of rendered parts and places."""

    def describe(images: Sequence[Pixels]) -> Vectors:
        textures = _unit([np.sqrt(_local_binary_patterns(image)) for image in images])
        return np.concatenate([plain(images), 0.5 * textures], axis=1)

    known = [read(image) for task in (parts(40), places()) for image in task.images]
    components = PCA(dimensions, whiten=True, random_state=0).fit(describe(known))
    return lambda images: _unit(components.transform(describe(images)))


def random_network() -> Method:
    """The semantic view of the network of the built-in encoder as it is before training."""
    import torch

    from benchmarks.pretrain.network import Network

    torch.manual_seed(0)
    torch.set_num_threads(1)
    network = Network().eval()

    def method(images: Sequence[Pixels]) -> Vectors:
        small = np.stack([resize(image, (SIDE, SIDE)) for image in images])
        with torch.inference_mode():
            semantic, _ = network(torch.from_numpy(small).permute(0, 3, 1, 2).float() / 255)
        return _unit(semantic.numpy())

    return method


def yolox(path: Path) -> Method:
    """Means of the backbone's maps at strides 8, 16 and 32 of a detector trained on COCO (YOLOX, Ge et al., 2021).

    Raises:
        InputError: It is another network than YOLOX-nano.
    """
    import onnx
    import onnxruntime

    model = onnx.load(path)
    if not set(_YOLOX_MAPS) <= {name for node in model.graph.node for name in node.output}:
        raise InputError(
            "not the YOLOX-nano whose maps are known", where=path, remedy="put the nano export of YOLOX there"
        )
    del model.graph.output[:]
    model.graph.output.extend(onnx.helper.make_empty_tensor_value_info(name) for name in _YOLOX_MAPS)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])

    def describe(image: Pixels) -> npt.NDArray[np.float32]:
        maps = session.run(None, {"images": _letterbox(image)})
        return np.concatenate([_unit([level[0].mean(axis=(1, 2))])[0] for level in maps])

    return lambda images: _unit([describe(image) for image in images])


def _letterbox(image: Pixels) -> npt.NDArray[np.float32]:
    """As YOLOX wants it: BGR, 0-255, scaled to fit the upper left of a grey square; shape (1, 3, side, side)."""
    height, width = image.shape[:2]
    ratio = _YOLOX_SIDE / max(height, width)
    scaled = cv2.resize(image, (max(1, round(width * ratio)), max(1, round(height * ratio))))
    canvas = np.full((_YOLOX_SIDE, _YOLOX_SIDE, 3), _YOLOX_BORDER, np.float32)
    canvas[: scaled.shape[0], : scaled.shape[1]] = scaled[:, :, ::-1]
    return canvas.transpose(2, 0, 1)[None]


def _local_binary_patterns(image: Pixels) -> npt.NDArray[np.float32]:
    """How often each of the 256 patterns of brighter neighbours occurs (Ojala et al., PAMI 2002), at 64 x 64 pixels."""
    grey = cv2.cvtColor(resize(image, (64, 64)), cv2.COLOR_RGB2GRAY).astype(np.int16)
    around = ((-1, -1), (-1, 0), (-1, 1), (0, 1), (1, 1), (1, 0), (1, -1), (0, -1))
    centre = grey[1:-1, 1:-1]
    patterns = sum(
        (grey[1 + down : 63 + down, 1 + across : 63 + across] > centre + 2).astype(np.uint8) << bit
        for bit, (down, across) in enumerate(around)
    )
    return np.bincount(np.ravel(patterns), minlength=256).astype(np.float32)


def _unit(rows: Sequence[npt.NDArray[Any]] | npt.NDArray[Any]) -> Vectors:
    """Rows of unit length."""
    matrix = np.stack([np.ravel(row) for row in rows])
    return np.asarray(matrix / np.maximum(np.linalg.norm(matrix, axis=1, keepdims=True), 1e-9), dtype=np.float32)
