"""Wrong labels: what `curate mistakes` looks for.

run.py          on a dataset: loads the arrays, asks the checks below, stores the findings
labels.py       mislabeled images and crops, from embeddings or class probabilities
detection.py    mislabeled, missing, spurious and mislocated boxes, from predictions
boxes.py        impossible boxes, from nothing else
masks/          wrong masks and polygons, from nothing else and from predictions
"""
