"""The frames that a model finds hard: kept on the device in a ring on disk, and brought back into a dataset."""
