"""FiftyOne's mistakenness of boxes, for an interpreter that has FiftyOne and not curate: `box_mistakenness FROM TO`.

FROM has the columns truth_image, truth_bbox (shares of the picture), truth_label, image, bbox, label, score, and n_images; TO
gets, for every box of the truth, mislabeled, mislocated and spurious, and for every prediction missing. Where FiftyOne has no
number there is a 0. It says of a prediction only whether the box is missing (above a
confidence of 0.95): what it marks is ordered by confidence.
"""

from __future__ import annotations

import sys
import tempfile
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

_SIDE = 32  # pixels of the pictures, which FiftyOne wants and does not look at


def main(source: Path, target: Path) -> None:
    """Judge the boxes in one file, and write another."""
    with np.load(source) as columns, tempfile.TemporaryDirectory() as folder:
        np.savez(target, **judge(dict(columns), Path(folder)))


def judge(columns: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Columns of scores, as the module says."""
    fo, fob = import_module("fiftyone"), import_module("fiftyone.brain")
    from PIL import Image

    picture = folder / "picture.png"
    Image.new("RGB", (_SIDE, _SIDE)).save(picture)
    dataset = fo.Dataset(overwrite=True, name="mistakenness")
    metadata = fo.ImageMetadata(width=_SIDE, height=_SIDE)
    samples = [fo.Sample(filepath=str(folder / f"{i}.png"), metadata=metadata) for i in range(int(columns["n_images"]))]
    for prefix, field in (("truth_", "given"), ("", "predicted")):
        boxes: list[list[Any]] = [[] for _ in samples]
        scores = columns["score"] if field == "predicted" else [None] * len(columns["truth_image"])
        rows = zip(*(columns[prefix + name] for name in ("image", "bbox", "label")), scores, strict=True)
        for row, (image, bbox, label, score) in enumerate(rows):
            confidence = None if score is None else float(score)
            box = fo.Detection(label=str(label), bounding_box=bbox.tolist(), confidence=confidence, row=row)
            boxes[image].append(box)
        for sample, own in zip(samples, boxes, strict=True):
            sample[field] = fo.Detections(detections=own)
    dataset.add_samples(samples, progress=False)
    fob.compute_mistakenness(dataset, "predicted", label_field="given", copy_missing=False, progress=False)

    n = len(columns["truth_image"])
    found = {name: np.zeros(n) for name in ("mislabeled", "mislocated", "spurious")}
    found["missing"] = np.zeros(len(columns["image"]))
    for sample in dataset:
        for box in sample["given"].detections:
            found["spurious"][box.row] = float(bool(_value(box, "possible_spurious")))
            found["mislabeled"][box.row] = _value(box, "mistakenness")
            found["mislocated"][box.row] = _value(box, "mistakenness_loc")
        for box in sample["predicted"].detections:
            marked = bool(_value(box, "possible_missing"))
            found["missing"][box.row] = box.confidence if marked else 0.0
    dataset.delete()
    return found


def _value(box: Any, name: str) -> float:
    """A number that FiftyOne wrote to a box; 0 where it wrote none."""
    value = box[name] if box.has_field(name) else None
    return 0.0 if value is None else float(value)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
