"""Maps of depth: how far away each pixel is, as a model sees it; kept as image files of a dataset.

`codec.py` is the file, `maps.py` the table that says which image has which, `predict.py` what `curate predict` does with a model
that estimates depth.
"""
