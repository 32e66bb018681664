"""The formats curate knows, by name. A third party adds one by an entry point in the group ``curate.formats``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from curate.registry import Registry

if TYPE_CHECKING:  # the command line lists the names without loading Arrow
    from curate.formats.base import Format

FORMATS: Registry[Format] = Registry(
    "format",
    {
        "coco": "curate.formats.coco:FORMAT",
        "yolo": "curate.formats.yolo:FORMAT",
        "voc": "curate.formats.voc:FORMAT",
        "imagefolder": "curate.formats.imagefolder:FORMAT",
        "csv": "curate.formats.csv:FORMAT",
        "label_studio": "curate.formats.label_studio:FORMAT",
        "labelme": "curate.formats.labelme:FORMAT",
        "labelme_xml": "curate.formats.labelme_xml:FORMAT",
        "via": "curate.formats.via:FORMAT",
        "createml": "curate.formats.createml:FORMAT",
        "datumaro": "curate.formats.datumaro:FORMAT",
        "huggingface": "curate.formats.huggingface:FORMAT",
        "masks": "curate.formats.masks:FORMAT",
        "cityscapes": "curate.formats.cityscapes:FORMAT",
        "mvtec": "curate.formats.mvtec:FORMAT",
        "cvat": "curate.formats.cvat:FORMAT",
        "video": "curate.formats.video:FORMAT",
        "open_images": "curate.formats.open_images:FORMAT",
        "kitti": "curate.formats.kitti:FORMAT",
        "bdd100k": "curate.formats.bdd100k:FORMAT",
        "dota": "curate.formats.dota:FORMAT",
    },
)
