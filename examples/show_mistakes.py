"""Draw the most suspicious labels of a dataset as one picture: python examples/show_mistakes.py parts_v3 mistakes.png"""

from __future__ import annotations

import sys
from pathlib import Path

from PIL import Image, ImageDraw

from curate.checks.findings import Finding
from curate.checks.store import stored_findings
from curate.dataset import open_dataset
from curate.imaging import crop, load_pixels

TILE = 150
COLUMNS = 6


def main(name: str, target: Path, count: int = 12) -> None:
    dataset = open_dataset(name)
    paths = dataset.table("images", columns=["image_id", "path"])
    path_of = dict(zip(paths["image_id"].to_pylist(), paths["path"].to_pylist(), strict=True))
    findings = stored_findings(dataset, kind="mislabeled")[:count]
    rows = -(-len(findings) // COLUMNS)
    sheet = Image.new("RGB", (COLUMNS * TILE, rows * (TILE + 30)), "white")
    for place, finding in enumerate(findings):
        tile = draw(finding, path_of[finding.image_id])
        sheet.paste(tile, (place % COLUMNS * TILE, place // COLUMNS * (TILE + 30)))
    sheet.save(target)


def draw(finding: Finding, path: str) -> Image.Image:
    pixels = load_pixels(path)
    if finding.bbox is not None:
        pixels = crop(pixels, finding.bbox, margin=0.3)
    tile = Image.new("RGB", (TILE, TILE + 30), "white")
    tile.paste(Image.fromarray(pixels).resize((TILE - 6, TILE - 6)), (3, 3))
    pen = ImageDraw.Draw(tile)
    pen.text((5, TILE), f"labelled {finding.given}", fill="#b00020")
    pen.text((5, TILE + 13), f"{finding.suggested}: {finding.score:.0%}", fill="#006020")
    return tile


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
