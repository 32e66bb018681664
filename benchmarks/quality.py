"""How well planted degradations are found, how often clean images are flagged, and at what cost, beside CleanVision.

    python -m benchmarks.quality [--data FOLDER] [--images 300] [--small 6000] [--python FILE] [--json FILE]

Sets: photos of BCCD, raccoons and wagons, and a rendered `parts_v3` without faults. A tenth of the images of a set is degraded
in one way at one of three strengths and saved as JPEG of quality 95; the score of that kind must tell them from the other nine
tenths. Side light and back light are no faults: there `curate.checks.quality.lighting` must tell them from what was measured, and
none may be called dark. CleanVision runs in the interpreter that `--python` names, on the same files; its scores are per image.

An object that is blurred on a sharp image is another matter: `benchmarks.object_blur`.

Cost is processor time for all measures and judgements, decoding and perceptual hashes included, of one process with one thread.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import cv2
import numpy as np
import numpy.typing as npt
import pyarrow as pa
from sklearn.metrics import roc_auc_score
from threadpoolctl import threadpool_limits

from benchmarks.object_blur import object_blur
from benchmarks.report import Report, markdown, options, real_set, run
from benchmarks.sets import read_coco, read_voc, render_parts
from curate.checks.findings import FLAGGED
from curate.checks.labels import Labels
from curate.checks.measures.computation import MeasureImages
from curate.checks.measures.table import Measures, columns_of
from curate.checks.quality.faults import FAULTS, judge_faults
from curate.checks.quality.lighting import lighting
from curate.engine.local import DEFAULT_BATCH
from curate.errors import ImageError
from curate.imaging import IMAGE_SUFFIXES, Pixels, load_pixels

Array = npt.NDArray[Any]
Light = npt.NDArray[np.float32]
"""An RGB image in [0, 1]."""

STRENGTHS: Final = 3
SHARE: Final = 0.1
QUALITY: Final = 95
SMALL_SIDE: Final = 96

EXPECTED: Final[Mapping[str, str]] = {
    "dark": "dark",
    "overexposed": "overexposed",
    "low_contrast": "low_contrast",
    "color_cast": "color_cast",
    "defocus": "blurry",
    "motion": "blurry",
    "noise": "noisy",
    "jpeg": "noisy",
    "banding": "noisy",
    "flat": "low_information",
    "side_light": "light_cues",
    "back_light": "light_cues",
    "truncated": "corrupt",
}
"""Degradations, and the kind of finding or the measures that must tell them."""

CLEANVISION: Final[Mapping[str, str]] = {
    "dark": "dark",
    "overexposed": "light",
    "defocus": "blurry",
    "motion": "blurry",
    "flat": "low_information",
    "side_light": "dark",
    "back_light": "dark",
}
"""CleanVision's issues for them."""

_PEER: Final = """
import json, sys, time
from cleanvision import Imagelab
started = time.process_time()
lab = Imagelab(data_path=sys.argv[1], verbose=False)
lab.find_issues(n_jobs=1, verbose=False)
spent = time.process_time() - started
names = [c for c in lab.issues.columns if c.endswith("_score")] + ["is_dark_issue", "is_light_issue", "is_blurry_issue"]
rows = {str(path).rsplit("/", 1)[-1]: {n: float(row[n]) for n in names} for path, row in lab.issues.iterrows()}
json.dump({"seconds": spent, "rows": rows}, open(sys.argv[2], "w"))
"""


def main() -> None:
    """Run every set."""
    parser = options(__doc__, data=True)
    parser.add_argument("--images", type=int, default=300, help="at most so many of a set (default 300)")
    parser.add_argument("--small", type=int, default=6000, help="small images that the cost is taken on (default 6000)")
    parser.add_argument("--python", type=Path, metavar="FILE", help="interpreter that has CleanVision")
    run(measure, parser)


def measure(arguments: argparse.Namespace) -> Report:
    """Every set and degradation."""
    cv2.setNumThreads(1)
    notes: list[str] = []
    peer = _peer(arguments.python, notes)
    results: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder, threadpool_limits(1):
        sets, labels = _sets(Path(folder), arguments, notes)
        for name, files in sets.items():
            results += _judge_set(name, files, Path(folder) / f"work-{name}", peer)
        for name, of_set in labels.items():
            results += object_blur(name, of_set, _defocus, STRENGTHS)
        results += _costs(sets, Path(folder) / "small", arguments.small, peer)
    settings = {"images": arguments.images, "small": arguments.small, "degraded": SHARE}
    arguments.python = None  # a path is nobody else's business
    return Report(settings, results, _table(results), notes)


def _peer(python: Path | None, notes: list[str]) -> Path | None:
    if python is not None and not subprocess.run([python, "-c", "import cleanvision"], capture_output=True).returncode:
        return python
    notes.append("CleanVision is left out: --python names no interpreter that has it")
    return None


def _sets(
    folder: Path, arguments: argparse.Namespace, notes: list[str]
) -> tuple[dict[str, list[Path]], dict[str, Labels]]:
    """Image files by set, every n-th of them; and the labels of the whole sets."""
    labels = {"parts_v3": render_parts(folder / "parts_v3", images=arguments.images, seed=0)}
    folders = {"parts_v3": folder / "parts_v3"}
    for name, read in (("bccd", read_voc), ("raccoon", read_voc), ("roboflow_wagon", read_coco)):
        found = real_set(arguments.data, name, notes)
        if found is not None:
            folders[name], labels[name] = found, read(found)
    sets = {}
    for name, root in folders.items():
        files = sorted(path for path in root.rglob("*") if path.suffix.lower() in IMAGE_SUFFIXES)
        sets[name] = files[:: max(1, len(files) // arguments.images)][: arguments.images]
    return sets, labels


def _judge_set(name: str, files: Sequence[Path], work: Path, peer: Path | None) -> list[dict[str, Any]]:
    """All degradations of one set."""
    work.mkdir()
    pixels = [load_pixels(path, shortest_side=320) for path in files]
    clean_paths = [_save(work / f"clean_{i:05d}.jpg", image) for i, image in enumerate(pixels)]
    clean = _measured(clean_paths)
    scores = _kinds(clean)
    flagged = {kind: int((values >= FLAGGED).sum()) for kind, values in scores.items()}
    results: list[dict[str, Any]] = [{"set": name, "images": len(files), "clean_flagged": flagged}]
    chosen = np.random.default_rng(0).permutation(len(files))[: round(SHARE * len(files))]
    degraded = np.zeros(len(files), dtype=bool)
    degraded[chosen] = True
    for how in EXPECTED:
        for strength in range(STRENGTHS):
            paths = [work / f"{how}_{strength}_{i:05d}.jpg" for i in chosen]
            for path, i in zip(paths, chosen, strict=True):
                _degrade_file(path, clean_paths[i], pixels[i], how, strength, np.random.default_rng(i))
            results.append(
                {"set": name, "how": how, "strength": strength, **_tell(clean, degraded, chosen, paths, how)}
            )
    if peer is not None:
        _add_peer(results, work, peer, degraded, chosen)
    return results


def _tell(clean: Measures, degraded: Array, chosen: Array, paths: Sequence[Path], how: str) -> dict[str, Any]:
    """AUROC of the score that must tell the degraded images, how many of them are flagged, and called dark."""
    if how == "truncated":
        refused = [_refused(path) for path in paths]
        score = np.zeros(len(degraded))
        score[chosen] = refused
        return {"auroc": float(roc_auc_score(degraded, score)), "flagged": float(np.mean(refused))}
    mixed = _mixed(clean, _measured(paths), chosen)
    scores = _kinds(mixed)
    lit = lighting(mixed)
    light = {"side_light": lit.side, "back_light": lit.back}
    score = light[how] if how in light else scores[EXPECTED[how]]
    flagged = scores["dark"] if how in light else score
    return {
        "auroc": float(roc_auc_score(degraded, score)),
        "flagged": float((flagged[degraded] >= FLAGGED).mean()),
        "flagged_others": float((flagged[~degraded] >= FLAGGED).mean()),
    }


def _refused(path: Path) -> bool:
    try:
        load_pixels(path)
    except ImageError:
        return True
    return False


def _measured(paths: Sequence[Path]) -> Measures:
    """What a pass of one thread measures of these files, in its batches."""
    computation = MeasureImages()
    batches = []
    for first in range(0, len(paths), DEFAULT_BATCH):
        decoded = (
            load_pixels(path, shortest_side=computation.input_size) for path in paths[first : first + DEFAULT_BATCH]
        )
        batches.append(computation.run([computation.prepare(pixels) for pixels in decoded]))
    table = pa.Table.from_batches(batches)
    return Measures(pa.chunked_array([[path.name for path in paths]]), columns_of(table))


def _mixed(clean: Measures, degraded: Measures, rows: Array) -> Measures:
    columns = {name: values.copy() for name, values in clean.columns.items()}
    for name, values in columns.items():
        values[rows] = degraded.columns[name]
    return Measures(clean.ids, columns)


def _kinds(measures: Measures) -> dict[str, Array]:
    """Highest probability of each kind, as findings have it."""
    odds = judge_faults(measures)
    kinds: dict[str, Array] = {}
    for fault in FAULTS:
        kinds[fault.kind] = np.maximum(kinds.get(fault.kind, 0.0), odds[fault.name].probability)
    return kinds


def _save(path: Path, pixels: Pixels) -> Path:
    cv2.imwrite(str(path), cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, QUALITY])
    return path


def _degrade_file(path: Path, clean: Path, pixels: Pixels, how: str, strength: int, rng: np.random.Generator) -> None:
    if how == "truncated":
        data = clean.read_bytes()
        path.write_bytes(data[: round(len(data) * (0.9, 0.6, 0.3)[strength])])
        return
    light = DEGRADE[how](pixels.astype(np.float32) / np.float32(255), strength, rng)
    _save(path, np.clip(light * 255 + 0.5, 0, 255).astype(np.uint8))


def _dark(light: Light, strength: int, rng: np.random.Generator) -> Light:
    return light * np.float32((0.3, 0.2, 0.1)[strength])


def _overexposed(light: Light, strength: int, rng: np.random.Generator) -> Light:
    return light * (2.2, 3.0, 4.5)[strength] + (0.1, 0.15, 0.2)[strength]


def _low_contrast(light: Light, strength: int, rng: np.random.Generator) -> Light:
    mean = light.mean()
    return np.asarray(mean + (light - mean) * (0.35, 0.2, 0.1)[strength])


def _color_cast(light: Light, strength: int, rng: np.random.Generator) -> Light:
    gain = (0.25, 0.4, 0.6)[strength]
    gains = np.full(3, 1 - gain / 2, np.float32)
    gains[rng.integers(3)] = 1 + gain
    return light * gains


def _defocus(light: Light, strength: int, rng: np.random.Generator) -> Light:
    radius = (2.0, 3.0, 5.0)[strength]
    axis = np.arange(-np.ceil(radius), np.ceil(radius) + 1)
    disk = (np.hypot(*np.meshgrid(axis, axis)) <= radius).astype(np.float32)
    return np.asarray(cv2.filter2D(light, -1, disk / disk.sum(), borderType=cv2.BORDER_REFLECT), np.float32)


def _motion(light: Light, strength: int, rng: np.random.Generator) -> Light:
    length = (9, 15, 25)[strength]
    angle = rng.uniform(0, np.pi)
    reach = length // 2 * np.array([np.cos(angle), np.sin(angle)])
    line = np.zeros((length, length), np.float32)
    start, end = (np.rint(length // 2 + sign * reach).astype(int).tolist() for sign in (-1, 1))
    cv2.line(line, start, end, 1.0)
    return np.asarray(cv2.filter2D(light, -1, line / line.sum(), borderType=cv2.BORDER_REFLECT), np.float32)


def _noise(light: Light, strength: int, rng: np.random.Generator) -> Light:
    return light + rng.standard_normal(light.shape, dtype=np.float32) * np.float32((15, 25, 45)[strength] / 255)


def _jpeg(light: Light, strength: int, rng: np.random.Generator) -> Light:
    plane = cv2.cvtColor(np.rint(light * 255).astype(np.uint8), cv2.COLOR_RGB2BGR)
    _, data = cv2.imencode(".jpg", plane, [cv2.IMWRITE_JPEG_QUALITY, (15, 10, 5)[strength]])
    decoded = cv2.imdecode(data, cv2.IMREAD_COLOR)
    assert decoded is not None
    return np.asarray(cv2.cvtColor(decoded, cv2.COLOR_BGR2RGB) / 255, np.float32)


def _banding(light: Light, strength: int, rng: np.random.Generator) -> Light:
    steps = (15, 9, 5)[strength]
    return np.asarray(np.round(light * steps) / steps)


def _flat(light: Light, strength: int, rng: np.random.Generator) -> Light:
    mean = light.mean(axis=(0, 1))
    slow = cv2.GaussianBlur(light, (0, 0), (20, 40, 80)[strength])
    return np.asarray(mean + (slow - mean) * (0.1, 0.05, 0.0)[strength])


def _side_light(light: Light, strength: int, rng: np.random.Generator) -> Light:
    x, y = _axes(light)
    angle = rng.uniform(0, 2 * np.pi)
    along = x * np.cos(angle) + y * np.sin(angle)
    gain = (0.35, 0.2, 0.1)[strength] ** ((1 - along / abs(along).max()) / 2)
    return np.asarray(1.2 * light * gain[..., None], dtype=np.float32)


def _back_light(light: Light, strength: int, rng: np.random.Generator) -> Light:
    x, y = _axes(light)
    middle = np.exp(-(x * x + y * y) / 0.5)
    gain = (0.4, 0.25, 0.15)[strength] ** middle * 1.5 ** (1 - middle)
    return np.asarray(light * gain[..., None], dtype=np.float32)


def _axes(light: Light) -> tuple[Light, Light]:
    height, width = light.shape[:2]
    return np.meshgrid(np.linspace(-1, 1, width, dtype=np.float32), np.linspace(-1, 1, height, dtype=np.float32))


DEGRADE: Final[Mapping[str, Callable[[Light, int, np.random.Generator], Light]]] = {
    "dark": _dark,
    "overexposed": _overexposed,
    "low_contrast": _low_contrast,
    "color_cast": _color_cast,
    "defocus": _defocus,
    "motion": _motion,
    "noise": _noise,
    "jpeg": _jpeg,
    "banding": _banding,
    "flat": _flat,
    "side_light": _side_light,
    "back_light": _back_light,
}


def _run_peer(peer: Path, folder: Path) -> dict[str, Any]:
    out = folder.parent / f"{folder.name}.json"
    subprocess.run([peer, "-c", _PEER, folder, out], check=True, capture_output=True)
    found: dict[str, Any] = json.loads(out.read_text(encoding="utf-8"))
    return found


def _add_peer(results: list[dict[str, Any]], work: Path, peer: Path, degraded: Array, chosen: Array) -> None:
    """CleanVision's AUROC and share flagged beside ours."""
    for path in work.glob("truncated_*"):
        path.unlink()
    rows = _run_peer(peer, work)["rows"]
    for result in results:
        if result.get("how") not in CLEANVISION:
            continue
        issue = CLEANVISION[result["how"]]
        names = [f"clean_{i:05d}.jpg" for i in range(len(degraded))]
        for i in chosen:
            names[i] = f"{result['how']}_{result['strength']}_{i:05d}.jpg"
        score = np.array([1 - rows[name][f"{issue}_score"] for name in names])
        flagged = np.array([rows[name][f"is_{issue}_issue"] for name in names]) if issue != "low_information" else None
        result["cleanvision_auroc"] = float(roc_auc_score(degraded, score))
        result["cleanvision_flagged"] = None if flagged is None else float(flagged[degraded].mean())
        result["cleanvision_flagged_others"] = None if flagged is None else float(flagged[~degraded].mean())


def _costs(sets: Mapping[str, Sequence[Path]], folder: Path, small: int, peer: Path | None) -> list[dict[str, Any]]:
    """Processor time per image, of small images made from all sets and of BCCD's own files."""
    folder.mkdir()
    every = [path for files in sets.values() for path in files]
    for number in range(small):
        image = load_pixels(every[number % len(every)], shortest_side=SMALL_SIDE)
        scale = SMALL_SIDE / min(image.shape[:2])
        size = (round(image.shape[1] * scale) + number // len(every) % 7, round(image.shape[0] * scale))
        _save(folder / f"{number:05d}.jpg", np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8))
    photos = folder.parent / "photos"
    photos.mkdir()
    for path in sets.get("bccd", sets["parts_v3"]):
        (photos / path.name).write_bytes(path.read_bytes())
    results = []
    for name, place in (("small images", folder), ("640 x 480", photos)):
        paths = sorted(place.iterdir())
        started = time.process_time()
        _kinds(_measured(paths))
        spent = (time.process_time() - started) / len(paths)
        theirs = None if peer is None else _run_peer(peer, place)["seconds"] / len(paths)
        results.append({"cost": name, "images": len(paths), "ms": 1000 * spent, "cleanvision_ms": _times(theirs, 1000)})
    return results


def _times(value: float | None, factor: float) -> float | None:
    return None if value is None else value * factor


def _table(results: Sequence[dict[str, Any]]) -> str:
    """AUROC by set, three strengths in a cell; then false alarms and cost."""
    sets = list(dict.fromkeys(row["set"] for row in results if "set" in row))
    rows = []
    for how, told_by in EXPECTED.items():
        cells = [_cell([row for row in results if row.get("set") == name and row.get("how") == how]) for name in sets]
        rows.append([how, told_by, *cells])
    lines = [markdown(["planted", "told by", *(f"{name} (CleanVision)" for name in sets)], rows), ""]
    for row in results:
        if "clean_flagged" in row:
            wrong = {kind: count for kind, count in row["clean_flagged"].items() if count}
            lines.append(f"- {row['set']}, nothing planted: flagged of {row['images']} images {wrong or 'none'}")
        if "object_blur" in row:
            lines.append(
                f"- {row['object_blur']}, strength {row['strength']}: {row['found']} of {row['planted']} blurred objects "
                f"flagged, {row['others_flagged']} of the others; with nothing planted "
                f"{row['clean_objects_flagged']} of {row['objects']}"
            )
        if "cost" in row:
            theirs = "-" if row["cleanvision_ms"] is None else f"{row['cleanvision_ms']:.2f} ms"
            lines.append(f"- {row['images']} {row['cost']}: {row['ms']:.2f} ms an image, CleanVision {theirs}")
    return "\n".join(lines)


def _cell(rows: Sequence[dict[str, Any]]) -> str:
    ours = " ".join(f"{row['auroc']:.3f}" for row in rows)
    theirs = " ".join(f"{row['cleanvision_auroc']:.2f}" for row in rows if "cleanvision_auroc" in row)
    return f"{ours} ({theirs})" if theirs else ours


if __name__ == "__main__":
    main()
