"""Run a packaged model: `python runner.py image.jpg` prints what is on it, as one JSON object a line.

This file is copied into every package and needs nothing but numpy, Pillow and the package's runtime (onnxruntime, OpenVINO or
LiteRT). It reads data only, JSON and arrays, never a pickle, and no file whose SHA-256 is not the one in `package.json`.

    from runner import Runner, load_image
    runner = Runner("bolts-1.0.0")
    result, = runner.run([load_image("image.jpg")])

Images are uint8 of shape (height, width, 3), RGB, upright. Boxes are [x, y, width, height] in pixels of the image.
"""

from __future__ import annotations

import argparse
import ctypes
import hashlib
import importlib
import json
import sys
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps

Array = npt.NDArray[Any]
Floats = npt.NDArray[np.float64]
Pixels = npt.NDArray[np.uint8]
Size = tuple[int, int]
"""(height, width) in pixels."""

FORMAT: Final = 1
MANIFEST: Final = "package.json"
VOID: Final = -1
"""The class of a pixel that belongs to none."""
BACKENDS: Final = {"onnx": "onnxruntime", "openvino": "openvino", "tflite": "tflite", "tensorrt": "tensorrt"}
"""What runs a package of each target where nothing else is asked for."""

_INSTALL: Final = {
    "onnxruntime": "pip install onnxruntime",
    "openvino": "pip install openvino",
    "tflite": "pip install ai-edge-litert",
    "tensorrt": "pip install onnxruntime-gpu, beside NVIDIA's TensorRT",
}
_INTERPOLATION: Final = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}
_RESIZES: Final = frozenset({"none", "squash", "letterbox", "letterbox_centre", "shortest_side_crop"})
_LARGEST_LOG: Final = 20.0  # of a box's side: exp of more would be no box
_STRIP_VALUES: Final = 1 << 18  # of a class map that are enlarged at a time: as many as a cache holds
_LARGEST_IMAGE: Final = 500_000_000  # pixels; curate's own limit
_BROKEN: Final = (OSError, ValueError, KeyError, TypeError, AttributeError, EOFError, NotImplementedError)
_SURE: Final = 0.9  # a pixel of no class is left out of a map's uncertainty from this confidence on


class PackageError(Exception):
    """A package, or an image, that cannot be used: the message says what, where, and what to do."""

    def __init__(self, what: str, where: object, remedy: str = "") -> None:
        self.what, self.where, self.remedy = what, str(where), remedy
        super().__init__(f"{where}: {what}" + (f" ({remedy})" if remedy else ""))


@dataclass(frozen=True)
class Package:
    """A folder that holds a model and all that is needed to run it.

    Attributes:
        folder: Where it is.
        manifest: What `package.json` says.
        name: Of the model.
        version: Of the package, as in '1.2.0'.
        target: 'onnx', 'openvino', 'tflite' or 'tensorrt'.
        task: 'classify', 'detect' or 'segment'.
        classes: Names in the order of class numbers.
        model: Path of the model's file.
        thresholds: Objects of each class, or images, count from this score on; float64 of shape (classes,).
        ask: Scores from the first to the second are a person's to decide; None where nobody is asked.
        apart: What tells it from another package of that name and version, where both are run together: its target.
    """

    folder: Path
    manifest: Mapping[str, Any] = field(repr=False)
    name: str
    version: str
    target: str
    task: str
    classes: tuple[str, ...]
    model: Path
    thresholds: npt.NDArray[np.float64] = field(repr=False)
    ask: tuple[float, float] | None
    apart: str = ""

    @property
    def id(self) -> str:
        """Name and version: 'bolts-1.2.0', and what else tells it apart: 'bolts-1.2.0 (openvino)'."""
        return f"{self.name}-{self.version}" + (f" ({self.apart})" if self.apart else "")

    @classmethod
    def open(cls, folder: str | Path, verify: bool = True) -> Package:
        """Read a package.

        Args:
            folder: Where it is.
            verify: Whether to compare every file with its SHA-256.

        Raises:
            PackageError: There is none, it is of another format, a file is missing or not what it was, or one that is opened has
                no checksum.
        """
        folder = Path(folder)
        path = folder / MANIFEST
        try:
            manifest = json.loads(path.read_bytes())
            form = manifest["format"]
        except FileNotFoundError:
            raise PackageError("this is no package", path, "give the folder that 'curate package' made") from None
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise PackageError(f"the file cannot be read: {error!r}", path, "copy the package again") from error
        if form != FORMAT:
            raise PackageError(f"format {form} is not understood", path, "make the package again, or use its runner.py")
        try:
            package = cls._of(folder, manifest)
            files = {str(name): str(digest) for name, digest in manifest["files"].items()}
            opened = _opened(manifest)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise PackageError(f"the file lacks something: {error!r}", path, "make the package again") from error
        for what, name in opened.items():
            if name not in files:
                raise PackageError(f"{what} has no checksum: {name!r:.80}", path, "make the package again")
        for name, digest in files.items():
            _check_file(folder, name, digest if verify else None)
        return package

    @classmethod
    def _of(cls, folder: Path, manifest: dict[str, Any]) -> Package:
        classes = tuple(str(name) for name in manifest["classes"])
        post = manifest["postprocess"]
        own = post.get("class_thresholds") or {}
        ask = post.get("ask")
        return cls(
            folder=folder,
            manifest=manifest,
            name=str(manifest["name"]),
            version=str(manifest["version"]),
            target=str(manifest["target"]),
            task=str(manifest["task"]),
            classes=classes,
            model=folder / manifest["model"]["file"],
            thresholds=np.array([float(own.get(name, post["min_score"])) for name in classes]),
            ask=None if ask is None else (float(ask[0]), float(ask[1])),
        )


@dataclass(frozen=True)
class Placement:
    """Where an image lies in the model's input.

    Attributes:
        image: Size of the image.
        input: Size of the input.
        scaled: Size that the image was scaled to.
        offset: (y, x) in the input of its top left corner; negative where it was cut off.
    """

    image: Size
    input: Size
    scaled: Size
    offset: tuple[int, int]

    @property
    def scale(self) -> tuple[float, float]:
        """Input pixels per image pixel, (y, x)."""
        return self.scaled[0] / self.image[0], self.scaled[1] / self.image[1]

    def to_input(self, boxes: npt.ArrayLike) -> Floats:
        """Corners [x1, y1, x2, y2] on the image, shape (k, 4), as corners on the input."""
        (scale_y, scale_x), (top, left) = self.scale, self.offset
        return np.asarray(boxes, np.float64) * [scale_x, scale_y, scale_x, scale_y] + [left, top, left, top]

    def to_image(self, boxes: npt.ArrayLike) -> Floats:
        """Corners [x1, y1, x2, y2] on the input, shape (k, 4), as corners on the image; they may lie outside of it."""
        (scale_y, scale_x), (top, left) = self.scale, self.offset
        return (np.asarray(boxes, np.float64) - [left, top, left, top]) / [scale_x, scale_y, scale_x, scale_y]

    @property
    def seen(self) -> tuple[int, int, int, int]:
        """Rows and columns of the image, (top, left, bottom, right), whose pixels' middles are in the input."""
        corners = self.to_image([[0, 0, self.input[1], self.input[0]]])[0]
        height, width = self.image
        left, top, right, bottom = (int(edge) for edge in np.ceil(corners - 0.5))
        return max(top, 0), max(left, 0), min(bottom, height), min(right, width)


@dataclass(frozen=True)
class Prepared:
    """An image as the model takes it, without the batch's axis: float32, or uint8 for a model that takes pixels.

    Attributes:
        array: Of shape (channels, height, width) or (height, width, channels), as the model wants.
        placement: Where the image lies in it.
    """

    array: Array
    placement: Placement


@dataclass(frozen=True)
class Result:
    """What is on one image. What does not belong to the task is None.

    Attributes:
        task: 'classify', 'detect' or 'segment'.
        size: (height, width) of the image.
        probabilities: Of each class; float32 of shape (classes,).
        boxes: [x, y, width, height] in pixels, surest first; float64 of shape (k, 4).
        labels: Class numbers; int64 of shape (k,).
        scores: Confidences in [0, 1]; float64 of shape (k,).
        class_map: Class number of each pixel, `VOID` for none; int16 of shape (height, width).
        confidence: Probability of that class; float32 of shape (height, width).
    """

    task: str
    size: Size
    probabilities: npt.NDArray[np.float32] | None = None
    boxes: npt.NDArray[np.float64] | None = None
    labels: npt.NDArray[np.int64] | None = None
    scores: npt.NDArray[np.float64] | None = None
    class_map: npt.NDArray[np.int16] | None = None
    confidence: npt.NDArray[np.float32] | None = None

    @property
    def uncertainty(self) -> float:
        """How unsure the model is, 0 to 1.

        classify: 1 less the lead of the first class over the second. detect: of the object nearest to a score of 0.5; 0 without
        objects. segment: the mean over pixels that have a class or might have one.
        """
        if self.probabilities is not None:
            ordered = np.sort(self.probabilities)[::-1]
            lead = ordered[0] - ordered[1] if len(ordered) > 1 else abs(2 * ordered[0] - 1)
            return float(np.clip(1 - lead, 0, 1))
        if self.scores is not None:
            return float(np.max(1 - np.abs(2 * self.scores - 1), initial=0.0))
        if self.class_map is None or self.confidence is None:
            return 0.0
        counts = (self.class_map != VOID) | (self.confidence < _SURE)
        return float(np.minimum(2 * (1 - self.confidence[counts]), 1).mean()) if counts.any() else 0.0

    def above(self, thresholds: npt.ArrayLike) -> Result:
        """Without the objects below their class's threshold (`Package.thresholds`); other tasks stay as they are."""
        if self.boxes is None or self.labels is None or self.scores is None:
            return self
        kept = self.scores >= np.asarray(thresholds)[self.labels]
        return replace(self, boxes=self.boxes[kept], labels=self.labels[kept], scores=self.scores[kept])

    def to_json(self, classes: Sequence[str]) -> dict[str, Any]:
        """JSON-ready values: the likeliest class; objects; or how many pixels are of each class there is."""
        said: dict[str, Any] = {"task": self.task, "size": [int(side) for side in self.size]}
        if self.probabilities is not None:
            best = int(self.probabilities.argmax())
            said |= {"label": classes[best], "score": round(float(self.probabilities[best]), 6)}
            said["probabilities"] = {
                name: round(float(each), 6) for name, each in zip(classes, self.probabilities, strict=True)
            }
        elif self.boxes is not None and self.labels is not None and self.scores is not None:
            said["objects"] = [
                {"label": classes[label], "score": round(score, 6), "bbox": [round(side, 3) for side in box]}
                for label, score, box in zip(
                    self.labels.tolist(), self.scores.tolist(), self.boxes.tolist(), strict=True
                )
            ]
        elif self.class_map is not None and self.confidence is not None:
            said["pixels"] = {}
            for number in np.unique(self.class_map).tolist():
                where = self.class_map == number
                if number != VOID:
                    mean = round(float(self.confidence[where].mean(dtype=np.float64)), 6)
                    said["pixels"][classes[number]] = {"count": int(where.sum()), "confidence": mean}
        return {**said, "uncertainty": round(self.uncertainty, 6)}


class Runner:
    """A packaged model that is ready to run.

    `run` does all; `prepare`, `infer` and `read` are its parts, for whoever overlaps them. `infer` is one thread's at a time;
    the others keep nothing and may be called from any.

    Args:
        package: A package, or its folder.
        threads: That one inference may use.
        backend: 'onnxruntime', 'openvino', 'tflite' or 'tensorrt'; None for the target's own. OpenVINO also runs ONNX.

    Raises:
        PackageError: The package, its model or the runtime cannot be used.
    """

    def __init__(self, package: str | Path | Package, *, threads: int = 1, backend: str | None = None) -> None:
        self.package = package if isinstance(package, Package) else Package.open(package)
        self.backend = backend or BACKENDS.get(self.package.target, self.package.target)
        self._pre, self._post = self.package.manifest["preprocess"], self.package.manifest["postprocess"]
        self._read = _READERS.get(self._post.get("layout"))
        if self._read is None:
            raise PackageError(f"layout '{self._post.get('layout')}' is not understood", self.package.folder)
        self._factor, self._shift = _normalisation(self._pre)
        self._reference: Reference | None = None
        path = self.package.model
        try:
            opened = _OPENERS[self.backend]
        except KeyError:
            known = ", ".join(_OPENERS)
            raise PackageError(f"there is no backend '{self.backend}'", path, f"one of: {known}") from None
        try:
            self._model = opened(path, self._pre["input"], tuple(self._post["outputs"]), threads)
        except ImportError as error:
            raise PackageError(f"{self.backend} is not installed: {error}", path, _INSTALL[self.backend]) from error
        except Exception as error:  # the runtimes' exceptions have no common base
            raise PackageError(f"{self.backend} cannot open the model: {_line(error)}", path) from error

    def run(self, images: Sequence[Pixels]) -> list[Result]:
        """What is on n images of any sizes."""
        return self.run_prepared([self.prepare(pixels) for pixels in images])

    def run_prepared(self, prepared: Sequence[Prepared]) -> list[Result]:
        """What is on n prepared images; those of one shape go through the model together."""
        groups: dict[tuple[int, ...], list[int]] = {}
        for at, each in enumerate(prepared):
            groups.setdefault(each.array.shape, []).append(at)
        results: dict[int, Result] = {}
        for rows in groups.values():
            same = [prepared[row] for row in rows]
            results.update(zip(rows, self.read(self.infer([each.array for each in same]), same), strict=True))
        return [results[row] for row in range(len(prepared))]

    def prepare(self, pixels: Pixels) -> Prepared:
        """Scale, pad and normalise one image; uint8 of shape (height, width, 3), RGB."""
        if pixels.ndim != 3 or pixels.shape[2] != 3 or pixels.dtype != np.uint8 or not pixels.size:
            what = f"an image is uint8 of shape (height, width, 3), not {pixels.dtype} of {pixels.shape}"
            raise PackageError(what, "prepare")
        pre = self._pre
        placement = _place((pixels.shape[0], pixels.shape[1]), pre)
        image = _scaled(pixels, placement, pre)
        if pre["color"] == "bgr":
            image = image[..., ::-1]
        elif pre["color"] == "gray":
            image = np.round(image @ _LUMA).astype(np.uint8)[..., None]
        if pre["layout"] == "nchw":
            image = image.transpose(2, 0, 1)
        image = np.ascontiguousarray(image)
        if pre["dtype"] == "uint8":
            return Prepared(image, placement)
        values = (
            image.astype(np.float32) if self._factor is None else np.multiply(image, self._factor, dtype=np.float32)
        )
        return Prepared(values if self._shift is None else values + self._shift, placement)

    def infer(self, batch: Array | Sequence[Array]) -> list[Array]:
        """The model's outputs, in the order of `postprocess.outputs`, for n prepared arrays of one shape; n rows each."""
        rows = batch if isinstance(batch, np.ndarray) else np.stack(batch)
        rows = rows.astype(np.float16) if self._pre["dtype"] == "float16" else rows
        step = self._pre.get("batch") or len(rows)
        try:
            calls = [self._call(rows[start : start + step], step) for start in range(0, len(rows), step)]
        except Exception as error:  # as above
            raise PackageError(f"the model fails on shape {rows.shape}: {_line(error)}", self.package.model) from error
        outputs = [np.concatenate(parts) if len(parts) > 1 else parts[0] for parts in zip(*calls, strict=True)]
        for name, array in zip(self._post["outputs"], outputs, strict=True):
            if len(array) != len(rows):
                raise PackageError(f"'{name}' is of {array.shape} for {len(rows)} images", self.package.model)
            if array.dtype.kind == "f" and array.size and np.isnan(array.min()):
                raise PackageError(f"the model gives NaN as '{name}'", self.package.model)
        return [array.astype(np.float32, copy=False) if array.dtype.kind == "f" else array for array in outputs]

    def _call(self, rows: Array, wanted: int) -> list[Array]:
        """Outputs of one call, which takes `wanted` rows: blank ones fill it up."""
        lacking = wanted - len(rows)
        if not lacking:
            return self._model(rows)
        filled = np.concatenate([rows, np.zeros((lacking, *rows.shape[1:]), rows.dtype)])
        return [array[: len(rows)] for array in self._model(filled)]

    def read(self, outputs: Sequence[Array], prepared: Sequence[Prepared]) -> list[Result]:
        """What the outputs of n images say of them."""
        assert self._read is not None
        named = dict(zip(self._post["outputs"], outputs, strict=True))
        results = []
        for row, each in enumerate(prepared):
            own = {name: array[row] for name, array in named.items()}
            try:
                with np.errstate(over="ignore", invalid="ignore"):  # boxes without end are left out
                    results.append(self._read(self._post, own, each.placement, self.package))
            except (ValueError, IndexError, KeyError) as error:
                shapes = ", ".join(f"'{name}' of {array.shape}" for name, array in own.items())
                what = f"outputs are not of layout '{self._post['layout']}': {shapes}"
                raise PackageError(what, self.package.model) from error
        return results

    @property
    def reference(self) -> Reference | None:
        """What training images look like; None where the package does not say."""
        if self._reference is None and self.package.manifest.get("reference"):
            self._reference = Reference.load(self.package.folder / self.package.manifest["reference"])
        return self._reference

    def features(self, pixels: Pixels, result: Result) -> npt.NDArray[np.float64] | None:
        """What drift is measured on, float64 of shape (17,); None where the package has no reference."""
        return None if self.reference is None else features(pixels, result)

    def drift(self, pixels: Pixels, result: Result) -> float:
        """How unlike the training images this one is: the part of them that is less so, in [0, 1); 0 without a reference."""
        return 0.0 if self.reference is None else self.reference.rank(features(pixels, result))


# What drift is measured on ----------------------------------------------------------------------------------------------------

FEATURES: Final = (
    *(f"luma_p{percent:02d}" for percent in (1, 10, 25, 50, 75, 90, 99)),
    *("contrast", "clipped", "red_gain", "blue_gain", "chroma"),
    *("sharpness", "steps_across", "steps_down", "noise", "sureness"),
)
"""Names of the numbers that `features` gives."""

_LUMA: Final = np.array([0.299, 0.587, 0.114], np.float32)  # ITU-R BT.601
_THUMBNAIL: Final = 128
_UNIT: Final = 1 / 255


def features(pixels: Pixels, result: Result) -> npt.NDArray[np.float64]:
    """Light, color, focus and noise of an image at 128 pixels, and how sure the model is; float64 of shape (17,)."""
    height, width = pixels.shape[:2]
    ratio = min(1.0, _THUMBNAIL / min(height, width))
    size = (max(3, round(width * ratio)), max(3, round(height * ratio)))
    small = Image.fromarray(pixels).resize(size, Image.Resampling.BILINEAR, reducing_gap=2.0)
    rgb = np.asarray(small, np.float32) * np.float32(_UNIT)
    luma = rgb @ _LUMA
    mean = rgb.mean(axis=(0, 1), dtype=np.float64) + _UNIT
    across, down = np.abs(np.diff(luma, axis=1)).mean(), np.abs(np.diff(luma, axis=0)).mean()
    middle = luma[1:-1, 1:-1]
    edges = luma[:-2, 1:-1] + luma[2:, 1:-1] + luma[1:-1, :-2] + luma[1:-1, 2:]
    corners = luma[:-2, :-2] + luma[:-2, 2:] + luma[2:, :-2] + luma[2:, 2:]
    laplacian, grain = edges - 4 * middle, corners - 2 * edges + 4 * middle  # grain: Immerkaer, 1996
    logs = [laplacian.std(), across, down, np.median(np.abs(grain)) / 4]
    return np.array(
        [
            *np.quantile(luma, (0.01, 0.1, 0.25, 0.5, 0.75, 0.9, 0.99)),
            *(luma.std(), ((luma < 0.02) | (luma > 0.98)).mean()),
            *np.log2(mean[[0, 2]] / mean[1]),
            (rgb.max(axis=2) - rgb.min(axis=2)).mean(),
            *np.log2(np.array(logs, np.float64) + _UNIT / 4),
            1 - result.uncertainty,
        ]
    )


@dataclass(frozen=True)
class Reference:
    """What training images look like: `features` of them, summed up.

    Attributes:
        mean: Shape (d,).
        precision: Inverse of their covariance; shape (d, d).
        distances: Mahalanobis distances of images that were left out of mean and covariance, ascending; shape (n,).
        uncertainties: How unsure the model was of images that it was measured on, ascending; shape (m,). None where there
            were too few, and in packages made before it was kept.
    """

    mean: npt.NDArray[np.float64]
    precision: npt.NDArray[np.float64]
    distances: npt.NDArray[np.float64]
    uncertainties: npt.NDArray[np.float64] | None = None

    @classmethod
    def load(cls, path: Path) -> Reference:
        """Read `reference.npz`; raises a `PackageError` if it is none."""
        try:
            with path.open("rb") as file, np.load(file, allow_pickle=False) as held:
                names = ("mean", "precision", "distances", *(["uncertainties"] if "uncertainties" in held else []))
                reference = cls(**{name: _numbers(held[name]) for name in names})
                if "names" in held and tuple(held["names"].tolist()) != FEATURES:
                    raise ValueError("it is of other features")
            reference._require_sense()
            return reference
        except (*_BROKEN, zipfile.BadZipFile, zlib.error) as error:
            raise PackageError(
                f"the reference cannot be read: {_line(error)}", path, "copy the package again"
            ) from error

    def _require_sense(self) -> None:
        """Raise a `ValueError` for arrays of wrong shapes or values."""
        count, unsure = len(FEATURES), self.uncertainties
        if self.mean.shape != (count,) or self.precision.shape != (count, count):
            raise ValueError(f"mean of {self.mean.shape}, precision of {self.precision.shape}")
        for values in (self.distances, *([] if unsure is None else [unsure])):
            if values.ndim != 1 or (np.diff(values) < 0).any():
                raise ValueError(f"values of {values.shape} that do not ascend")
        if not len(self.distances):
            raise ValueError("no distances")

    def distance(self, values: Array) -> npt.NDArray[np.float64]:
        """Mahalanobis distance of images' features, shape (..., d) to (...)."""
        off = np.asarray(values, np.float64) - self.mean
        return np.asarray(np.sqrt(np.maximum(np.einsum("...i,ij,...j->...", off, self.precision, off), 0)))

    def hardest(self, part: float) -> float | None:
        """An uncertainty that at most that part of new images like those measured on is above; None where it is not known."""
        known = self.uncertainties
        if known is None or not len(known):
            return None
        # One more image is as likely to take any of the m + 1 places among m others.
        place = int(np.ceil((len(known) + 1) * (1 - part)))
        return float(known[min(max(place, 1), len(known)) - 1])

    def rank(self, values: Array) -> float:
        """The part of training images that are less far off, in [0, 1); it nears 1 beyond the farthest."""
        distance, known = float(self.distance(values)), self.distances
        part = float(np.searchsorted(known, distance)) / (len(known) + 1)
        if distance <= known[-1]:
            return part
        return min(1 - (1 - len(known) / (len(known) + 1)) * float(known[-1] / distance) ** 2, 1 - 1e-9)


def _numbers(values: Array) -> npt.NDArray[np.float64]:
    """An array as float64; raises a `ValueError` if it holds anything but finite numbers."""
    if values.dtype.kind not in "fiu" or not np.isfinite(values).all():
        raise ValueError(f"{values.dtype} of {values.shape} with values that are no numbers")
    return values.astype(np.float64)


# Before the model ---------------------------------------------------------------------------------------------------------------


def load_image(path: str | Path) -> Pixels:
    """Decode an image file: RGB, upright, transparency on white, more than 8 bits scaled by the file's own range."""
    try:
        with Image.open(path) as opened:
            if opened.width * opened.height > _LARGEST_IMAGE:
                raise ValueError(f"{opened.width} x {opened.height} pixels are more than {_LARGEST_IMAGE:,}")
            image = ImageOps.exif_transpose(opened)
            if image.mode.startswith(("I", "F")):
                values = np.nan_to_num(np.asarray(image, np.float64))
                low, high = (0.0, 255.0) if image.mode != "F" and values.max() <= 255 else (values.min(), values.max())
                grey = ((values - low) * (255.0 / max(high - low, 1e-12))).clip(0, 255).astype(np.uint8)
                return np.repeat(grey[..., None], 3, axis=2)
            if "A" in image.getbands() or "transparency" in image.info:
                rgba = image.convert("RGBA")
                image = Image.new("RGB", image.size, (255, 255, 255))
                image.paste(rgba, mask=rgba.getchannel("A"))
            return np.asarray(image.convert("RGB"))
    except (OSError, ValueError, SyntaxError, EOFError, MemoryError, Image.DecompressionBombError) as error:
        raise PackageError(f"the image cannot be read: {_line(error)}", path, "replace the file") from error


def _normalisation(pre: Mapping[str, Any]) -> tuple[Array | None, Array | None]:
    """What pixels are multiplied by, and what is added then, for the input's axes; None for 1 and 0."""
    channels = 1 if pre["color"] == "gray" else 3
    mean, std = np.array(pre["mean"], np.float64), np.array(pre["std"], np.float64)
    shape = (channels, 1, 1) if pre["layout"] == "nchw" else (channels,)
    factor = np.broadcast_to(pre["scale"] / std, channels).astype(np.float32).reshape(shape)
    shift = np.broadcast_to(-mean / std, channels).astype(np.float32).reshape(shape)
    return (None if (factor == 1).all() else factor), (shift if shift.any() else None)


def _place(image: Size, pre: Mapping[str, Any]) -> Placement:
    resize = pre["resize"]
    if resize == "none":
        return place(image, None, resize, multiple=pre["multiple"])
    if resize not in _RESIZES:
        raise PackageError(f"resize '{resize}' is not understood", MANIFEST)
    return place(image, (pre["size"][0], pre["size"][1]), resize, pre.get("crop", 1.0))


def place(image: Size, size: Size | None, resize: str, crop: float = 1.0, multiple: int = 1) -> Placement:
    """Where an image goes in an input of a size (None, or resize none: padded to whole multiples); cf. `sidecar.Resize`."""
    if size is None or resize == "none":
        height, width = (-(-side // multiple) * multiple for side in image)
        return Placement(image, (height, width), image, (0, 0))
    if resize == "squash":
        return Placement(image, size, size, (0, 0))
    ratios = (size[0] / image[0], size[1] / image[1])
    if resize == "shortest_side_crop":
        ratio = max(ratios) / crop
        scaled = (max(size[0], round(image[0] * ratio)), max(size[1], round(image[1] * ratio)))
        return Placement(image, size, scaled, (-((scaled[0] - size[0]) // 2), -((scaled[1] - size[1]) // 2)))
    tight = ratios.index(min(ratios))
    if resize == "letterbox":  # in whole numbers: 500 * (416 / 500) may be less than 416
        scaled = (max(image[0] * size[tight] // image[tight], 1), max(image[1] * size[tight] // image[tight], 1))
        return Placement(image, size, scaled, (0, 0))
    height, width = (min(max(round(side * ratios[tight]), 1), most) for side, most in zip(image, size, strict=True))
    return Placement(image, size, (height, width), ((size[0] - height) // 2, (size[1] - width) // 2))


def _scaled(pixels: Pixels, placement: Placement, pre: Mapping[str, Any]) -> Pixels:
    """An image where it lies in the input, with padding about it."""
    scaled, (top, left), (height, width) = placement.scaled, placement.offset, placement.input
    if scaled != placement.image:
        how = _INTERPOLATION[pre["interpolation"]]
        pixels = np.asarray(Image.fromarray(pixels).resize((scaled[1], scaled[0]), how, reducing_gap=2.0))
    if scaled == placement.input:
        return pixels
    pixels = pixels[max(-top, 0) :, max(-left, 0) :][:height, :width]
    top, left = max(top, 0), max(left, 0)
    canvas = np.full((height, width, 3), round(pre["pad"]), np.uint8)
    canvas[top : top + pixels.shape[0], left : left + pixels.shape[1]] = pixels
    return canvas


# Behind the model: one function for each layout of outputs ---------------------------------------------------------------------

Post = Mapping[str, Any]
Outputs = Mapping[str, Array]


def _read_logits(post: Post, outputs: Outputs, placement: Placement, package: Package) -> Result:
    """[n, classes]."""
    scores = outputs[post["output"]]
    if scores.shape != (len(package.classes),):
        raise ValueError
    return Result(package.task, placement.image, probabilities=activate(scores, post["activation"]))


def _read_class_map(post: Post, outputs: Outputs, placement: Placement, package: Package) -> Result:
    """[n, channels, h, w]: scores are brought to the image's size, then compared."""
    scores, first = outputs[post["output"]], int(post["background"])
    if scores.ndim != 3 or len(scores) != len(package.classes) + first:
        raise ValueError
    apart = post["activation"] == "sigmoid" or len(scores) == 1
    labels, confidence = np.full(placement.image, VOID, np.int16), np.zeros(placement.image, np.float32)
    for rows, columns, planes in _strips(scores, placement):
        best, value = best_channel(planes)
        if post["activation"] == "softmax" and not apart:
            value = 1 / np.exp(planes - value).sum(axis=0)
        elif apart and post["activation"] != "none":
            value = activate(value, "sigmoid")
        there = value >= 0.5 if apart else best >= first
        labels[rows, columns] = np.where(there, best - first, VOID)
        confidence[rows, columns] = np.maximum(value, 1 - value) if apart else value
    return Result(package.task, placement.image, class_map=labels, confidence=confidence)


def best_channel(planes: Array) -> tuple[Array, Array]:
    """The first of the largest of c planes, shape (c, h, w), everywhere, and its value; argmax along so far an axis is slow."""
    best, value = np.zeros(planes.shape[1:], np.int16), planes[0].copy()
    for number, plane in enumerate(planes[1:], start=1):
        np.copyto(best, number, where=plane > value)
        np.maximum(value, plane, out=value)
    return best, value


def _read_label_map(post: Post, outputs: Outputs, placement: Placement, package: Package) -> Result:
    """[n, h, w] or [n, 1, h, w] of class numbers, taken for certain."""
    given = outputs[post["output"]]
    given = given[0] if given.ndim == 3 and len(given) == 1 else given
    height, width = given.shape
    top, left, bottom, right = placement.seen
    middles = np.arange(top, bottom) + 0.5, np.arange(left, right) + 0.5
    (scale_y, scale_x), (corner_y, corner_x) = placement.scale, placement.offset
    rows = ((middles[0] * scale_y + corner_y) * height / placement.input[0]).astype(int).clip(0, height - 1)
    columns = ((middles[1] * scale_x + corner_x) * width / placement.input[1]).astype(int).clip(0, width - 1)
    numbers = np.round(given[np.ix_(rows, columns)]).astype(np.int64) - int(post["background"])
    labels, confidence = np.full(placement.image, VOID, np.int16), np.zeros(placement.image, np.float32)
    labels[top:bottom, left:right] = np.where((numbers >= 0) & (numbers < len(package.classes)), numbers, VOID)
    confidence[top:bottom, left:right] = 1
    return Result(package.task, placement.image, class_map=labels, confidence=confidence)


def _read_boxes_scores(post: Post, outputs: Outputs, placement: Placement, package: Package) -> Result:
    """[n, anchors, 4] and [n, anchors, classes]."""
    first = int(post["background"])
    probabilities = activate(outputs[post["scores"]], post["activation"])[:, first:]
    sure = probabilities.max(axis=1) >= post["min_score"]
    boxes = to_corners(outputs[post["boxes"]][sure], post["form"], post["normalised"], placement.input)
    return _objects(post, boxes, probabilities[sure], placement, package)


def _read_detr(post: Post, outputs: Outputs, placement: Placement, package: Package) -> Result:
    """Logits [n, queries, classes] and boxes [n, queries, 4], normalised centre and size; no doubles."""
    probabilities = activate(outputs[post["logits"]], post["activation"])
    probabilities = probabilities[:, :-1] if post["activation"] == "softmax" else probabilities
    boxes = to_corners(outputs[post["boxes"]], "cxcywh", True, placement.input)
    return _objects(post, boxes, probabilities, placement, package, doubles=False)


def _read_yolox(post: Post, outputs: Outputs, placement: Placement, package: Package) -> Result:
    """[n, cells, 5 + classes] before decoding: offsets, logarithms of sides, objectness, classes."""
    rows, cells = outputs[post["output"]], grid(placement.input, tuple(post["strides"]))
    if len(rows) != len(cells):
        raise ValueError
    objectness = activate(rows[:, 4], post["activation"])
    sure = objectness >= post["min_score"]
    rows, cells, strides = rows[sure], cells[sure], cells[sure, 2:]
    middles, sides = (rows[:, :2] + cells[:, :2]) * strides, np.exp(np.minimum(rows[:, 2:4], _LARGEST_LOG)) * strides
    boxes = to_corners(np.concatenate([middles, sides], axis=1), "cxcywh", False, placement.input)
    probabilities = activate(rows[:, 5:], post["activation"]) * objectness[sure, None]
    return _objects(post, boxes, probabilities, placement, package)


def _read_yolov5(post: Post, outputs: Outputs, placement: Placement, package: Package) -> Result:
    """[n, k, 5 + classes], decoded: a box, objectness, classes."""
    rows = outputs[post["output"]]
    rows = rows[rows[:, 4] >= post["min_score"]]
    boxes = to_corners(rows[:, :4], post["form"], post["normalised"], placement.input)
    return _objects(post, boxes, rows[:, 5:] * rows[:, 4:5], placement, package)


def _read_yolov8(post: Post, outputs: Outputs, placement: Placement, package: Package) -> Result:
    """[n, 4 + classes, k] or its transpose, decoded: a box, classes."""
    columns = outputs[post["output"]]
    columns = columns if len(columns) == 4 + len(package.classes) else columns.T
    columns = columns[:, columns[4:].max(axis=0) >= post["min_score"]]
    boxes = to_corners(columns[:4].T, post["form"], post["normalised"], placement.input)
    return _objects(post, boxes, columns[4:].T, placement, package)


_READERS: Final[dict[object, Callable[[Post, Outputs, Placement, Package], Result]]] = {
    "logits": _read_logits,
    "class_map": _read_class_map,
    "label_map": _read_label_map,
    "boxes_scores": _read_boxes_scores,
    "detr": _read_detr,
    "yolox": _read_yolox,
    "yolov5": _read_yolov5,
    "yolov8": _read_yolov8,
}
LAYOUTS: Final = tuple(str(layout) for layout in _READERS)
"""Layouts of outputs that a package can have."""


def _objects(
    post: Post, boxes: Array, probabilities: Array, placement: Placement, package: Package, *, doubles: bool = True
) -> Result:
    """What of boxes on the input, corners of shape (k, 4), was found: sure enough, no doubles, on the image; surest first."""
    if boxes.shape != (len(probabilities), 4) or probabilities.shape[1] != len(package.classes):
        raise ValueError
    height, width = placement.image
    labels = probabilities.argmax(axis=1)
    scores = probabilities[np.arange(len(labels)), labels]
    chosen = np.flatnonzero((scores >= post["min_score"]) & np.isfinite(boxes).all(axis=1))
    chosen = chosen[np.argsort(-scores[chosen], kind="stable")]
    corners = placement.to_image(boxes[chosen]).clip(0, [width, height, width, height])
    there = (corners[:, 2:] > corners[:, :2]).all(axis=1)
    chosen, corners = chosen[there], corners[there]
    if doubles:
        kept = suppress(boxes[chosen], labels[chosen], post["nms_iou"], post["most_objects"])
        chosen, corners = chosen[kept], corners[kept]
    chosen, corners = chosen[: post["most_objects"]], corners[: post["most_objects"]]
    return Result(
        package.task,
        placement.image,
        boxes=np.concatenate([corners[:, :2], corners[:, 2:] - corners[:, :2]], axis=1),
        labels=labels[chosen].astype(np.int64),
        scores=scores[chosen].astype(np.float64).clip(0, 1),
    )


def suppress(boxes: Array, labels: Array, iou: float, most: int) -> npt.NDArray[np.int64]:
    """Greedy non-maximum suppression within each class.

    Args:
        boxes: Corners [x1, y1, x2, y2], shape (k, 4), surest first.
        labels: Classes, shape (k,).
        iou: A box that overlaps a surer one of its class more than this is left out.
        most: How many boxes are wanted.

    Returns:
        Numbers of the boxes that stay, ascending.
    """
    boxes = boxes.astype(np.float64)
    areas = (boxes[:, 2:] - boxes[:, :2]).clip(0).prod(axis=1)
    kept: list[int] = []
    left = np.arange(len(boxes))
    while len(left) and len(kept) < most:
        first, left = left[0], left[1:]
        kept.append(int(first))
        common = np.minimum(boxes[first, 2:], boxes[left, 2:]) - np.maximum(boxes[first, :2], boxes[left, :2])
        shared = common.clip(0).prod(axis=1)
        double = (shared > iou * (areas[first] + areas[left] - shared)) & (labels[left] == labels[first])
        left = left[~double]
    return np.array(kept, np.int64)


def activate(scores: Array, activation: str) -> Array:
    """Scores to probabilities; softmax is over the last axis."""
    if activation == "sigmoid":
        return np.asarray(0.5 * (1 + np.tanh(0.5 * scores)))
    if activation == "softmax":
        powers = np.exp(scores - scores.max(axis=-1, keepdims=True))
        return np.asarray(powers / powers.sum(axis=-1, keepdims=True))
    return scores


def to_corners(boxes: Array, form: str, normalised: bool, size: Size) -> Array:
    """Boxes of any form, shape (k, 4), as [x1, y1, x2, y2] in pixels of an input of that size."""
    if form == "yxyx":
        boxes = boxes[:, [1, 0, 3, 2]]
    elif form == "xywh":
        boxes = np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], axis=1)
    elif form == "cxcywh":
        half = boxes[:, 2:] / 2
        boxes = np.concatenate([boxes[:, :2] - half, boxes[:, :2] + half], axis=1)
    return boxes * np.array([size[1], size[0]] * 2, boxes.dtype) if normalised else boxes


@lru_cache(maxsize=32)
def grid(size: Size, strides: tuple[int, ...]) -> npt.NDArray[np.float32]:
    """The cells of several grids over an input, rows first: [column, row, stride], float32 of shape (cells, 3)."""
    height, width = size
    grids = []
    for stride in strides:
        rows, columns = np.mgrid[: -(-height // stride), : -(-width // stride)].reshape(2, -1)
        grids.append(np.stack([columns, rows, np.full_like(rows, stride)], axis=1))
    cells = np.concatenate(grids).astype(np.float32)
    cells.flags.writeable = False
    return cells


def _strips(values: Array, placement: Placement) -> Iterator[tuple[slice, slice, Array]]:
    """Maps over the input, shape (c, h, w), at the image's size: bilinear, some rows at a time so that memory stays bounded.

    Padding is cut off first, so that it is not mixed into the image's border.
    """
    top, left, bottom, right = placement.seen
    if bottom <= top or right <= left:
        return
    height, width = values.shape[-2:]
    per = np.array([width / placement.input[1], height / placement.input[0]] * 2)
    x1, y1, x2, y2 = placement.to_input([[left, top, right, bottom]])[0] * per
    row, column = max(0, int(np.floor(y1 + 1e-6))), max(0, int(np.floor(x1 + 1e-6)))
    part = values[:, row : int(np.ceil(y2 - 1e-6)), column : int(np.ceil(x2 - 1e-6))].astype(np.float32, copy=False)
    # The image may reach beyond its map by a part of a cell: there its border is repeated.
    beyond = (row - y1, column - x1, y2 - row - part.shape[1], x2 - column - part.shape[2])
    up, back, down, on = (int(np.ceil(each)) + 1 if each > 0 else 0 for each in beyond)
    step = max(1, _STRIP_VALUES // (len(values) * (right - left)))
    per_row = (y2 - y1) / (bottom - top)
    padded = [Image.fromarray(np.pad(plane, ((up, down), (back, on)), mode="edge")) for plane in part]
    for start in range(top, bottom, step):
        end = min(start + step, bottom)
        first, last = (y1 - row + up + (at - top) * per_row for at in (start, end))
        box = (x1 - column + back, first, x2 - column + back, last)
        size = (right - left, end - start)
        planes = [np.asarray(plane.resize(size, Image.Resampling.BILINEAR, box=box)) for plane in padded]
        yield slice(start, end), slice(left, right), np.stack(planes)


# What runs the model: each opens a file, and gives a function from a batch to the outputs asked for ----------------------------

Call = Callable[[Array], list[Array]]


def _open_onnxruntime(
    path: Path, entry: str, outputs: Sequence[str], threads: int, *, first: Sequence[Any] = ()
) -> Call:
    import onnxruntime

    onnxruntime.disable_telemetry_events()
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(str(path), options, providers=[*first, "CPUExecutionProvider"])
    return lambda batch: [np.asarray(array) for array in session.run(list(outputs), {entry: batch})]


def _open_tensorrt(path: Path, entry: str, outputs: Sequence[str], threads: int) -> Call:
    """The ONNX file by onnxruntime's TensorRT provider, which builds an engine once and keeps it in the package's folder."""
    import onnxruntime

    if "TensorrtExecutionProvider" not in onnxruntime.get_available_providers():
        raise ImportError("this onnxruntime has no TensorRT provider")
    settings = {"trt_engine_cache_enable": True, "trt_engine_cache_path": str(path.parent), "trt_fp16_enable": True}
    providers = [("TensorrtExecutionProvider", settings), "CUDAExecutionProvider"]
    return _open_onnxruntime(path, entry, outputs, threads, first=providers)


def _open_openvino(path: Path, entry: str, outputs: Sequence[str], threads: int) -> Call:
    openvino = import_openvino()
    # float32 unless the model is quantised: bfloat16, its default on some processors, gives other numbers than elsewhere.
    settings = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": threads, "NUM_STREAMS": 1}
    core = openvino.Core()
    with same_signal_stack():
        compiled = core.compile_model(core.read_model(path), "CPU", settings)
    request = compiled.create_infer_request()

    def call(batch: Array) -> list[Array]:
        request.infer({entry: batch})
        return [np.array(request.get_tensor(name).data) for name in outputs]

    return call


def import_openvino() -> Any:
    """OpenVINO without `openvino_telemetry`: it would report to its maker that it was imported."""
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]  # importing it fails, which OpenVINO expects
    return importlib.import_module("openvino")


@contextmanager
def same_signal_stack() -> Iterator[None]:
    """Have signals handled on the same stack as before.

    OpenVINO sets one aside for them with every model, and when models go in another order than they came leaves one that is
    unmapped: the next signal that Python handles, Ctrl-C for one, would kill the process.
    """
    if sys.platform != "linux":
        yield
        return
    libc, before = ctypes.CDLL(None), _SignalStack()
    libc.sigaltstack(None, ctypes.byref(before))
    try:
        yield
    finally:
        libc.sigaltstack(ctypes.byref(before), None)


class _SignalStack(ctypes.Structure):
    """`stack_t` of <signal.h>."""

    _fields_ = (("ss_sp", ctypes.c_void_p), ("ss_flags", ctypes.c_int), ("ss_size", ctypes.c_size_t))


def _open_tflite(path: Path, entry: str, outputs: Sequence[str], threads: int) -> Call:
    litert = importlib.import_module("ai_edge_litert.interpreter")
    run = litert.Interpreter(model_path=str(path), num_threads=threads).get_signature_runner()

    def call(batch: Array) -> list[Array]:
        given = run(**{entry: batch})
        return [np.asarray(given[name]) for name in outputs]

    return call


_OPENERS: Final[dict[str, Callable[[Path, str, Sequence[str], int], Call]]] = {
    "onnxruntime": _open_onnxruntime,
    "openvino": _open_openvino,
    "tflite": _open_tflite,
    "tensorrt": _open_tensorrt,
}


def _opened(manifest: Mapping[str, Any]) -> dict[str, str]:
    """Names of the files that a runner, or what runs the model for it, opens; by what each is."""
    model, reference = Path(manifest["model"]["file"]), manifest.get("reference")
    opened = {"the model": manifest["model"]["file"]}
    if model.suffix == ".xml":
        opened["the model's weights file"] = model.with_suffix(".bin").as_posix()  # OpenVINO takes what lies beside
    if reference:
        opened["the reference"] = str(reference)
    return opened


def _check_file(folder: Path, name: str, digest: str | None) -> None:
    path = folder / name
    inside = path.resolve().is_relative_to(folder.resolve())  # a link may lead out
    if Path(name).is_absolute() or ".." in Path(name).parts or not inside:
        raise PackageError(f"'{name}' lies outside of the package", folder / MANIFEST, "make the package again")
    if not path.is_file():
        raise PackageError("the file is missing", path, "copy the package again")
    if digest is not None:
        with path.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
        if found != digest:
            raise PackageError("the file is not what it was when the package was made", path, "copy the package again")


def _line(error: BaseException) -> str:
    return str(error).strip().partition("\n")[0] or type(error).__name__


def main(arguments: Sequence[str] | None = None) -> int:
    """Print what is on images, one JSON object a line; the exit status is 2 where an image or the package cannot be used."""
    parser = argparse.ArgumentParser(description="Run a packaged model on images; prints one JSON object a line.")
    parser.add_argument("images", nargs="+", metavar="IMAGE")
    parser.add_argument("--package", default=str(Path(__file__).resolve().parent), help="the folder of the package")
    parser.add_argument("--threads", type=int, default=1, help="that one inference may use")
    parser.add_argument(
        "--backend", choices=list(_OPENERS), help="what runs the model; the package's target says if left out"
    )
    parser.add_argument("--all", action="store_true", help="objects below their class's threshold too")
    asked = parser.parse_args(arguments)
    Image.MAX_IMAGE_PIXELS = None  # `load_image` has a limit of its own; Pillow's would print a warning from within
    status = 0
    try:
        runner = Runner(asked.package, threads=asked.threads, backend=asked.backend)
    except PackageError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    for path in asked.images:
        try:
            pixels = load_image(path)
            (result,) = runner.run([pixels])
            said = (result if asked.all else result.above(runner.package.thresholds)).to_json(runner.package.classes)
            said |= {"uncertainty": round(result.uncertainty, 6), "drift": round(runner.drift(pixels, result), 6)}
            print(json.dumps({"image": path, "package": runner.package.id, **said}), flush=True)
        except PackageError as error:
            print(f"error: {error}", file=sys.stderr)
            status = 2
    return status


if __name__ == "__main__":
    raise SystemExit(main())
