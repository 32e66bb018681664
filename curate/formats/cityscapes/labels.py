"""The classes of Cityscapes, as its label definition gives them (Cordts et al. 2016; cityscapesScripts, helpers/labels.py)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from curate.formats.base import ClassInfo


@dataclass(frozen=True)
class CityscapesLabel:
    """One class.

    Attributes:
        name: Its name.
        id: Its value in labelIds images; -1 is in none.
        train_id: Its value in labelTrainIds images; 255 for those that are left out of training.
        category: The group of classes it belongs to.
        has_instances: Whether single things of it are told apart.
        color: In color images, 0xrrggbb.
    """

    name: str
    id: int
    train_id: int
    category: str
    has_instances: bool
    color: int

    @property
    def info(self) -> ClassInfo:
        """The class in curate's terms."""
        return ClassInfo(self.name, source_id=self.id, supercategory=self.category, color=f"#{self.color:06x}")


NO_TRAIN_ID: Final = 255

LABELS: Final = (
    CityscapesLabel("unlabeled", 0, NO_TRAIN_ID, "void", False, 0x000000),
    CityscapesLabel("ego vehicle", 1, NO_TRAIN_ID, "void", False, 0x000000),
    CityscapesLabel("rectification border", 2, NO_TRAIN_ID, "void", False, 0x000000),
    CityscapesLabel("out of roi", 3, NO_TRAIN_ID, "void", False, 0x000000),
    CityscapesLabel("static", 4, NO_TRAIN_ID, "void", False, 0x000000),
    CityscapesLabel("dynamic", 5, NO_TRAIN_ID, "void", False, 0x6F4A00),
    CityscapesLabel("ground", 6, NO_TRAIN_ID, "void", False, 0x510051),
    CityscapesLabel("road", 7, 0, "flat", False, 0x804080),
    CityscapesLabel("sidewalk", 8, 1, "flat", False, 0xF423E8),
    CityscapesLabel("parking", 9, NO_TRAIN_ID, "flat", False, 0xFAAAA0),
    CityscapesLabel("rail track", 10, NO_TRAIN_ID, "flat", False, 0xE6968C),
    CityscapesLabel("building", 11, 2, "construction", False, 0x464646),
    CityscapesLabel("wall", 12, 3, "construction", False, 0x66669C),
    CityscapesLabel("fence", 13, 4, "construction", False, 0xBE9999),
    CityscapesLabel("guard rail", 14, NO_TRAIN_ID, "construction", False, 0xB4A5B4),
    CityscapesLabel("bridge", 15, NO_TRAIN_ID, "construction", False, 0x966464),
    CityscapesLabel("tunnel", 16, NO_TRAIN_ID, "construction", False, 0x96785A),
    CityscapesLabel("pole", 17, 5, "object", False, 0x999999),
    CityscapesLabel("polegroup", 18, NO_TRAIN_ID, "object", False, 0x999999),
    CityscapesLabel("traffic light", 19, 6, "object", False, 0xFAAA1E),
    CityscapesLabel("traffic sign", 20, 7, "object", False, 0xDCDC00),
    CityscapesLabel("vegetation", 21, 8, "nature", False, 0x6B8E23),
    CityscapesLabel("terrain", 22, 9, "nature", False, 0x98FB98),
    CityscapesLabel("sky", 23, 10, "sky", False, 0x4682B4),
    CityscapesLabel("person", 24, 11, "human", True, 0xDC143C),
    CityscapesLabel("rider", 25, 12, "human", True, 0xFF0000),
    CityscapesLabel("car", 26, 13, "vehicle", True, 0x00008E),
    CityscapesLabel("truck", 27, 14, "vehicle", True, 0x000046),
    CityscapesLabel("bus", 28, 15, "vehicle", True, 0x003C64),
    CityscapesLabel("caravan", 29, NO_TRAIN_ID, "vehicle", True, 0x00005A),
    CityscapesLabel("trailer", 30, NO_TRAIN_ID, "vehicle", True, 0x00006E),
    CityscapesLabel("train", 31, 16, "vehicle", True, 0x005064),
    CityscapesLabel("motorcycle", 32, 17, "vehicle", True, 0x0000E6),
    CityscapesLabel("bicycle", 33, 18, "vehicle", True, 0x770B20),
    CityscapesLabel("license plate", -1, -1, "vehicle", False, 0x00008E),
)
"""In the definition's order."""
