"""The columns of every table in a dataset.

Coordinates are absolute pixels in float64, COCO conventions: the origin is the top-left corner of the top-left pixel, x to
the right, y down, a box is ``[x, y, width, height]``. They refer to the image **after** its EXIF orientation is applied.

Ids are 16 lower-case hexadecimal digits (see `curate.dataset.ids`).
"""

from __future__ import annotations

from typing import Final, Literal

import pyarrow as pa

from curate.names import GROUND_TRUTH as GROUND_TRUTH
from curate.names import PREDICTIONS as PREDICTIONS

AnnotationType = Literal["label", "box", "rotated_box", "polygon", "mask", "keypoints", "polyline"]
"""What an annotation chiefly is. The other geometry columns may be filled as well: a COCO person has a box, polygons and
keypoints in one row, and its type is the most specific of them (keypoints > mask > polygon > rotated_box > box > label)."""

IMAGES: Final = pa.schema(
    [
        pa.field("image_id", pa.string(), nullable=False),
        # As it was imported, relative to the dataset's root, with forward slashes: the image's identity.
        pa.field("location", pa.string(), nullable=False),
        # Absolute path of the bytes; null when the file was not found at import.
        pa.field("path", pa.string()),
        # After EXIF orientation; null when neither the annotation file nor the image tells.
        pa.field("width", pa.int32()),
        pa.field("height", pa.int32()),
        pa.field("content_hash", pa.string()),
        pa.field("split", pa.string()),
        pa.field("tags", pa.list_(pa.string())),
        # Video, burst or source the image belongs to, its place in it, and when it was taken (seconds).
        pa.field("group", pa.string()),
        pa.field("frame", pa.int64()),
        pa.field("timestamp", pa.float64()),
        # JSON object: what the source said that has no column of its own (licence, capture date, camera ...).
        pa.field("metadata", pa.string()),
        # The id the source file gave it, as text ("0", "397133"), and that file, relative to the import's root.
        pa.field("source_id", pa.string()),
        pa.field("source", pa.string()),
    ]
)

ANNOTATIONS: Final = pa.schema(
    [
        pa.field("annotation_id", pa.string(), nullable=False),
        pa.field("image_id", pa.string(), nullable=False),
        pa.field("layer", pa.string(), nullable=False),
        pa.field("type", pa.string(), nullable=False),
        pa.field("label", pa.string()),
        # [x, y, width, height], pixels; null for a whole-image label. Kept as given, even when impossible.
        pa.field("bbox", pa.list_(pa.float64(), 4)),
        # [centre x, centre y, width, height, degrees clockwise]; `bbox` is then the axis-aligned box around it.
        pa.field("rotated_box", pa.list_(pa.float64(), 5)),
        # One list per part: [x0, y0, x1, y1, ...]. A polyline has exactly one part and is open.
        pa.field("polygons", pa.list_(pa.list_(pa.float64()))),
        # COCO compressed run-length counts, and the [height, width] they refer to.
        pa.field("rle", pa.string()),
        pa.field("rle_size", pa.list_(pa.int32(), 2)),
        # [x, y, visibility] triples, flattened; visibility 0 not labelled, 1 hidden, 2 visible.
        pa.field("keypoints", pa.list_(pa.float64())),
        # Pixels; as the source gave it, else null.
        pa.field("area", pa.float64()),
        pa.field("iscrowd", pa.bool_()),
        # Confidence in [0, 1] of a prediction; null for ground truth.
        pa.field("score", pa.float64()),
        # Class probabilities of a prediction, in the order of the dataset's classes.
        pa.field("probabilities", pa.list_(pa.float32())),
        # JSON object: occluded, truncated, difficult, and whatever else the source had.
        pa.field("attributes", pa.string()),
        pa.field("source_id", pa.string()),
        pa.field("source", pa.string()),
    ]
)

RELATED: Final = pa.struct(
    [
        pa.field("image", pa.string()),
        pa.field("image_id", pa.string()),
        pa.field("annotation_id", pa.string()),
        pa.field("score", pa.float64()),
    ]
)

FINDINGS: Final = pa.schema(
    [
        pa.field("id", pa.string(), nullable=False),
        pa.field("kind", pa.string(), nullable=False),
        # Calibrated probability in [0, 1] that this is a real problem, where the check can give one.
        pa.field("score", pa.float64(), nullable=False),
        pa.field("image", pa.string(), nullable=False),
        pa.field("image_id", pa.string(), nullable=False),
        pa.field("annotation_id", pa.string()),
        pa.field("source_annotation_id", pa.string()),
        pa.field("bbox", pa.list_(pa.float64(), 4)),
        pa.field("given", pa.string()),
        pa.field("suggested", pa.string()),
        pa.field("related", pa.list_(RELATED)),
        # JSON object that says why.
        pa.field("evidence", pa.string(), nullable=False),
        pa.field("status", pa.string(), nullable=False),
        pa.field("check", pa.string(), nullable=False),
        # Number of the dataset commit in which it first appeared.
        pa.field("commit", pa.int64(), nullable=False),
    ]
)

LINKS: Final = pa.schema(
    [
        # 'cvat://host/projects/3', 'labelstudio://host/projects/7' ...
        pa.field("remote", pa.string(), nullable=False),
        pa.field("kind", pa.string(), nullable=False),  # image, annotation, finding
        pa.field("local_id", pa.string(), nullable=False),
        # Of a finding, the id of the item that it was pushed to.
        pa.field("remote_id", pa.string(), nullable=False),
        # The item (one image on the server) that an annotation is on; null for images and findings.
        pa.field("item", pa.string()),
        # What both sides were when they last agreed: a digest of the row here (of a finding, of what it is about) ...
        pa.field("local_digest", pa.string()),
        # ... and there: digests of an annotation's fields as JSON, the version of an item.
        pa.field("remote_digest", pa.string()),
        # What people had handed in on the item by then (`curate.connectors.base.Item.work`).
        pa.field("work", pa.string()),
    ]
)


def embeddings_schema(dimensions: int) -> pa.Schema:
    """Schema of one embedding space: one row per image or per annotation crop.

    Args:
        dimensions: Length of a vector.
    """
    return pa.schema(
        [
            pa.field("id", pa.string(), nullable=False),  # image_id, or annotation_id for crops
            # Changes when the pixels embedded change (file size and time, and the box for a crop).
            pa.field("fingerprint", pa.string(), nullable=False),
            pa.field("vector", pa.list_(pa.float16(), dimensions), nullable=False),
        ]
    )
