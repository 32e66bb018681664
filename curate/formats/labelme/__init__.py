"""LabelMe's JSON: one file beside each image (Wada, github.com/wkentaro/labelme; versions 3 to 6).

Coordinates are continuous pixels of the image as LabelMe shows it, EXIF orientation applied. What each `shape_type` becomes:

    polygon             polygon. Polygons with one label and one `group_id` are the parts of one object, as LabelMe's own
                        COCO and VOC exports have it; a `group_id` that other shapes share too stays in the attributes
    rectangle           box; its two corners may come in any order
    oriented_rectangle  rotated box (X-AnyLabeling calls it `rotation`)
    circle              polygon; the circle is kept as the attribute `ellipse`, and written as a circle again
    line, linestrip     polyline
    point, points       keypoints, all of them visible
    mask                mask: a PNG of the box, both of whose corners are pixels inside it

An image's `flags` are LabelMe's way to classify images: those that are true become labels of the whole image, the others
stay in its metadata. `flags` of shapes, `description`, `group_id` and members that LabelMe itself does not know are
attributes. An image that is only inside the file (`imageData`) is written where the dataset keeps its files.

LabelMe keeps members that it does not know, so the writer loses next to nothing: attributes that are true or false become
`flags`, other values go to `attributes`; `score`, `iscrowd`, `area`, `bbox`, `visibility` and `id` hold what else there is,
and `curate` what is known of the image. Images keep their locations; `labels.txt` lists the classes. A rotated box is written
as a polygon that says it is `oriented`, since LabelMe up to 5.11 does not open files with an `oriented_rectangle`.

- `objects`: one shape, and what it is.
- `read`: the files, one after another.
- `write`: the tables as LabelMe files.
"""

from __future__ import annotations

from curate.formats.base import Format
from curate.formats.labelme.read import detect, read
from curate.formats.labelme.write import write

FORMAT = Format("labelme", detect, read, write)
