"""Open Images V4 to V7: CSV files of boxes, labels and masks for images on the web (Kuznetsova et al. 2020; the data
formats page of each version). CVAT and Datumaro write it too.

    images/train/000a1249af2bc5f0.jpg
    annotations/class-descriptions-boxable.csv      /m/0cmf2,Airplane
    annotations/train-annotations-bbox.csv          ImageID,Source,LabelName,Confidence,XMin,XMax,YMin,YMax,IsOccluded,...
    annotations/train-annotations-human-imagelabels.csv          ImageID,Source,LabelName,Confidence
    annotations/train-annotations-object-segmentation.csv        MaskPath,ImageID,LabelName,BoxID,BoxXMin,...
    annotations/image_ids_and_rotation.csv          ImageID,Subset,OriginalURL,...,Rotation

Files are told by their columns, not their names, and may lie anywhere. They are read in batches, since the boxes of the
training set are 14.6 million rows.

- Coordinates are parts of the image's size, which only the image tells, or Datumaro's ``images.meta``. Boxes on an image
  of unknown size cannot be kept. Where fewer of the images are there than are not, they are taken for a part that was
  downloaded, and the rest is left out.
- A mask belongs to the box of the same image, class and corners, and they become one annotation.
- ``IsGroupOf`` is a crowd region. The other flags are attributes where they are known (not -1).
- A label of confidence 0 says that people looked and the class is not there: it becomes ``verified_absent`` in the image's
  metadata. Labels by a machine (``Source``) go to the layer predictions/open_images with their confidence.
- ``Rotation`` tells how far an image must be turned counter-clockwise to stand upright. It stays in the metadata. The
  annotations were made on the pixels as they are stored: where the file's EXIF orientation turns the image, and Rotation
  says so as well, they are turned along.

- `tables`: the CSV files as batches of columns.
- `classes`: MIDs, their names and their hierarchy.
- `images`: which images there are, and what is said of them.
- `masks`: masks and the boxes they belong to.
- `read`: the whole.
"""

from __future__ import annotations

from curate.formats.base import Format
from curate.formats.open_images.read import detect, read

FORMAT = Format("open_images", detect, read)
