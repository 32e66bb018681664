"""Models that say what is on an image: detectors, classifiers, segmenters, depth."""
