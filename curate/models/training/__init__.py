"""Training small models on a dataset: classifiers, detectors, segmenters."""
