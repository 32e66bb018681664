"""BDD100K, and Scalabel's JSON, which it is in (Yu et al. 2020; the format pages of both).

A file is a list of frames, or an object with ``frames`` and a ``config`` that lists the categories::

    [{"name": "b1c66a42-6f7d68ca.jpg", "videoName": ..., "frameIndex": 0, "timestamp": 10000,
      "attributes": {"weather": "clear", "scene": "highway", "timeofday": "night"},
      "labels": [{"id": "0", "category": "car", "attributes": {"occluded": false, "truncated": false},
                  "box2d": {"x1": 45.2, "y1": 254.5, "x2": 357.8, "y2": 487.9}},
                 {"id": "1", "category": "lane", "attributes": {"laneStyle": "solid"},
                  "poly2d": [{"vertices": [[492.9, 331.9], [0, 620.1]], "types": "LL", "closed": false}]}]}]

Before 2020 there was a file for each image, with ``frames`` of ``objects`` whose outlines are lists of ``[x, y, "L"]``; the
evaluation takes a flat list of ``{"name", "category", "bbox": [x1, y1, x2, y2], "score"}``. All three are read.

**Pixels.** As the format page says, a box's corners are the pixels it begins and ends with: its width is x2 - x1 + 1.
Vertices of outlines are points. In ``types``, L is a vertex of the line, C one of a cubic Bezier curve (two control points,
then where it ends); curves become lines of short pieces, and stay in the attributes as they are.

- `read`: the files, their frames and images.
- `labels`: one label as a shape and attributes.
"""

from __future__ import annotations

from curate.formats.base import Format
from curate.formats.bdd100k.read import detect, read

FORMAT = Format("bdd100k", detect, read)
