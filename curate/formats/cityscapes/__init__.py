"""Cityscapes: street scenes with polygons, and the images of ids that are drawn from them (Cordts et al. 2016).

    leftImg8bit/<split>/<city>/<city>_<sequence>_<frame>_leftImg8bit.png
    gtFine/<split>/<city>/<city>_<sequence>_<frame>_gtFine_polygons.json      or gtCoarse, where there is no fine one
                                                   _gtFine_instanceIds.png, _labelIds.png, _labelTrainIds.png, _color.png

Of each image one file is read, the one that says most: the polygons, else instanceIds, labelIds, labelTrainIds, color; the
others are drawn from it. Polygons overlap, the later over the earlier: `order` in the attributes is their place. A label
like 'cargroup', and an id of a class with instances where an instance's would be, stands for many (`iscrowd`).
'unlabeled' pixels (0) are no annotation. A class list beside the folders (dataset_meta.json, label_colors.txt) replaces
Cityscapes' own classes, as other sets in this layout have it.

A sequence is a group, with the frames' numbers. Curate reads this format and does not write it.
"""

from __future__ import annotations

from curate.formats.base import Format
from curate.formats.cityscapes.read import detect, read

FORMAT = Format("cityscapes", detect, read)
