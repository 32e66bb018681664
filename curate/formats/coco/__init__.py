"""COCO, the format of Lin et al., "Microsoft COCO: Common Objects in Context" (2014), https://cocodataset.org/#format-data.

Read: one ``.json`` file, or a folder with any of the usual layouts (``annotations/*.json`` with the images in folders next to
it; Roboflow's ``train/_annotations.coco.json`` beside the images). Boxes, polygons, run-length masks (compressed or not),
keypoints, crowds, panoptic segments, captions and whole-image labels; and results files as a predictions layer. Files are read
piece by piece, so that memory does not grow with them.

Several files on the same images (instances, person_keypoints, stuff, panoptic ...) tell of the same objects: the same id,
class and box on the same image is one object, and the file that says more of it, with keypoints, is read first. A caption is
an annotation without a class that has the attribute ``caption``.

Coordinates and EXIF: COCO does not say whether coordinates refer to the image as it is stored or as its EXIF orientation
shows it. Where the orientation swaps width and height, the sizes in the file tell, and coordinates on the stored image are
converted. Where it does not (orientations 2, 3 and 4, and square images) they are taken to be on the oriented image.

From the file to the tables, and back:

- `files`: which COCO files there are, and whether something looks like one.
- `pieces`: where the arrays of a large JSON file are, a piece of them at a time.
- `decoder`, `objects`: the objects in a piece as typed structs, mended where they are not well-formed.
- `panoptic`: segments painted into PNG files as annotations with masks.
- `images`, `categories`, `annotations` (their geometry in `shapes`): these objects as rows of the tables.
- `read`: all of it put together; `results`: the same for results files.
- `write`: the tables as COCO files.
"""

from __future__ import annotations

from curate.formats.base import Format
from curate.formats.coco.files import detect
from curate.formats.coco.read import read
from curate.formats.coco.write import write

FORMAT = Format("coco", detect, read, write)
