"""Label Studio's JSON (https://labelstud.io/guide/export), of the community and the enterprise edition.

Read: an export as JSON, a folder of files with one task or one annotation each (target storages), a page of the server's API,
and JSON_MIN, which says less. Large files are read task by task.

- Rectangles are boxes, turned ones rotated boxes; polygons and vectors, open ones polylines; brush strokes masks; ellipses
  polygons (reported). Places are percentages of the image as a browser shows it, so of the image that is there.
- Points join the region that they belong to, else they are annotations of one keypoint.
- Choices about the whole image are labels. What is answered about a region is an attribute of it, under the control's name.
  Other answers about the image, and relations, are kept with the image's metadata, and written back.
- Every annotator's work is kept, with the attributes `annotator` and `annotation_id`; cancelled work is not (reported).
  Predictions go into the layer ``predictions/<model version>``.
- Images: `curate.formats.label_studio.images` tells how a reference becomes a location. The task's id is the image's source
  id, a region's id the annotation's. What else a task says, beside what is empty or can be counted, is in the image's
  metadata under ``label_studio``, and how the project's controls are called in the dataset's info.
- ``label_config.xml`` beside the tasks is optional. It gives order and colors of the classes, and which images of a task are
  meant where there are several.

Write: ``tasks.json`` and ``label_config.xml`` for a new project, with the images in ``images/``: where a task did not come
from Label Studio, it names them as its local storage serves them, if ``LOCAL_FILES_DOCUMENT_ROOT`` is the export's folder.
What Label Studio has no place for is in the ``meta`` of tasks and regions under ``curate``, and read again from there: an id
that another region has already, and a keypoint's place among those of its annotation, for two. A polygon of several parts is
written as as many regions, and joined again.

- `tasks`: tasks out of files, one at a time.
- `images`, `regions` (with `brush` and `keypoints`), `work`, `read`: from tasks to tables.
- `results`, `write`: and back.
- `config`: the labelling configuration.
"""

from __future__ import annotations

from curate.formats.base import Format
from curate.formats.label_studio.read import read
from curate.formats.label_studio.tasks import detect
from curate.formats.label_studio.write import write

FORMAT = Format("label_studio", detect, read, write, holds_layers=True)
