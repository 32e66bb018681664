"""Wrong masks: shapes that cannot be right, and masks that disagree with what a model sees.

run.py          on a dataset: reads masks piece by piece, asks the checks below, makes findings
shapes.py       masks and polygons as stored, drawn into small windows
measures.py     what one mask is like: parts, holes, width, crossings; masks that are doubles
impossible.py   masks that cannot be right, from nothing else
scene.py        one image: its masks against those that a model predicts, as a few numbers for each object
fit.py          how well a model's masks usually fit
rehearsal.py    masks made worse for a trial, and how like them a mask is
errors.py       missing, spurious, mislabeled and badly drawn masks, from those numbers
"""
