"""Rendered scenes whose depths are known: things on a plane get smaller with distance, and are as grey as they are far.

A network that turns grey into metres is then a depth estimator without a fault.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import onnx
import pyarrow as pa
from PIL import Image

from curate.dataset import begin
from curate.dataset.ids import annotation_ids, hash_texts, image_ids
from curate.dataset.schema import ANNOTATIONS, IMAGES
from curate.models.predictors.sidecar import DepthMapLayout, Sidecar, write_sidecar
from curate.names import GROUND_TRUTH
from tests.models import onnx_models

NAME: Final = "street"
WIDTH, HEIGHT, FOCAL = 320, 240, 220.0
HORIZON: Final = 90
CAMERA: Final = 1.6
NEAREST, FARTHEST = 2.0, 80.0
SIZES: Final = {"person": (0.6, 1.75), "car": (1.9, 1.5), "bus": (2.6, 3.2)}
"""Metres: width and height."""


@dataclass(frozen=True)
class Thing:
    """One object: its class, where its box is, how far away it is, and whether something about it is wrong."""

    label: str
    bbox: tuple[float, float, float, float]
    depth: float
    wrong: bool = False


def to_grey(depth: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """How bright a depth in metres is, 0 to 255."""
    return np.asarray(255 * np.log(np.asarray(depth) / NEAREST) / np.log(FARTHEST / NEAREST))


def depth_network(path: Path, *, metric: bool = True, inverse: bool = False) -> Path:
    """A network that reads depths off what `to_grey` gives; not metric, some other number that falls or rises with depth."""
    helper, types = onnx.helper, onnx.TensorProto
    shape = ("n", 3, HEIGHT // 2, WIDTH // 2)
    constants = [
        onnx.numpy_helper.from_array(np.array([1]), "channels"),
        onnx.numpy_helper.from_array(np.float32(np.log(FARTHEST / NEAREST) * (-1 if inverse else 1)), "range"),
        onnx.numpy_helper.from_array(np.float32(NEAREST), "nearest"),
    ]
    nodes = [
        helper.make_node("ReduceMean", ["image", "channels"], ["grey"], keepdims=0),
        helper.make_node("Mul", ["grey", "range"], ["scaled"]),
        helper.make_node("Exp", ["scaled"], ["ratio"]),
        helper.make_node("Mul", ["ratio", "nearest"], ["depth"]),
    ]
    output = helper.make_tensor_value_info("depth", types.FLOAT, [shape[0], *shape[2:]])
    onnx_models.save(path, nodes, [helper.make_tensor_value_info("image", types.FLOAT, shape)], [output], constants)
    layout = DepthMapLayout(output="depth", inverse=inverse, metric=metric)
    write_sidecar(path, Sidecar(task="depth", scale=1 / 255, resize="squash", output=layout))
    return path


def things(rng: np.random.Generator, count: int, *, farthest: float = 35) -> list[Thing]:
    """Things that stand on the ground, the farthest first, none of them cut off."""
    found: list[Thing] = []
    while len(found) < count:
        label = str(rng.choice(list(SIZES)))
        depth = float(np.exp(rng.uniform(np.log(5), np.log(farthest))))
        width, height = (FOCAL * side / depth * np.exp(rng.normal(0, 0.06)) for side in SIZES[label])
        bottom = HORIZON + FOCAL * CAMERA / depth
        x, y = rng.uniform(4, WIDTH - width - 4), bottom - height
        box = (x, y, width, height)
        if x >= 4 and y >= 4 and not any(_overlap(box, other.bbox) for other in found):
            found.append(Thing(label, box, depth))
    return found


def render(found: list[Thing]) -> Image.Image:
    """The ground, the sky, and the things on it, each as grey as it is far."""
    rows = np.maximum(np.arange(HEIGHT) - HORIZON, 1e-6)
    ground = np.clip(FOCAL * CAMERA / rows, NEAREST, FARTHEST)
    depth = np.repeat(ground[:, None], WIDTH, axis=1)
    for thing in sorted(found, key=lambda thing: -thing.depth):
        x, y, width, height = (round(value) for value in thing.bbox)
        depth[y : y + max(height, 1), x : x + max(width, 1)] = thing.depth
    grey = to_grey(depth).round().clip(0, 255).astype(np.uint8)
    return Image.fromarray(np.repeat(grey[:, :, None], 3, axis=2))


def make_scenes(folder: Path, scenes: list[list[Thing]], *, name: str = NAME) -> list[list[str]]:
    """A dataset of these scenes; returns the ids of their annotations."""
    names = [f"{number:03d}.png" for number in range(len(scenes))]
    ids, hashes = image_ids(names).to_pylist(), hash_texts(names)
    images: list[dict[str, Any]] = []
    rows: list[dict[str, Any]] = []
    folder.mkdir(parents=True, exist_ok=True)
    keys: list[list[str]] = []
    for number, scene in enumerate(scenes):
        render(scene).save(folder / names[number])
        images.append({"image_id": ids[number], "location": names[number], "path": str(folder / names[number])})
        images[-1] |= {"width": WIDTH, "height": HEIGHT}
        each = annotation_ids(
            hashes[number].repeat(len(scene)), GROUND_TRUTH, "test", keys=np.arange(len(scene), dtype=np.uint64)
        ).to_pylist()
        keys.append(each)
        for key, thing in zip(each, scene, strict=True):
            rows.append({"annotation_id": key, "image_id": ids[number], "layer": GROUND_TRUTH, "type": "box"})
            rows[-1] |= {"label": thing.label, "bbox": list(thing.bbox)}
    with begin(name, command="make scenes", create=True) as transaction:
        transaction.append("images", [pa.Table.from_pylist(images, schema=IMAGES)])
        transaction.append("annotations", [pa.Table.from_pylist(rows, schema=ANNOTATIONS)])
        transaction.classes = [{"name": label} for label in SIZES]
    return keys


def _overlap(one: tuple[float, ...], other: tuple[float, ...]) -> bool:
    return all(one[k] < other[k] + other[k + 2] and other[k] < one[k] + one[k + 2] for k in (0, 1))
