"""Which objects are worse than their pictures, from numbers alone."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pytest

from curate.checks.measures.table import Measures
from curate.checks.quality.faults import FAULTS, judge_faults
from curate.checks.quality.objects import Objects, judge_objects

FloatArray = npt.NDArray[np.float64]

N = 200
SIDE = 1000.0


def measures(sharpness: FloatArray, lightest: FloatArray, bits: float = 8.0) -> Measures:
    n = len(sharpness)
    usual = {name: np.full(n, 0.5) for fault in FAULTS for name in fault.shown} | {"bits": np.full(n, bits)}
    usual |= {"quantization": np.ones(n), "noise": np.full(n, 0.01), "clipped_bright": np.zeros(n)}
    usual |= {f"luminance_p{percentile}": np.full(n, 0.3) for percentile in ("05", "25", "50")}
    usual["edge_width"] = np.where(sharpness < -1.5, 2.5, 0.5)
    told = {"sharpness": sharpness, "luminance_p95": lightest, "luminance_p99": lightest}
    ids = pa.chunked_array([[str(number) for number in range(n)]])
    return Measures(ids, {name: values.astype(np.float32) for name, values in (usual | told).items()})


def judged(
    name: str, boxes: FloatArray, crops: tuple[FloatArray, FloatArray], images: tuple[FloatArray, FloatArray]
) -> FloatArray:
    """Probabilities of a fault for one object on each of N pictures of 1000 x 1000 pixels."""
    ids = [str(number) for number in range(N)]
    table = pa.table(
        {"image_id": ids, "label": ["part"] * N, "bbox": pa.array(boxes.tolist(), pa.list_(pa.float64(), 4))}
    )
    pictures = pa.table({"image_id": ids, "width": [int(SIDE)] * N, "height": [int(SIDE)] * N})
    whole = measures(*images)
    found = judge_objects(Objects.of(table, pictures), measures(*crops), whole, judge_faults(whole))
    return found[name][0]


@pytest.fixture
def usual() -> tuple[FloatArray, FloatArray]:
    """Sharpness and lightest parts of N sharp and bright pictures."""
    rng = np.random.default_rng(0)
    return rng.normal(-1.0, 0.03, N), np.clip(rng.normal(0.8, 0.05, N), 0, 1)


def boxes_of(side: float = 80.0) -> FloatArray:
    return np.tile([300.0, 400.0, side, 1.5 * side], (N, 1))


def test_an_object_that_is_blurred_on_a_sharp_picture(usual: tuple[FloatArray, FloatArray]) -> None:
    sharpness = usual[0].copy()
    sharpness[7] = -1.9
    found = judged("blur", boxes_of(), (sharpness, usual[1]), usual)
    assert np.flatnonzero(found >= 0.5).tolist() == [7]


@pytest.mark.parametrize("box", [[0.0, 400, 80, 120], [300, 1, 80, 120], [920, 400, 80, 120], [300, 880, 80, 120]])
def test_what_the_border_cuts_is_not_asked_for_blur(usual: tuple[FloatArray, FloatArray], box: list[float]) -> None:
    sharpness, boxes = usual[0].copy(), boxes_of()
    sharpness[7], boxes[7] = -1.9, box
    assert judged("blur", boxes, (sharpness, usual[1]), usual).max() < 0.5


def test_tiny_objects_are_not_asked_for_blur(usual: tuple[FloatArray, FloatArray]) -> None:
    sharpness = usual[0].copy()
    sharpness[7] = -1.9
    assert judged("blur", boxes_of(40), (sharpness, usual[1]), usual).max() == 0


@pytest.mark.parametrize("name", ["dark", "blur"])
def test_an_object_that_is_no_worse_than_its_picture_is_not_flagged(
    name: str, usual: tuple[FloatArray, FloatArray]
) -> None:
    """The same object among pictures that are seldom as good as their objects, and among good ones."""
    sharpness, lightest = usual[0].copy(), usual[1].copy()
    sharpness[7], lightest[7] = -1.9, 0.15
    rng = np.random.default_rng(1)
    poor = rng.uniform(-1.9, -0.9, N), rng.uniform(0.15, 0.9, N)
    poor[0][7], poor[1][7] = -1.88, 0.16
    assert judge_faults(measures(*poor))[name].probability[7] < 0.5
    assert judged(name, boxes_of(), (sharpness, lightest), poor)[7] < 0.5
    assert judged(name, boxes_of(), (sharpness, lightest), usual)[7] >= 0.5
