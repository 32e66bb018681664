"""The training of the built-in encoder: rendered pictures, their views, and runs that are killed and go on."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from sklearn.datasets import load_sample_images  # noqa: E402

from benchmarks.pretrain import pictures as made  # noqa: E402
from benchmarks.pretrain.description import Description  # noqa: E402
from benchmarks.pretrain.export import Builtin, fit_projection, to_bytes  # noqa: E402
from benchmarks.pretrain.network import SEMANTIC, STYLE, Network  # noqa: E402
from benchmarks.pretrain.pictures import SIDE, TEXTURE, pictures  # noqa: E402
from benchmarks.pretrain.styles import STYLES  # noqa: E402
from benchmarks.pretrain.things import CATEGORIES, FAMILIES, thing  # noqa: E402
from benchmarks.pretrain.train import Settings, run  # noqa: E402
from benchmarks.pretrain.views import PHOTOMETRY, cut, expose, photometry  # noqa: E402
from curate.errors import UsageError  # noqa: E402
from curate.imaging import resize  # noqa: E402
from curate.models.encoders.registry import load_encoder  # noqa: E402


@pytest.fixture(autouse=True, scope="module")
def _one_thread() -> None:
    torch.set_num_threads(1)


def test_pictures_follow_from_their_numbers() -> None:
    some = pictures(0, [3, 4, 5, 6])
    again = pictures(0, [6, 4])
    np.testing.assert_array_equal(again.pixels, some.pixels[[3, 1]])
    assert some.pixels.shape == (4, SIDE, SIDE, 3)
    other = pictures(1, [3, 4, 5, 6])
    assert (other.pixels != some.pixels).any()
    assert ((some.category >= TEXTURE) & (some.category < CATEGORIES)).all()
    assert ((some.style >= 0) & (some.style < len(STYLES))).all()


def test_every_category_can_be_drawn_and_nothing_leaves_the_numbers() -> None:
    for category in range(CATEGORIES):
        solids, family = thing(category, np.random.default_rng(category), seed=0)
        assert family is FAMILIES[category % len(FAMILIES)]
        for piece in (piece for solid in solids for piece in solid.pieces(np.eye(3))):
            assert np.isfinite(piece.outline).all()
            assert len(piece.outline) >= 3


def test_things_of_a_category_vary_and_those_of_others_differ_more() -> None:
    def sizes(category: int, number: int) -> tuple[int, float]:
        solids, _ = thing(category, np.random.default_rng(number), seed=0)
        outlines = np.concatenate([p.outline for solid in solids for p in solid.pieces(np.eye(3))])
        return len(solids), float(np.divide(*np.ptp(outlines, axis=0)))

    vehicles = [k for k in range(CATEGORIES) if FAMILIES[k % len(FAMILIES)].name == "vehicle"]
    ratios = np.log([[sizes(category, number)[1] for number in range(6)] for category in vehicles])
    assert 0 < ratios.std(axis=1).mean() < ratios.mean(axis=1).std()


def test_pictures_are_not_blank() -> None:
    spread = pictures(0, range(60)).pixels.reshape(60, -1).std(axis=1)
    assert (spread > 2).mean() > 0.95


def test_views_keep_their_range_and_photometry_does_what_it_says() -> None:
    generator = torch.Generator().manual_seed(0)
    pixels = torch.from_numpy(pictures(0, range(8)).pixels)
    images = cut(pixels, 64, generator)
    assert images.shape == (8, 3, 64, 64)
    drawn = torch.zeros(8, len(PHOTOMETRY))
    np.testing.assert_allclose(expose(images, drawn, generator).numpy(), images.numpy(), atol=0.02)
    assert float(expose(images, photometry(8, generator) * 3, generator).min()) >= 0

    def mean_after(name: str, amount: float) -> Any:
        changed = drawn.clone()
        changed[:, PHOTOMETRY.index(name)] = amount
        return expose(images, changed, generator)

    assert float(mean_after("brightness", 1).mean()) > float(images.mean()) > float(mean_after("brightness", -1).mean())
    assert float(mean_after("red", 1)[:, 0].mean()) > float(images[:, 0].mean())
    assert float(mean_after("blur", 2).diff(dim=3).abs().mean()) < float(images.diff(dim=3).abs().mean())
    assert float(mean_after("noise", 2).diff(dim=3).abs().mean()) > float(images.diff(dim=3).abs().mean())


def test_the_description_in_the_graph_is_the_descriptor() -> None:
    photo = np.asarray(load_sample_images().images[0])
    tiles = [resize(photo[y : y + 100, x : x + 100], (32, 32)) for y in (0, 150, 300) for x in range(0, 500, 100)]
    encoder = load_encoder("builtin-v0")
    expected = encoder.encode([encoder.prepare(tile) for tile in tiles])
    with torch.inference_mode():
        given = Description()(torch.from_numpy(np.stack(tiles)).permute(0, 3, 1, 2).float() / 255).numpy()
    assert (expected * given).sum(axis=1).min() > 0.999


@pytest.mark.slow
def test_a_run_that_was_killed_goes_on_as_if_it_had_not_been(tmp_path: Path) -> None:
    tiny = Settings(steps=4, workers=2, batch=6, shard=12, window=2, first=1, uses=2, checkpoint=2, warmup=1)
    run(tmp_path / "whole", tiny)
    run(tmp_path / "broken", tiny, until=2)
    with pytest.raises(UsageError, match="other settings"):
        run(tmp_path / "broken", replace(tiny, seed=1))
    run(tmp_path / "broken", tiny)
    whole, broken = (
        torch.load(tmp_path / name / "checkpoint.pt", weights_only=True)["model"] for name in ("whole", "broken")
    )
    for name, weights in whole.items():
        if "running" not in name and "num_batches" not in name:
            np.testing.assert_allclose(broken[name].numpy(), weights.numpy(), atol=1e-5, err_msg=name)


def test_the_exported_graph_gives_the_numbers_of_the_network(tmp_path: Path) -> None:
    torch.manual_seed(0)
    onnxruntime = pytest.importorskip("onnxruntime")
    model = Builtin(Network().eval()).eval()
    fit_projection(model, pictures(0, range(300)).pixels)
    session = onnxruntime.InferenceSession(to_bytes(model), providers=["CPUExecutionProvider"])
    pixels = pictures(5, range(5)).pixels
    given = session.run(None, {"pixels": pixels})
    with torch.inference_mode():
        expected = model(torch.from_numpy(pixels))
    assert [each.shape[1] for each in given] == [given[0].shape[1], STYLE]
    assert given[0].shape[1] >= SEMANTIC
    for one, other in zip(given, expected, strict=True):
        # Weights of 8 bits; a network that was never trained has no direction that stands out, and loses more by them.
        assert (one * other.numpy()).sum(axis=1).min() > 0.99


def test_a_category_has_a_name_that_a_person_can_read() -> None:
    assert made.category_name(TEXTURE) == "texture"
    assert made.category_name(0).startswith("creature")
    assert json.dumps([made.category_name(k) for k in range(CATEGORIES)]).isascii()
