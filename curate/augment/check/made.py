"""Images that were just made, as the check wants them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow.compute as pc

from curate.augment.check.pictures import Picture, Thing
from curate.augment.check.run import SyntheticCheck, check_synthetic
from curate.augment.labels import is_put
from curate.augment.making import Made
from curate.augment.parents import Parent, is_measured_on
from curate.augment.targets import Target
from curate.dataset import Dataset
from curate.geometry import polygons_to_rle
from curate.models.passes import Progress
from curate.models.spaces import choose_encoder
from curate.recipes.shapes import Shape


def check_made(
    dataset: Dataset, made: Sequence[Made], target: Target | None, *, seed: int = 0, progress: Progress | None = None
) -> SyntheticCheck:
    """Check new images before they are kept; rows of the result are those of `made`, all of which have an image.

    They are compared with those images of the target that may be learnt from.

    Args:
        dataset: Of the parents; whose encoder is used.
        made: The new images.
        target: What they should look like; None, or a class, for nothing but more of the same.
        seed: Of samples, folds and resamples.
        progress: Told (images done, images to do).

    Raises:
        UnavailableError: The encoder's weights cannot be had.
    """
    parents = list({each.job.parent.image_id: each.job.parent for each in made}.values())
    place = {parent.image_id: number for number, parent in enumerate(parents)}
    return check_synthetic(
        [picture_of_made(each) for each in made],
        [place[each.job.parent.image_id] for each in made],
        [picture_of_parent(parent) for parent in parents],
        [] if target is None or target.class_name is not None else target_pictures(dataset, target),
        encoder=choose_encoder(dataset, None),
        seed=seed,
        progress=progress,
    )


def picture_of_parent(parent: Parent) -> Picture:
    """A parent, with its labels."""
    size = (parent.height, parent.width)
    things = [_thing(label.label, label.shape, size) for label in parent.labels]
    return Picture(parent.path, size, _group(parent), tuple(each for each in things if each is not None))


def picture_of_made(made: Made) -> Picture:
    """A new image, with its labels, in the group of its parent."""
    image: Mapping[str, Any] = made.image or {}
    size = (int(image["height"]), int(image["width"]))
    things = [_of_row(row, size, pasted=is_put(row["attributes"])) for row in made.annotations]
    return Picture(
        str(image["path"]), size, _group(made.job.parent), tuple(each for each in things if each is not None)
    )


def target_pictures(dataset: Dataset, target: Target) -> list[Picture]:
    """The real images of a target that may be learnt from, as far as they have a file; without what is on them."""
    columns = ["image_id", "path", "width", "height", "group", "split"]
    rows = dataset.table("images", columns=columns)
    rows = rows.filter(pc.is_in(rows["image_id"], value_set=target.image_ids)).to_pylist()
    return [
        Picture(row["path"], (row["height"] or 0, row["width"] or 0), _group_name(row["group"], row["image_id"]))
        for row in sorted(rows, key=lambda row: str(row["image_id"]))
        if row["path"] is not None and not is_measured_on(row["split"]) and Path(row["path"]).is_file()
    ]


def _of_row(row: Mapping[str, Any], size: tuple[int, int], *, pasted: bool) -> Thing | None:
    shape = Shape(row["type"], row["bbox"], row["rotated_box"], row["polygons"], row["rle"], row["keypoints"])
    return _thing(row["label"], shape, size, pasted=pasted)


def _thing(label: str | None, shape: Shape, size: tuple[int, int], *, pasted: bool = False) -> Thing | None:
    """A label as the check looks at it; None where it has no class."""
    if label is None:
        return None
    rle = shape.rle
    if rle is None and pasted and shape.polygons and shape.type != "polyline":
        rle = polygons_to_rle(shape.polygons, *size)
    box = None if shape.bbox is None else tuple(float(value) for value in shape.bbox)
    return Thing(label, None if box is None else (box[0], box[1], box[2], box[3]), rle, pasted)


def _group(parent: Parent) -> str:
    return _group_name(parent.group, parent.image_id)


def _group_name(group: str | None, image_id: str) -> str:
    return f"image/{image_id}" if group is None else f"group/{group}"
