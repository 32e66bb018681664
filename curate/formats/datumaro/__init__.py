"""Datumaro's own format: annotations/<subset>.json and images/<subset>/ (OpenVINO Datumaro, format 1.0 and the older one).

A file has ``infos``, ``categories`` (labels with their parents, a color map, the points of each label and the joints between
them) and ``items``: an image each, with its annotations. A box is ``bbox: [x, y, width, height]``, everything else that is
drawn is ``points: [x0, y0, x1, y1, ...]``; a mask is COCO's run lengths.

**One thing, one annotation.** Datumaro says that a box, the parts of a polygon, a mask and points belong to one object by a
`group` above 0 that they share. Those of one image, group and label are read as one annotation, unless that cannot be meant:
two boxes, two masks, or attributes that contradict each other are several objects. Objects that share a group (a car and its
number plate) have it as an attribute. Writing does the reverse; a box is written beside another shape only where it is not
simply the one around it, and a group only where Datumaro would not take its objects for one; else it stays an attribute.

**Rotated boxes** are written as CVAT's exports to this format have them: the box before it is turned about its centre, with an
attribute `rotation` in degrees clockwise. (Datumaro has a type `rotated_bbox` too, which is read, but cannot itself read or
write it in its files.) **Ellipses** and **2-D cuboids** become polygons and boxes, keep their points as an attribute, and are
written as what they were if nobody changed them.

**Names for the rest**: `z_order` and `object_id` are attributes, `is_crowd` is COCO's crowd flag, `score` a prediction's
confidence. An item's `attr` is the image's metadata; captions are a list in it.

- `files`: which files there are.
- `categories`: classes.
- `items`: images and annotations as the file has them, checked.
- `groups`: what belongs to one object.
- `read`, `write`: from and to the tables.
"""

from __future__ import annotations

from curate.formats.base import Format
from curate.formats.datumaro.files import detect
from curate.formats.datumaro.read import read
from curate.formats.datumaro.write import write

FORMAT = Format("datumaro", detect, read, write)
