"""How well set-ups of light are recovered, drift is detected, and slices that fail are found.

    python -m benchmarks.shift [--data FOLDER] [--seeds 5] [--images 400] [--draws 200] [--json FILE]

Set-ups: `parts_v3` is rendered with four of them; adjusted mutual information of the clusters with the truth, and whether
each set-up's largest cluster is named with what sets that lamp apart (the names are compared with words, never the clusters).

Drift: half of a set's groups of images are the reference, half are incoming, of which a part is changed: darker by a stop,
warmer, blurred, noisier, or replaced by images of another set. Power at p <= 0.05 over draws, and false alarms with nothing
changed, of `curate shift` and of what is usually done: MMD with a permutation test over images (photometric axes, deep
features), distances to the nearest reference images, Kolmogorov-Smirnov with Bonferroni's correction.

Slices: a model that errs on one in eight images, and on half of those under one lamp, must be seen to fail there first; with
errors that have nothing to do with the images, no slice may be reported in more than one draw of twenty.
"""

from __future__ import annotations

import argparse
import re
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import cv2
import numpy as np
import numpy.typing as npt
from scipy import stats
from scipy.spatial.distance import cdist
from sklearn.metrics import adjusted_mutual_info_score, roc_auc_score

from benchmarks.report import Report, markdown, options, run
from curate.checks.measures.computation import NUMBERS, MeasureImages
from curate.checks.shift.axes import AXES, NAMES, VIEWS, axis_values, lamp_columns
from curate.checks.shift.clusters import cluster_light
from curate.checks.shift.images import shifted_images
from curate.checks.shift.light import LIGHT_COLUMNS, describe_light
from curate.checks.shift.naming import differences, words
from curate.checks.shift.slices import ends, slice_errors
from curate.checks.shift.two_sample import two_sample_test
from curate.demo import make_parts
from curate.imaging import Pixels, load_pixels
from curate.models.encoders.registry import load_encoder

Array = npt.NDArray[Any]

CAUSES: Final = {
    "ring": {"even light", "diffuse light", "strong light"},
    "side-left": {"light from the left"},
    "backlight-warm": {"light from above", "warm"},
    "dim": {"dim light", "dark", "cool", "dark corners"},
}
"""What sets each lamp of `parts_v3` apart, as a name may say it."""

FOLDERS: Final = {
    "BCCD": ("bccd/JPEGImages", "*.jpg"),
    "raccoon": ("raccoon/images", "*.jpg"),
    "wagon": ("roboflow_wagon", "**/*.jpg"),
}
COPIES: Final = ("exact_duplicate", "near_duplicate", "leak")
LEVEL: Final = 0.05
_SIDE: Final = 320


@dataclass(frozen=True)
class Looks:
    """What is known of n images: axes (n, k) and vectors (n, d)."""

    axes: Array
    vectors: Array


@dataclass(frozen=True)
class Photos:
    """A set as it is and changed, and which of its images are not independent."""

    name: str
    plain: Looks
    changed: dict[str, Looks]
    groups: Array


def main() -> None:
    """Run everything."""
    parser = options(__doc__, data=True, seeds=5)
    parser.add_argument("--images", type=int, default=400, help="size of parts_v3 (default 400)")
    parser.add_argument("--draws", type=int, default=200, help="draws at 10%% changed images and at none (default 200)")
    run(measure, parser)


def measure(arguments: argparse.Namespace) -> Report:
    """Set-ups, drift and slices."""
    notes: list[str] = []
    results: list[dict[str, Any]] = []
    sets: list[Photos] = []
    for seed in range(100, 100 + arguments.seeds):
        with tempfile.TemporaryDirectory() as folder:
            found, photos = _setups(Path(folder), arguments.images, seed, keep=not sets)
        results += found
        sets += photos
    sets += _real_sets(arguments.data, notes)
    _add_contents(sets)
    for each in sets:
        results += drift(each, arguments.draws)
    settings = {"seeds": arguments.seeds, "images of parts_v3": arguments.images, "draws": arguments.draws}
    return Report(settings, results, _tables(results), notes)


def change(name: str, pixels: Pixels, rng: np.random.Generator) -> Pixels:
    """An image as another light, lens or camera would have given it."""
    if name == "blurred":
        return np.asarray(cv2.GaussianBlur(pixels, (0, 0), 1.3), dtype=np.uint8)
    if name == "noisier":
        return np.clip(pixels + rng.normal(0, 7, pixels.shape) + 0.5, 0, 255).astype(np.uint8)
    gains = {"darker": (0.5, 0.5, 0.5), "warmer": (1.15, 1.0, 0.8)}[name]
    light = np.power(pixels / 255.0, 2.2) * gains
    return np.clip(255 * np.power(light, 1 / 2.2) + 0.5, 0, 255).astype(np.uint8)


def look(files: Sequence[Path], how: str | None = None) -> Looks:
    """Measure and embed images, changed in some way."""
    encoder, measures, rng = load_encoder("builtin"), MeasureImages(), np.random.default_rng(0)
    light, sums, prepared = [], [], []
    for file in files:
        pixels = load_pixels(file, shortest_side=_SIDE)
        pixels = pixels if how is None else np.ascontiguousarray(change(how, pixels, rng))
        light.append(describe_light(pixels))
        sums.append(measures.prepare(pixels))
        prepared.append(encoder.prepare(pixels))
    rows = measures.run(sums)
    columns = {name: np.asarray(rows[name]) for name in NUMBERS}
    columns |= dict(zip(LIGHT_COLUMNS, np.stack(light).T, strict=True))
    batches = [encoder.encode(prepared[start : start + 32]) for start in range(0, len(prepared), 32)]
    return Looks(axis_values(columns), np.concatenate(batches))


def _setups(folder: Path, images: int, seed: int, *, keep: bool) -> tuple[list[dict[str, Any]], list[Photos]]:
    """How well the lamps of one rendered set are recovered; the set itself, changed, if it is to be kept."""
    parts = make_parts(folder / "parts", images=images, seed=seed)
    pictures = parts.truth.pictures
    files = [parts.root / picture.file for picture in pictures]
    plain = look(files)
    # A planted copy belongs with its original, as `curate duplicates` finds it.
    original = {fault.image: fault.related_image for fault in parts.truth.faults if fault.kind in COPIES}
    groups = _numbers([picture.group or str(original.get(picture.file, picture.file)) for picture in pictures])
    truth = np.array([picture.lighting for picture in pictures])
    started = time.process_time()
    found = cluster_light(plain.axes[:, lamp_columns()], groups, seed=seed)
    seconds = time.process_time() - started
    row: dict[str, Any] = {
        "part": "set-ups",
        "seed": seed,
        "ami": float(adjusted_mutual_info_score(truth, found)),
        "clusters": int(found.max()) + 1,
        "seconds": seconds,
    }
    for lamp, causes in CAUSES.items():
        largest = _cluster_of(lamp, truth, found)
        apart = differences(plain.axes, found == largest, groups)
        name = words([each for each in apart if AXES[each.axis].view != "detail"])
        row[f"name of {lamp}"] = ", ".join(name)
        row[f"named {lamp}"] = bool(causes & set(name))
    results = [row, *_slices(plain, groups, truth, found, seed)]
    changed = {how: look(files, how) for how in ("darker", "warmer", "blurred", "noisier")} if keep else {}
    return results, [Photos("parts_v3", plain, changed, groups)] if keep else []


def _cluster_of(lamp: str, truth: Array, found: Array) -> int:
    """The cluster that most of a lamp's images are in; -1 for none."""
    return int(np.bincount(found[truth == lamp] + 1).argmax()) - 1


def _slices(
    plain: Looks, groups: Array, truth: Array, found: Array, seed: int, draws: int = 40
) -> list[dict[str, Any]]:
    """Whether a lamp under which a model fails is found, and what is found where it fails nowhere."""
    rng = np.random.default_rng(seed)
    clusters = np.arange(int(found.max()) + 1)
    slices = np.concatenate([found[:, None] == clusters, ends(plain.axes)], axis=1)
    right, alarms = 0, 0
    for draw in range(draws):
        lamp = str(rng.choice(list(CAUSES)))
        largest = _cluster_of(lamp, truth, found)
        errors = (rng.random(len(truth)) < np.where(truth == lamp, 0.5, 0.125)).astype(float)
        tested = slice_errors(slices, errors, groups, permutations=499, seed=draw)
        p_values = np.array([each.p_value for each in tested])
        excess = np.array([each.error - each.rest for each in tested])
        first = int(np.lexsort((-excess[clusters], p_values[clusters]))[0]) if len(clusters) else -1
        right += largest >= 0 and first == largest and tested[largest].fails
        harmless = (rng.random(len(truth)) < 0.2).astype(float)
        alarms += any(each.fails for each in slice_errors(slices, harmless, groups, permutations=499, seed=draw))
    return [
        {"part": "slices", "seed": seed, "draws": draws, "found_first": right / draws, "false_alarms": alarms / draws}
    ]


def _real_sets(data: Path | None, notes: list[str]) -> list[Photos]:
    if data is None:
        notes.append("without --data only parts_v3 is tested for drift")
        return []
    sets = []
    for name, (folder, pattern) in FOLDERS.items():
        files = sorted((data / "detection" / folder).glob(pattern))
        if not files:
            notes.append(f"{name} is not in the folder of data")
            continue
        changed = {how: look(files, how) for how in ("darker", "warmer", "blurred", "noisier")}
        # The wagons are copies that an export made of fewer photos, and named after them.
        groups = _numbers([re.sub(r"\.rf\..*", "", file.name) for file in files])
        sets.append(Photos(name, look(files), changed, groups))
    return sets


def _add_contents(sets: Sequence[Photos]) -> None:
    """Images of another set, as many as a set has: what it is like when something else is photographed."""
    for photos, other in zip(sets, [*sets[1:], sets[0]], strict=True):
        if other is not photos:
            rows = np.random.default_rng(0).integers(0, len(other.groups), len(photos.groups))
            photos.changed["other contents"] = Looks(other.plain.axes[rows], other.plain.vectors[rows])


def drift(photos: Photos, draws: int) -> list[dict[str, Any]]:
    """Power and false alarms on one set."""
    plans = [("nothing", 0.0, draws)]
    plans += [
        (how, part, draws if part == 0.1 else max(1, draws // 5)) for how in photos.changed for part in (0.05, 0.1, 0.2)
    ]
    results = []
    for how, part, count in plans:
        rng = np.random.default_rng(7)
        detected: dict[str, list[bool]] = {}
        seconds: dict[str, float] = {}
        ranked: list[float] = []
        for draw in range(count):
            looks, incoming, moved = _draw(photos, how, part, rng)
            for method, test in METHODS.items():
                started = time.process_time()
                p_value = test(looks, incoming, photos.groups, draw)
                seconds[method] = seconds.get(method, 0.0) + time.process_time() - started
                detected.setdefault(method, []).append(p_value <= LEVEL)
            ranked += _ranking(looks, incoming, photos.groups, moved) if moved.any() and draw < 20 else []
        results += [
            {
                "part": "drift",
                "set": photos.name,
                "changed": how,
                "share": part,
                "method": method,
                "detected": float(np.mean(hits)),
                "draws": count,
                "seconds": seconds[method] / count,
                "auroc_images": float(np.mean(ranked)) if ranked and method == "curate" else None,
            }
            for method, hits in detected.items()
        ]
    return results


def _draw(photos: Photos, how: str, part: float, rng: np.random.Generator) -> tuple[Looks, Array, Array]:
    """Half of the groups as incoming, a part of their images changed; which images those are."""
    groups = int(photos.groups.max()) + 1
    incoming = np.isin(photos.groups, rng.permutation(groups)[: groups // 2])
    moved = np.zeros(len(incoming), dtype=bool)
    axes, vectors = photos.plain.axes.copy(), photos.plain.vectors.copy()
    if part:
        rows = np.flatnonzero(incoming)
        moved[rng.choice(rows, max(1, round(part * len(rows))), replace=False)] = True
        axes[moved], vectors[moved] = photos.changed[how].axes[moved], photos.changed[how].vectors[moved]
    return Looks(axes, vectors), incoming, moved


def _ranking(looks: Looks, incoming: Array, groups: Array, moved: Array) -> list[float]:
    """Where drift is seen: how well the probabilities tell the changed images from the other incoming ones."""
    test = two_sample_test(looks.axes, NAMES, VIEWS, looks.vectors, incoming, groups, permutations=199)
    if test is None or test.p_value > LEVEL:
        return []
    found = shifted_images(looks.axes, NAMES, looks.vectors, incoming, groups, test)
    return [float(roc_auc_score(moved[incoming], found.probability[incoming]))]


def _curate(looks: Looks, incoming: Array, groups: Array, seed: int) -> float:
    test = two_sample_test(looks.axes, NAMES, VIEWS, looks.vectors, incoming, groups, permutations=199, seed=seed)
    return 1.0 if test is None else test.p_value


def _mmd(points: Array, incoming: Array, seed: int, permutations: int = 199) -> float:
    """Gaussian kernel of median width, permuting images (Gretton et al. 2012)."""
    square = cdist(points, points, "sqeuclidean")
    kernel = np.exp(-square / np.median(square[np.triu_indices(len(points), 1)]))
    rng = np.random.default_rng(seed)
    side = incoming.astype(float)
    rows = np.stack([side, *(rng.permutation(side) for _ in range(permutations))])
    signed = rows / rows.sum(axis=1, keepdims=True) - (1 - rows) / (1 - rows).sum(axis=1, keepdims=True)
    values = ((signed @ kernel) * signed).sum(axis=1)
    return float(np.mean(values >= values[0] - 1e-12))


def _nearest(points: Array, incoming: Array, seed: int) -> float:
    """Distances of the incoming images to one half of the reference, against those of the other half (Mann-Whitney)."""
    reference = np.random.default_rng(seed).permutation(np.flatnonzero(~incoming))
    known, held = np.array_split(reference, 2)
    near = [
        np.sort(cdist(points[rows], points[known]), axis=1)[:, :10].mean(axis=1)
        for rows in (np.flatnonzero(incoming), held)
    ]
    return float(stats.mannwhitneyu(*near).pvalue)


def _kolmogorov(points: Array, incoming: Array) -> float:
    p_values = [stats.ks_2samp(column[incoming], column[~incoming], method="asymp").pvalue for column in points.T]
    return float(min(1.0, min(p_values) * len(p_values)))


def _scaled(axes: Array) -> Array:
    return np.asarray((axes - axes.mean(axis=0)) / np.maximum(axes.std(axis=0), 1e-9))


Test = Callable[[Looks, Array, Array, int], float]
METHODS: Final[dict[str, Test]] = {
    "curate": _curate,
    "MMD photometric": lambda looks, incoming, groups, seed: _mmd(_scaled(looks.axes), incoming, seed),
    "MMD deep": lambda looks, incoming, groups, seed: _mmd(looks.vectors, incoming, seed),
    "kNN deep": lambda looks, incoming, groups, seed: _nearest(looks.vectors, incoming, seed),
    "KS, Bonferroni": lambda looks, incoming, groups, seed: _kolmogorov(looks.axes, incoming),
}


def _numbers(names: Sequence[str]) -> Array:
    return np.asarray(np.unique(names, return_inverse=True)[1])


def _tables(results: list[dict[str, Any]]) -> str:
    setups = [row for row in results if row["part"] == "set-ups"]
    rows: list[list[Any]] = [
        [
            row["seed"],
            f"{row['ami']:.3f}",
            row["clusters"],
            f"{row['seconds']:.1f}",
            *(row[f"name of {lamp}"] for lamp in CAUSES),
        ]
        for row in setups
    ]
    text = markdown(["seed", "AMI", "clusters", "CPU s", *CAUSES], rows)
    slices = [row for row in results if row["part"] == "slices"]
    found, alarms = (f"{np.mean([row[key] for row in slices]):.2f}" for key in ("found_first", "false_alarms"))
    text += (
        f"\n\nA lamp under which the model fails is the first slice in {found} of draws; false alarms in {alarms}.\n\n"
    )
    methods = list(METHODS)
    rows = []
    for key in dict.fromkeys((row["set"], row["changed"], row["share"]) for row in results if row["part"] == "drift"):
        mine = [row for row in results if row["part"] == "drift" and (row["set"], row["changed"], row["share"]) == key]
        ranking = next(row["auroc_images"] for row in mine)
        cells = [f"{next(row['detected'] for row in mine if row['method'] == method):.2f}" for method in methods]
        rows.append([key[0], key[1], f"{key[2]:.0%}", *cells, "" if ranking is None else f"{ranking:.2f}"])
    return text + markdown(["set", "changed", "share", *methods, "AUROC of images"], rows)


if __name__ == "__main__":
    main()
