"""Rendered machined parts with planted, known faults: the demo dataset `parts_v3`, and what examples, tests and benchmarks need.

parts = make_parts(Path("parts_v3"), images=60, seed=1)
parts.annotation_file("train")                      # a COCO file, faults and all
parts.truth.wrong_annotations("mislabeled")         # what a check should find in it
make_crops(Path("crops"), [Batch("train", 500, mislabeled=0.1), Batch("night", 80, lamps={"dim": 1})])   # one part each
make_scratched(Path("plates"), {"train": 200, "test": 60}, wrong=0.1)    # surfaces with scratches and dents, in mm
make_washers(Path("washers"), {"train": 120, "test": 200}, wrong=0.1)    # four kinds that differ in one small place
make_film(Path("line.avi"), frames=300).crossings   # a conveyor, filmed, and what a counter should tell
network_camera(pictures, rate=25)                   # pictures as a stream at an address of this machine
stick_label(pixels, draw_serial(rng), rng)          # a serial number to be read
"""

from __future__ import annotations

from curate.demo.build import PartsSet, make_parts
from curate.demo.camera import NetworkCamera, network_camera
from curate.demo.conveyor import Belt, Film, film_frames, make_film, make_stills
from curate.demo.crops import Batch, CropsSet, load_crops, make_crops, render_crop
from curate.demo.detector import make_predictions
from curate.demo.faults import DEFAULT, NONE, Fault, FaultRates, Truth, load_truth
from curate.demo.scratched import MM_PER_PIXEL, ScratchedSet, make_scratched, render_surface
from curate.demo.serials import draw_plates, draw_serial, draw_text, find_label, stick_label
from curate.demo.sheet import contact_sheet
from curate.demo.washers import WASHERS, WashersSet, make_washers, render_washer

__all__ = [
    "DEFAULT",
    "MM_PER_PIXEL",
    "NONE",
    "WASHERS",
    "Batch",
    "Belt",
    "CropsSet",
    "Fault",
    "FaultRates",
    "Film",
    "NetworkCamera",
    "PartsSet",
    "ScratchedSet",
    "Truth",
    "WashersSet",
    "contact_sheet",
    "draw_plates",
    "draw_serial",
    "draw_text",
    "film_frames",
    "find_label",
    "load_crops",
    "load_truth",
    "make_crops",
    "make_film",
    "make_parts",
    "make_predictions",
    "make_scratched",
    "make_stills",
    "make_washers",
    "network_camera",
    "render_crop",
    "render_surface",
    "render_washer",
    "stick_label",
]
