"""CVAT for images 1.1 and CVAT for video 1.1: one ``annotations.xml``, by images or by tracks (CVAT's "XML annotation format").

Both kinds are one format here: a file says itself which it is, and may even mix them. Coordinates are continuous pixels
after EXIF orientation, as in the dataset.

    <image id name subset width height>    its shapes and tags
    <track id label>                       one thing's shapes over the frames of a video

**Where images are.** ``images/<subset>/<name>`` in a project's export, ``images/<name>`` in a task's; names may have folders.
A location leaves ``images`` out, so that it is the same with and without the files. The frames of a video are
``frame_000123``; where the video itself lies beside the file (or is given as the folder of images) the frames that have
annotations are cut out of it.

**Shapes.** Boxes (with rotation), polygons, polylines and masks have columns of their own; points and skeletons are keypoints,
and a skeleton's sublabels give the keypoints' names. An ellipse becomes a polygon and a cuboid the outline of its eight
corners, which is reported; what they were stays in the attributes, and is written again if the outline is still that one.

**Tracks.** ``track_id`` and ``keyframe`` are attributes. Shapes that are outside the picture are no annotations: the last shape
that was inside keeps them, as they are, in its attribute ``outside``.

- `document`: the file, element by element, in flat memory.
- `meta`: labels, tasks and what else the head of a file says.
- `attributes`: attributes of shapes and what CVAT itself says of them.
- `shapes`: elements as shapes, and back.
- `masks`: CVAT's run lengths and COCO's.
- `images`: where images and frames lie, and what they are called.
- `read`: files, one after another.
- `write`, `write_tracks`, `write_meta`: the tables as a CVAT file of either kind.
"""

from __future__ import annotations

from curate.formats.base import Format
from curate.formats.cvat.read import detect, read
from curate.formats.cvat.write import write

FORMAT = Format("cvat", detect, read, write)
