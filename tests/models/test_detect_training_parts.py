"""The parts of a detector's training: boxes and cells, assignment, losses, samples, numbers, defaults."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("torchvision")

from hypothesis import given, settings  # noqa: E402
from hypothesis import strategies as st  # noqa: E402

from curate.errors import InputError, UsageError  # noqa: E402
from curate.models.predictors.base import Objects  # noqa: E402
from curate.models.training.augment import Augmentation  # noqa: E402
from curate.models.training.base import Example, TrainingSettings  # noqa: E402
from curate.models.training.detect import data, defaults, scoring  # noqa: E402
from curate.models.training.detect.assignment import NOBODY, assign  # noqa: E402
from curate.models.training.detect.cells import Cells, decode, encode, make_cells  # noqa: E402
from curate.models.training.detect.export import difference  # noqa: E402
from curate.models.training.detect.fcos import class_weights, quality_focal_loss  # noqa: E402

CPU = torch.device("cpu")
corner = st.floats(-200, 400, width=32)
side = st.floats(0.5, 800, width=32)


def example(boxes: list[list[float]], labels: list[int], size: tuple[int, int] | None = (100, 200)) -> Example:
    return Example("a", "a.png", size, boxes=np.array(boxes).reshape(-1, 4), labels=np.array(labels, np.int64))


def test_cells_are_the_middles_of_their_pixels() -> None:
    cells = make_cells([(2, 3), (1, 1)], [8, 32], CPU)
    assert cells.centres.tolist() == [[4, 4], [12, 4], [20, 4], [4, 12], [12, 12], [20, 12], [16, 16]]
    assert cells.strides[:, 0].tolist() == [8] * 6 + [32]


@given(st.lists(st.tuples(corner, corner, side, side), min_size=7, max_size=7))
@settings(deadline=None)
def test_decoding_gives_the_boxes_that_were_encoded(rows: list[tuple[float, float, float, float]]) -> None:
    cells = make_cells([(2, 3), (1, 1)], [8, 32], CPU)
    boxes = torch.tensor([[x, y, x + w, y + h] for x, y, w, h in rows])
    torch.testing.assert_close(decode(cells, encode(cells, boxes)), boxes, rtol=1e-4, atol=1e-2)


def test_decoding_never_gives_an_infinite_box() -> None:
    cells = make_cells([(1, 1)], [8], CPU)
    assert decode(cells, torch.full((1, 4), 1000.0)).isfinite().all()


# --- assignment


def brute_force(
    cells: Cells, logits: list[list[float]], boxes: list[list[float]], objects: list[list[float]], labels: list[int]
) -> list[int]:
    """`assign`, as its docstring says it, one number at a time."""
    taken: dict[int, list[tuple[float, int]]] = {}
    for number, (box, label) in enumerate(zip(objects, labels, strict=True)):
        found = []
        for cell, ((x, y), (stride,)) in enumerate(zip(cells.centres.tolist(), cells.strides.tolist(), strict=True)):
            middle = ((box[0] + box[2]) / 2, (box[1] + box[3]) / 2)
            distance = math.dist((x, y), middle) / stride
            if not (box[0] < x < box[2] and box[1] < y < box[3]) and distance >= 1.5:
                continue
            iou = overlap(boxes[cell], box)
            score = 1 / (1 + math.exp(-logits[cell][label]))
            entropy = -(iou * math.log(score) + (1 - iou) * math.log(1 - score))
            cost = entropy * (iou - score) ** 2 - 3 * math.log(max(iou, 1e-7)) + 10 ** (distance - 3)
            found.append((cost, cell, iou))
        count = max(1, int(sum(sorted((iou for _, _, iou in found), reverse=True)[:13])))
        for cost, cell, _ in sorted(found)[:count]:
            taken.setdefault(cell, []).append((cost, number))
    return [min(taken[cell])[1] if cell in taken else NOBODY for cell in range(len(boxes))]


def overlap(a: list[float], b: list[float]) -> float:
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    common = max(width, 0) * max(height, 0)
    area = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1])
    return common / (area - common)


@given(st.integers(0, 10_000), st.integers(1, 6))
@settings(deadline=None, max_examples=60)
def test_assignment_is_what_brute_force_finds(seed: int, count: int) -> None:
    random = np.random.default_rng(seed)
    cells = make_cells([(8, 8), (4, 4), (2, 2)], [8, 16, 32], CPU)
    low = random.uniform(0, 48, (count, 2))
    objects = np.concatenate([low, low + random.uniform(2, 40, (count, 2))], axis=1).astype(np.float32)
    labels = random.integers(0, 3, count)
    logits = torch.tensor(random.normal(-1, 1, (len(cells.centres), 3)), dtype=torch.float32)
    near = objects[random.integers(0, count, len(cells.centres))]
    boxes = torch.tensor(near + random.normal(0, 3, near.shape), dtype=torch.float32)
    boxes = torch.cat([boxes[:, :2], torch.maximum(boxes[:, 2:], boxes[:, :2] + 1)], dim=1)

    given = assign(cells, logits, boxes, torch.tensor(objects), torch.tensor(labels))

    wanted = brute_force(cells, logits.tolist(), boxes.tolist(), objects.tolist(), labels.tolist())
    assert given.objects.tolist() == wanted
    for cell, number in enumerate(wanted):
        iou = 0.0 if number == NOBODY else overlap(boxes[cell].tolist(), objects[number].tolist())
        assert float(given.overlaps[cell]) == pytest.approx(iou, abs=1e-5)


def test_an_object_smaller_than_a_cell_is_still_learnt() -> None:
    cells = make_cells([(4, 4)], [8], CPU)
    boxes = torch.cat([cells.centres - 4, cells.centres + 4], dim=1)
    tiny = torch.tensor([[8.5, 8.5, 9.5, 9.5]])  # between the centres
    given = assign(cells, torch.zeros(16, 1), boxes, tiny, torch.zeros(1, dtype=torch.int64))
    assert (given.objects == 0).any()


def test_without_objects_all_cells_learn_nothing() -> None:
    cells = make_cells([(2, 2)], [8], CPU)
    given = assign(cells, torch.zeros(4, 2), torch.ones(4, 4), torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64))
    assert given.objects.tolist() == [NOBODY] * 4
    assert given.overlaps.tolist() == [0.0] * 4


def test_an_assignment_survives_boxes_that_are_no_numbers() -> None:
    cells = make_cells([(2, 2)], [8], CPU)
    boxes = torch.full((4, 4), torch.nan)
    given = assign(cells, torch.zeros(4, 1), boxes, torch.tensor([[0.0, 0, 16, 16]]), torch.zeros(1, dtype=torch.int64))
    assert len(given.objects) == 4


@given(st.floats(-12, 12), st.floats(0, 1))
@settings(deadline=None)
def test_quality_focal_loss_is_the_paper_s(logit: float, wanted: float) -> None:
    found = float(
        quality_focal_loss(torch.tensor(logit, dtype=torch.float64), torch.tensor(wanted, dtype=torch.float64))
    )
    score = 1 / (1 + math.exp(-logit))
    entropy = -(wanted * math.log(score) + (1 - wanted) * math.log(1 - score))
    assert found == pytest.approx(abs(wanted - score) ** 2 * entropy, rel=1e-6, abs=1e-9)


def test_rare_classes_count_more_within_limits() -> None:
    assert class_weights([100, 100]).tolist() == [1, 1]
    assert class_weights([400, 25, 0]).tolist() == pytest.approx(
        [math.sqrt(425 / 3 / 400), math.sqrt(425 / 3 / 25), 3.0]
    )
    assert class_weights([0]).tolist() == [1]


# --- samples


def test_boxes_without_area_are_told_apart_and_crowds_ignored() -> None:
    given = replace(
        example(
            [[10, 10, 20, 20], [5, 5, 0, 4], [np.nan, 0, 1, 1], [300, 0, 5, 5], [190, 90, 50, 50], [0, 0, 9, 9]],
            [0] * 6,
        ),
        crowd=np.array([False, False, False, False, False, True]),
    )
    found = data.labelled(given)
    assert found.boxes.tolist() == [[10, 10, 20, 20], [190, 90, 10, 10]]
    assert found.ignored.tolist() == [[0, 0, 9, 9]]
    assert found.bad == 3


def test_boxes_and_labels_must_be_equally_many() -> None:
    with pytest.raises(InputError, match="1 boxes have 2 labels"):
        data.labelled(example([[0, 0, 1, 1]], [0, 1]))


def test_a_sample_is_the_image_top_left_with_its_boxes() -> None:
    pixels = np.zeros((50, 100, 3), np.uint8)  # decoded at half the size
    sample = data.make_sample(example([[20, 40, 100, 20]], [1]), pixels, (64, 64), Augmentation(0.0), None)
    assert sample.image.shape == (3, 64, 64)
    assert int(sample.image[:, :32].max()) == 0
    assert sample.image[:, 32:].unique().tolist() == [data.PAD]
    assert sample.boxes.tolist() == [[6.4, 12.8, 38.4, 19.2]] or torch.allclose(
        sample.boxes, torch.tensor([[6.4, 12.8, 38.4, 19.2]])
    )
    torch.testing.assert_close(
        torch.tensor(sample.placement.to_image(sample.boxes.numpy())).float(), torch.tensor([[20.0, 40, 120, 60]])
    )


def test_a_changed_sample_keeps_boxes_on_what_they_are_around() -> None:
    pixels = np.zeros((100, 200, 3), np.uint8)
    pixels[30:60, 120:160] = 255
    boxes = example([[120, 30, 40, 30]], [2])
    for seed in range(20):
        sample = data.make_sample(boxes, pixels, (96, 192), Augmentation(0.8, turns=False), np.random.default_rng(seed))
        bright = (sample.image.float().mean(dim=0) > 180).nonzero()
        if not len(sample.boxes):
            continue
        low, high = bright.min(dim=0).values.flip(0), bright.max(dim=0).values.flip(0) + 1
        assert sample.labels.tolist() == [2]
        assert (torch.cat([low, high]) - sample.boxes[0]).abs().max() <= 3


def test_a_crowd_moves_with_its_image() -> None:
    given = replace(example([[0, 0, 50, 50], [120, 30, 40, 30]], [0, 0]), crowd=np.array([True, False]))
    pixels = np.zeros((100, 200, 3), np.uint8)
    augmentation = Augmentation(0.5, turns=False)
    sample = data.make_sample(given, pixels, (100, 200), augmentation, np.random.default_rng(3))
    assert (len(sample.boxes), len(sample.ignored)) == (1, 1)
    assert float(sample.ignored[0, 2] - sample.ignored[0, 0]) != 50 or float(sample.ignored[0, 0]) != 0


# --- numbers


def found(boxes: list[list[float]], labels: list[int], scores: list[float]) -> Objects:
    return Objects((100, 200), np.array(boxes).reshape(-1, 4), np.array(labels, np.int64), np.array(scores))


def test_perfect_predictions_have_a_precision_of_one() -> None:
    truth = [example([[0, 0, 10, 10], [50, 50, 30, 20]], [0, 1]), example([], [])]
    numbers = scoring.mean_average_precision(
        [found([[0, 0, 10, 10], [50, 50, 30, 20]], [0, 1], [0.9, 0.8]), found([], [], [])], truth, ("a", "b", "c")
    )
    assert numbers == pytest.approx({"mAP50": 1, "mAP": 1, "AP50/a": 1, "AP50/b": 1})


def test_a_false_alarm_above_the_hits_halves_the_precision() -> None:
    truth = [example([[0, 0, 10, 10]], [0])]
    numbers = scoring.mean_average_precision(
        [found([[80, 80, 10, 10], [0, 0, 10, 10]], [0, 0], [0.9, 0.5])], truth, ("a",)
    )
    assert numbers["mAP50"] == pytest.approx(0.5)


def test_what_is_found_in_a_crowd_is_not_counted() -> None:
    truth = [replace(example([[0, 0, 10, 10], [60, 20, 80, 60]], [0, 0]), crowd=np.array([False, True]))]
    numbers = scoring.mean_average_precision(
        [found([[70, 30, 10, 10], [0, 0, 10, 10]], [0, 0], [0.9, 0.5])], truth, ("a",)
    )
    assert numbers["mAP50"] == pytest.approx(1)


def test_nothing_to_be_found_is_no_precision() -> None:
    assert scoring.mean_average_precision([found([], [], [])], [example([], [])], ("a",)) == {"mAP50": 0, "mAP": 0}


# --- defaults


def test_everything_is_chosen() -> None:
    chosen = defaults.complete(TrainingSettings("detect", device="cpu"), [example([[0, 0, 30, 30]], [0])] * 300)
    for name in (
        "model",
        "weights",
        "freeze",
        "image_size",
        "epochs",
        "batch_size",
        "learning_rate",
        "patience",
        "augment",
    ):
        assert getattr(chosen, name) is not None, name


def test_what_the_user_says_stays() -> None:
    asked = TrainingSettings(
        "detect", model="ssdlite320", weights="scratch", image_size=160, epochs=3, batch_size=2, learning_rate=0.5,
        patience=1, augment=0.0, average=0.5, freeze="backbone", device="cpu",
    )  # fmt: skip
    assert defaults.complete(asked, [example([[0, 0, 30, 30]], [0])]) == asked


def test_small_objects_want_larger_inputs_and_more_images_fewer_epochs() -> None:
    def chosen(side: float, images: int) -> TrainingSettings:
        return defaults.complete(
            TrainingSettings("detect", device="cpu"), [example([[0, 0, side, side]], [0])] * images
        )

    assert (chosen(5, 50).image_size or 0) > (chosen(60, 50).image_size or 0)
    assert (chosen(60, 5000).epochs or 0) < (chosen(60, 50).epochs or 0)


@pytest.mark.parametrize(
    ("sizes", "wanted"),
    [
        ([(480, 640)] * 5, (256, 352)),
        ([(640, 480)] * 5, (352, 256)),
        ([(480, 640), (640, 480)] * 4, (352, 352)),
        ([(100, 2000)] * 5, (256, 640)),
        ([], (256, 256)),
    ],
)
def test_the_input_has_the_shape_of_most_images(sizes: list[tuple[int, int]], wanted: tuple[int, int]) -> None:
    shape = defaults.shape_of([example([], [], size) for size in sizes])
    assert defaults.input_size(TrainingSettings("detect", model="fcos/builtin", image_size=256), shape) == wanted


def test_a_file_of_weights_does_not_go_with_every_model() -> None:
    with pytest.raises(UsageError, match="does not go with"):
        defaults.complete(TrainingSettings("detect", model="ssdlite320", weights="onnx:a.onnx"), [])
    assert defaults.complete(TrainingSettings("detect", weights="onnx:a.onnx"), []).model == "fcos/onnx"


@pytest.mark.parametrize("options", [{"mixup": 1}, {"flips": "sideways"}])
def test_an_option_that_does_not_exist_is_told(options: dict[str, object]) -> None:
    with pytest.raises(UsageError, match=r"mixup|sideways"):
        defaults.complete(TrainingSettings("detect", options=options), [])


# --- export


def queries(seed: int, count: int = 20) -> list[np.ndarray[tuple[int, ...], np.dtype[np.float32]]]:
    random = np.random.default_rng(seed)
    return [
        random.uniform(0, 100, (1, count, 4)).astype(np.float32),
        random.uniform(0, 1, (1, count, 3)).astype(np.float32),
    ]


def test_queries_may_change_places_but_not_become_others() -> None:
    wanted = queries(0)
    mixed = [wanted[0], wanted[1][:, ::-1]]
    turned = [each[:, ::-1] for each in wanted]
    assert difference(turned, wanted) == 0
    assert difference(mixed, wanted) > 1
    assert difference([wanted[0] + 1, wanted[1]], wanted) == pytest.approx(2, rel=0.01)
    assert difference(queries(2), wanted) > 1
    assert math.isnan(difference([wanted[0][:, :5], wanted[1]], wanted))
