"""VGG Image Annotator (Dutta and Zisserman 2019, "The VIA annotation software for images, audio and video"), 1 and 2.

Read are projects (``_via_img_metadata``), annotations exported as JSON (an object of files, each with ``filename`` and
``regions``, a list in VIA 2 and an object in VIA 1) and as CSV. VIA 3 is another format, and named in the error.

Regions: rect is a box, polygon a polygon, polyline a polyline, point a keypoint; circle and ellipse become polygons, and keep
their centre, radii and angle (degrees clockwise) as the attribute `ellipse`.

**Class.** VIA knows attributes, not classes. The one that is the class is the only one there is; else one of a usual name
('label', 'class', 'name', 'type' ...); else, of those that have the same few values again and again, the one that most
regions have. Where several come into question the report says which was taken. Of checkboxes the one that is ticked counts.

**Twice.** VIA may list a region twice, and a folder often has the same regions as JSON and CSV. Regions that say exactly the
same of an image are one; where a JSON file speaks of an image, CSV files are not heard.

- `files`: projects and exports as images and their regions.
- `regions`: geometry and class of a region.
- `read`: all of it as a dataset.
"""

from __future__ import annotations

from curate.formats.base import Format
from curate.formats.via.read import detect, read

FORMAT = Format("via", detect, read)
