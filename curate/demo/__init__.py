"""The demo dataset `parts_v3`: rendered machined parts with planted, known faults. Also a library for tests and benchmarks.

parts = make_parts(Path("parts_v3"), images=60, seed=1)
parts.annotation_file("train")                      # a COCO file, faults and all
parts.truth.wrong_annotations("mislabeled")         # what a check should find in it
"""

from __future__ import annotations

from curate.demo.build import PartsSet, make_parts
from curate.demo.detector import make_predictions
from curate.demo.faults import DEFAULT, NONE, Fault, FaultRates, Truth, load_truth
from curate.demo.sheet import contact_sheet

__all__ = [
    "DEFAULT",
    "NONE",
    "Fault",
    "FaultRates",
    "PartsSet",
    "Truth",
    "contact_sheet",
    "load_truth",
    "make_parts",
    "make_predictions",
]
