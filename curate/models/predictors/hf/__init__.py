"""Predictors of Hugging Face's transformers: detectors, segmenters, depth, classifiers, and SAM for masks of boxes."""
