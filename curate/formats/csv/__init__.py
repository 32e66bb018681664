"""CSV files: one row for each label of an image, or for each box.

Classification: an image column (``image``, ``filename``, ``path`` ...), a label column (``label``, ``class``, ``category``
...), and perhaps ``split`` and ``score``. Detection, as TensorFlow's and RetinaNet's examples: in addition ``xmin, ymin, xmax,
ymax`` (or ``x1, y1, x2, y2``) or ``x, y, w, h``, in pixels from 0; ``width`` and ``height`` are then the image's. The
separator is a comma, semicolon or tab. A row without a label or box is an image without annotations. Numbers of boxes that are
all between 0 and 1 are parts of the image's size, which is reported.

Roboflow's: ``_annotations.csv`` (as TensorFlow's) and ``_classes.csv``, which has a column of 0 and 1 for each class, in the
folders of splits. keras-retinanet's rows without a header: ``path,x1,y1,x2,y2,class``, or ``path,,,,,`` where there is nothing.

CSV has no ids: an annotation is known by its image and its place among the image's rows.

- `header`: which column is what.
- `rows`: the rows of files, as columns.
- `read`: their images and annotations.
- `write`: the tables as a CSV file.
"""

from __future__ import annotations

from curate.formats.base import Format
from curate.formats.csv.read import detect, read
from curate.formats.csv.write import write

FORMAT = Format("csv", detect, read, write)
