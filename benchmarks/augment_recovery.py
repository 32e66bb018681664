"""How well `fit_recipe` finds changes that were planted, between halves of a set that show different pictures.

    python -m benchmarks.augment_recovery [--data FOLDER] [--seeds 2] [--images 100] [--only SET ...] [--json FILE]

One half of a set's images is changed by albumentations' own transforms with one fixed value each, alone and several together;
the recipe is fitted between the halves, which share no picture. Told are the planted value, the estimate, the relative error and
whether the 95% interval holds the planted value; and what was said to differ though it had not been changed. Errors are
relative to the planted change itself: of exposure in stops, of temperature in mireds from neutral, of blur in sigma, of noise
in the standard deviation of a mid-grey pixel; of gamma and contrast, whose nothing is 1, to the factor.

Everything was chosen on `parts_v3` of seed 7; its other seeds and the photographs were not looked at before.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from benchmarks.report import Report, markdown, options, run
from curate.augment.fit import Fitted, fit_recipe
from curate.augment.fit.camera import temperature_of
from curate.demo import NONE, make_parts
from curate.imaging import Pixels, load_pixels
from curate.recipes import Pipeline, Recipe, Step

FOLDERS: Final = {
    "raccoon": ("raccoon/images", "*.jpg"),
    "BCCD": ("bccd/JPEGImages", "*.jpg"),
    "wagon": ("roboflow_wagon", "**/*.jpg"),
}
PARTS: Final = "parts_v3"

Plan = Mapping[str, Any]
"""What is planted: a value for each kind of change, in the order of a camera."""

PLANS: Final[Mapping[str, Plan]] = {
    "nothing": {},
    "exposure -1": {"exposure": -1.0},
    "exposure +0.7": {"exposure": 0.7},
    "gamma 0.7": {"gamma": 0.7},
    "gamma 1.4": {"gamma": 1.4},
    "contrast 0.75": {"contrast": 0.75},
    "4500 K": {"kelvin": 4500},
    "9000 K": {"kelvin": 9000},
    "slope 0.2": {"slope": 0.2},
    "vignette 0.2": {"vignette": 0.2},
    "blur 1": {"blur": 1.0},
    "blur 2": {"blur": 2.0},
    "motion 9 at 45": {"motion": (9, 45)},
    "read noise 6": {"read": 6.0},
    "shot noise 0.02": {"shot": 0.02},
    "JPEG 50": {"quality": 50},
    "blur, noise": {"blur": 1.2, "read": 8.0},
    "exposure, 4500 K": {"exposure": -1.0, "kelvin": 4500},
    "all": {"blur": 1.2, "exposure": -0.8, "kelvin": 4500, "read": 6.0, "gamma": 1.3, "quality": 80},
}


def main() -> None:
    """Run everything."""
    parser = options(__doc__, data=True, seeds=2)
    parser.add_argument("--images", type=int, default=100, help="images on each side (default 100)")
    parser.add_argument("--only", nargs="+", choices=[PARTS, *FOLDERS], default=[PARTS, *FOLDERS], metavar="SET")
    parser.add_argument("--plans", nargs="+", choices=list(PLANS), default=list(PLANS), metavar="PLAN")
    run(measure, parser)


def measure(arguments: argparse.Namespace) -> Report:
    """Every plan on every set and seed."""
    notes: list[str] = []
    results: list[dict[str, Any]] = []
    for name in arguments.only:
        for seed in range(arguments.seeds):
            files = _files(name, arguments.data, arguments.images, seed, notes)
            if files is None:
                break
            source, target = halves(files, seed, arguments.images)
            for plan in arguments.plans:
                results.append({"set": name, "seed": seed} | recover(source, target, plan, seed))
                print(_line(results[-1]), file=sys.stderr, flush=True)
    settings = {"seeds": arguments.seeds, "images a side": arguments.images}
    return Report(settings, results, _tables(results), notes)


def halves(files: Sequence[Pixels], seed: int, images: int) -> tuple[list[Pixels], list[Pixels]]:
    """Two disjoint parts, drawn at random, of at most so many images each."""
    order = np.random.default_rng(seed).permutation(len(files))
    count = min(images, len(files) // 2)
    return [files[k] for k in order[:count]], [files[k] for k in order[count : 2 * count]]


def recover(source: Sequence[Pixels], target: Sequence[Pixels], name: str, seed: int) -> dict[str, Any]:
    """Plant one plan and fit a recipe."""
    plan = PLANS[name]
    changed = [plant(pixels, plan, seed=k) for k, pixels in enumerate(target)]
    start = time.process_time()
    fitted = fit_recipe(source, changed, seed=seed)
    seconds = time.process_time() - start
    planted = truth(plan)
    rows = [_row(fitted, parameter, value) for parameter, value in planted.items()]
    known = {*planted, "noise", "read_noise", "shot_noise"} if "noise" in planted else {*planted}
    known |= {"motion_angle"} if "motion" in planted else set()
    false = [each.name for each in fitted.parameters.values() if each.differs and each.name not in known]
    return {"plan": name, "found": rows, "false_alarms": false, "unexplained": fitted.unexplained, "seconds": seconds}


def truth(plan: Plan) -> dict[str, float]:
    """Planted values by the names of the fitted parameters."""
    values: dict[str, float] = {name: plan[name] for name in ("gamma", "contrast", "blur", "exposure") if name in plan}
    grey = np.full((256, 256, 3), 128, np.uint8)
    if "kelvin" in plan:
        red, _, blue = np.mean(plant(grey, {"kelvin": plan["kelvin"]}), axis=(0, 1)) / 128
        values["temperature"], values["tint"] = temperature_of(red, blue)
    if "slope" in plan:
        values["light_x"] = plan["slope"]
    if "vignette" in plan:
        values["vignetting"] = float(np.log2(1 + plan["vignette"]))
        values["exposure"] = values.get("exposure", 0.0) + 2.2 * values["vignetting"]
    if "motion" in plan:
        values["motion"] = plan["motion"][0]
    noise = {name: plan[name] for name in ("read", "shot") if name in plan}
    if noise:
        values["noise"] = float(np.std(plant(grey, noise)[..., 1]))
    if "quality" in plan:
        values["jpeg"] = plan["quality"]
    return values


def plant(pixels: Pixels, plan: Plan, *, seed: int = 0) -> Pixels:
    """An image as changed by albumentations with fixed values, in a camera's order."""
    steps = [step for kind, value in plan.items() if kind != "kelvin" for step in [_step(kind, value)]]
    before = [step for step in steps if step.transform in _BEFORE_COLOUR]
    after = [step for step in steps if step.transform not in _BEFORE_COLOUR]
    rng = np.random.default_rng(seed)
    pixels = Pipeline(Recipe("planted", tuple(before)))(pixels, rng).pixels if before else pixels
    if "kelvin" in plan:
        pixels = _under(pixels, plan["kelvin"])
    return Pipeline(Recipe("planted", tuple(after)))(pixels, rng).pixels if after else pixels


_BEFORE_COLOUR: Final = frozenset({"Illumination", "GaussianBlur", "MotionBlur", "RandomBrightnessContrast"})


def _step(kind: str, value: Any) -> Step:
    if kind == "exposure":
        gain = 2 ** (value / 2.2) - 1
        return Step("RandomBrightnessContrast", _fixed(contrast_limit=gain, brightness_limit=0.0) | _UNSAFE)
    if kind == "contrast":
        level = (1 - value) / 2
        return Step("RandomBrightnessContrast", _fixed(contrast_limit=value - 1, brightness_limit=level) | _UNSAFE)
    if kind == "gamma":
        return Step("RandomGamma", _fixed(gamma_limit=100 * value))
    if kind == "slope":
        linear = {"mode": "linear", "effect_type": "brighten"}
        return Step("Illumination", linear | _fixed(intensity_range=value, angle_range=0.0))
    if kind == "vignette":
        bell = {"mode": "gaussian", "effect_type": "brighten"}
        return Step("Illumination", bell | _fixed(intensity_range=value, center_range=0.5, sigma_range=0.35))
    if kind == "blur":
        return Step("GaussianBlur", {"blur_limit": 0} | _fixed(sigma_limit=value))
    if kind == "motion":
        still = {"allow_shifted": False}
        return Step("MotionBlur", still | _fixed(blur_limit=value[0], angle_range=value[1], direction_range=0.0))
    if kind == "read":
        return Step("GaussNoise", _fixed(std_range=value / 255))
    if kind == "shot":
        return Step("ShotNoise", _fixed(scale_range=value))
    return Step("ImageCompression", _fixed(quality_range=value))


_UNSAFE: Final = {"ensure_safe_range": False}


def _fixed(**values: Any) -> dict[str, Any]:
    return {name: [value, value] for name, value in values.items()}


def _under(pixels: Pixels, kelvin: int) -> Pixels:
    """`PlanckianJitter` at one temperature, which no range of it can ask for."""
    from albumentations import PlanckianJitter

    return np.asarray(PlanckianJitter(p=1).apply(pixels, temperature=kelvin))


def _row(fitted: Fitted, name: str, planted: float) -> dict[str, Any]:
    parameter = fitted.parameters[name]
    return {
        "parameter": name,
        "planted": planted,
        "estimate": parameter.estimate if parameter.differs else parameter.nothing,
        "low": parameter.low,
        "high": parameter.high,
        "differs": parameter.differs,
        "error": abs((parameter.estimate if parameter.differs else parameter.nothing) - planted) / abs(planted),
        "inside": parameter.low <= planted <= parameter.high,
    }


def _line(result: Mapping[str, Any]) -> str:
    """One fit in short, while the others run."""
    found = [
        f"{row['parameter']} {row['estimate']:.3g} for {row['planted']:.3g} [{row['low']:.3g}, {row['high']:.3g}]"
        for row in result["found"]
    ]
    alarms = [f"and {name}" for name in result["false_alarms"]]
    return (
        f"{result['set']} {result['seed']}, {result['plan']}: {'; '.join([*found, *alarms])}; {result['seconds']:.0f} s"
    )


def _files(name: str, data: Path | None, images: int, seed: int, notes: list[str]) -> list[Pixels] | None:
    """A set's images; None, and a note, where it is not there."""
    if name == PARTS:
        with tempfile.TemporaryDirectory() as folder:
            root = Path(folder) / "parts"
            make_parts(root, images=2 * images, seed=seed + 20, faults=NONE)
            return [load_pixels(file) for file in sorted(root.glob("images/*/*.jpg"))]
    folder_name, pattern = FOLDERS[name]
    found = [] if data is None else sorted((data / "detection" / folder_name).glob(pattern))
    if not found:
        notes.append(f"{name} is left out: there is no detection/{folder_name} in the folder given by --data")
        return None
    chosen = np.random.default_rng([seed, 1]).permutation(len(found))[: 2 * images]
    return [load_pixels(found[k]) for k in chosen]


def _tables(results: Sequence[Mapping[str, Any]]) -> str:
    """Each plan and parameter by set; then the share within a tenth, of intervals that hold, and of false alarms."""
    rows = []
    for plan in dict.fromkeys(result["plan"] for result in results):
        of_plan = [result for result in results if result["plan"] == plan]
        for parameter in dict.fromkeys(row["parameter"] for result in of_plan for row in result["found"]):
            for name in dict.fromkeys(result["set"] for result in of_plan):
                found = [
                    row
                    for result in of_plan
                    if result["set"] == name
                    for row in result["found"]
                    if row["parameter"] == parameter
                ]
                estimates = ", ".join(f"{row['estimate']:.3g}" for row in found)
                errors = ", ".join(f"{100 * row['error']:.0f}" for row in found)
                inside = f"{sum(row['inside'] for row in found)} of {len(found)}"
                rows.append([plan, parameter, name, f"{found[0]['planted']:.3g}", estimates, errors, inside])
    table = markdown(["planted", "parameter", "set", "value", "estimates", "error, %", "in interval"], rows)
    return "\n\n".join([table, _summary(results)])


def _summary(results: Sequence[Mapping[str, Any]]) -> str:
    rows = []
    wanted = ("exposure", "gamma", "temperature", "blur", "noise")
    for name in dict.fromkeys(result["set"] for result in results):
        of_set = [result for result in results if result["set"] == name]
        found = [row for result in of_set for row in result["found"] if row["parameter"] in wanted]
        errors: npt.NDArray[np.float64] = np.array([row["error"] for row in found])
        false = sum(len(result["false_alarms"]) for result in of_set)
        rows.append(
            [
                name,
                f"{(errors <= 0.1).sum()} of {len(errors)}" if len(errors) else "-",
                f"{100 * np.median(errors):.0f}" if len(errors) else "-",
                f"{sum(row['inside'] for row in found)} of {len(found)}",
                f"{false} in {len(of_set)} fits",
                f"{np.median([result['seconds'] for result in of_set]):.0f}",
            ]
        )
    columns = ["set", "within 10%", "median error, %", "in interval", "false alarms", "CPU s a fit"]
    return markdown(columns, rows)


if __name__ == "__main__":
    main()
