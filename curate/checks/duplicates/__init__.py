"""Finding copies of images: exact, of the same pixels, and near; see `check.py`."""
