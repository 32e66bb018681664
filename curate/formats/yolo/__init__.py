"""YOLO datasets: boxes, polygons, oriented boxes and keypoints in one text file for each image.

The specification is Ultralytics' dataset documentation.

- A missing or empty label file is a background image: kept, with no annotations. The image's metadata say if the file is
  missing (nobody may have looked at it), and it is not written then either.
- Coordinates are parts of the image's size after EXIF orientation, as Ultralytics takes them.
- Nine columns may be an oriented box or a four-point polygon. What the user asks for is taken, else the whole set decides: a
  line with another number of points makes all of them polygons; 'obb' in data.yaml's task, a file or folder name makes them
  oriented boxes; without either, rectangles are oriented boxes (reported), and anything else is an error that asks.
- Lines in pixels and with class names are DOTA's, a format of its own.
- Ultralytics' datasets to classify are folders of images: `curate.formats.imagefolder` reads and writes them.
- Oriented boxes whose corners are not those of a rectangle keep them as a polygon beside the smallest rectangle round it.
- An annotation whose geometry a variant cannot say is written as its box, and what reaches outside the image is cut at its
  edge: Ultralytics would leave out all labels of the image. Both are reported.
- YOLO has no ids: an annotation is known by its image and line.

From the folder to the tables, and back:

- `detect`: whether something looks like a YOLO dataset.
- `config`: what its own files (data.yaml, obj.data, classes.txt) say of it.
- `layout`: which images, label files and splits there are.
- `labels`: lines of label files as arrays, and arrays as lines.
- `kinds`: which lines are boxes, polygons, oriented boxes, boxes with keypoints.
- `shapes`: the coordinates of lines in pixels.
- `read`: all of it put together.
- `write_shapes`: the coordinates that a variant writes of annotations.
- `write`: the tables as a dataset that Ultralytics trains on.
"""

from __future__ import annotations

from curate.formats.base import Format
from curate.formats.yolo.detect import detect
from curate.formats.yolo.read import read
from curate.formats.yolo.write import write

FORMAT = Format("yolo", detect, read, write)
