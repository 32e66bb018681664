"""CSV files with a header: one row for each label of an image, or for each box.

Classification: an image column (``image``, ``filename``, ``path`` ...), a label column (``label``, ``class``, ``category``
...), and perhaps ``split`` and ``score``. Detection, as TensorFlow's and RetinaNet's examples: in addition ``xmin, ymin, xmax,
ymax`` (or ``x1, y1, x2, y2``) or ``x, y, w, h``, in pixels from 0; ``width`` and ``height`` are then the image's. The
separator is a comma, semicolon or tab. A row without a label or box is an image without annotations.

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
