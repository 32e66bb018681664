"""Folders of class masks: for each image an image of the same size whose pixels are classes (semantic segmentation).

Layouts: images/ and masks/ (or annotations/, labels/, gt/, SegmentationClass/ ...), with folders for splits above or below;
CamVid's train/ and trainannot/; masks beside the images (Roboflow's x_mask.png); Synthia's RGB/ and GT/. See `layout`.

Masks: palette or grey PNGs of up to 16 bits, whose values are class numbers; or RGB, whose colors are. Which is which, and
what it is called, a class list says (`legend`); without one, classes are called after their value ('class_7') or color.

- **Background**, value 0 or black unless the list says otherwise ('background', 'unlabelled', 'void'), is no annotation.
- **Ignored** pixels, value 255 or VOC's (224, 224, 192) unless the list says otherwise ('ignore', 'void' beside a
  background), are no annotation either; where they are is kept in the image's metadata.
- All pixels of a class on an image are one annotation: class masks do not tell one thing from the next.
- In a set whose masks hold nothing but 0 and 255 and that has no class list, 255 is a class.

The writer makes images/, masks/ (palette PNGs, or 16-bit ones above 254 classes), classes.txt and labelmap.txt.
"""

from __future__ import annotations

from curate.formats.base import Format
from curate.formats.masks.read import detect, read
from curate.formats.masks.write import write

FORMAT = Format("masks", detect, read, write)
