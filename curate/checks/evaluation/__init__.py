"""How good a model is on a dataset: `curate evaluate`.

`run.py` holds the check, which chooses one of three tasks by what the layers hold and stores what came of it. Below it are
pure functions on arrays:

    objects.py overlaps.py matching.py    objects as columns; which overlap; which count as found, as COCO has it
    average_precision.py                  AP and AR, per class and on any part of the images
    detection.py confusion.py             a detector as a whole: thresholds, confusion, the images it does worst on
    classification.py segmentation.py     the same for labels of images and for classes of pixels
    calibration.py thresholds.py          do scores mean what they say; which one gives a wanted precision
    bootstrap.py compare.py               intervals, and whether one model is better than another
    slices.py load.py hard.py             parts of the images; arrays from a dataset; the worst examples as findings
"""
