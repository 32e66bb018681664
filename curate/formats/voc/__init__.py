"""Pascal VOC: one XML file for each image (Everingham et al. 2010, and the VOC2012 development kit's documentation).

**Pixels.** The development kit counts pixels from 1 and includes both corners: a box covers xmin - 1 to xmax in the
coordinates used here. Nearly every tool that writes VOC since (labelImg, CVAT, Roboflow, Datumaro) writes corners as they
are in continuous coordinates, from 0: a box covers xmin to xmax. So the file decides: where its ``<database>`` is the
challenge's own ('The VOC2007 Database', 'The PASCAL Visual Object Classes ...'), the kit's rule holds, else the tools'.
The database's name is kept with the image, and writing applies the same rule, so both kinds go round unchanged.

Layouts: Annotations/ + JPEGImages/ + ImageSets/Main/, XML files beside the images, and Roboflow's train/, valid/, test/.
Rotated boxes (roLabelImg's ``<robndbox>``, in radians) and polygons (Roboflow's ``<polygon>``) are read where they are.
VOC has no ids: an object is known by its image and its place in the file.

**Masks.** SegmentationObject/ and SegmentationClass/ hold a mask of every object; each is joined to its object in the XML
file where the two agree, and is an annotation of its own where they do not, or where there is no XML file. The void border
(255) is in no mask; it is kept in the image's metadata, and written again. Masks are written with labelmap.txt (CVAT's), so
any classes can be read back; of overlapping ones the smaller is on top.

- `images`: which images there are, which one an annotation file describes, and its split.
- `objects`: the objects in a file.
- `segmentation`: the masks, and which object each belongs to.
- `read`: the files, one after another.
- `write`: the tables as VOC files.
- `paint`: the masks as segmentation images.
"""

from __future__ import annotations

from curate.formats.base import Format
from curate.formats.voc.read import detect, read
from curate.formats.voc.write import write

FORMAT = Format("voc", detect, read, write)
