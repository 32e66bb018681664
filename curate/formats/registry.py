"""The formats curate knows, by name. A third party adds one by an entry point in the group ``curate.formats``."""

from __future__ import annotations

from curate.formats.base import Format
from curate.registry import Registry

FORMATS: Registry[Format] = Registry(
    "format",
    {
        "coco": "curate.formats.coco:FORMAT",
        "yolo": "curate.formats.yolo:FORMAT",
        "voc": "curate.formats.voc:FORMAT",
        "imagefolder": "curate.formats.imagefolder:FORMAT",
        "csv": "curate.formats.csv:FORMAT",
    },
)
