"""Names of one thing in different datasets (COCO, Pascal VOC, Open Images, Cityscapes, BDD100K), for suggestions only."""

from __future__ import annotations

from typing import Final

SAME: Final = (
    {"person", "human", "pedestrian", "man", "woman", "rider", "child"},
    {"car", "automobile", "auto", "sedan"},
    {"truck", "lorry"},
    {"bus", "coach"},
    {"motorcycle", "motorbike"},
    {"bicycle", "bike", "cycle"},
    {"airplane", "aeroplane", "plane", "aircraft"},
    {"boat", "ship", "vessel", "watercraft"},
    {"train", "tram", "locomotive"},
    {"traffic light", "stoplight", "traffic signal"},
    {"traffic sign", "road sign", "stop sign"},
    {"couch", "sofa"},
    {"tv", "television", "tv monitor", "monitor", "screen"},
    {"cell phone", "mobile phone", "phone", "smartphone", "telephone"},
    {"potted plant", "houseplant", "plant"},
    {"dining table", "table", "kitchen dining room table"},
    {"cup", "mug"},
    {"glass", "wine glass", "wineglass"},
    {"backpack", "rucksack"},
    {"handbag", "purse", "bag"},
    {"hair drier", "hair dryer"},
    {"donut", "doughnut"},
    {"remote", "remote control"},
    {"refrigerator", "fridge"},
    {"cow", "cattle"},
    {"helmet", "hard hat", "hardhat"},
    {"vest", "safety vest"},
    {"face", "head", "human face"},
)
"""Sets of names that often stand for the same."""

BROADER: Final = {
    "vehicle": {"car", "truck", "bus", "van", "motorcycle", "train", "automobile", "lorry"},
    "animal": {"cat", "dog", "bird", "horse", "sheep", "cow", "elephant", "bear", "zebra", "giraffe"},
    "fruit": {"apple", "banana", "orange"},
    "food": {"sandwich", "pizza", "hot dog", "donut", "cake", "broccoli", "carrot"},
    "furniture": {"chair", "couch", "sofa", "bed", "dining table", "table"},
    "bag": {"backpack", "handbag", "suitcase"},
}
"""Names of wider classes, and what is in each."""
