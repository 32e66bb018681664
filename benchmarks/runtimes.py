"""How fast an encoder's network runs: torch, and what curate exports it to under each runtime that is installed.

    python -m benchmarks.runtimes [--networks NAME ...] [--images N] [--repeats N] [--json FILE]

Networks have random weights, which run as fast as trained ones: 'clip:NAME' is the image side of an open_clip model, 'timm:NAME'
a network of timm. One thread, seconds of CPU, batches in turn, the fastest of the repeats. Cosine: the least between a vector
and torch's.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final
from unittest.mock import patch

import numpy as np
import numpy.typing as npt

from benchmarks.report import Report, markdown, options, run
from curate.dataset.home import HOME_VARIABLE
from curate.errors import CurateError
from curate.models.encoders.base import Vectors
from curate.models.encoders.exported import Network, load_exported
from curate.models.runtime import RUNTIME_VARIABLE, Precision

Images = npt.NDArray[np.uint8]
Encode = Callable[[Images], Vectors]

NETWORKS: Final = ("clip:ViT-B-32", "timm:mobilenetv4_conv_small")
RUNTIMES: Final[tuple[tuple[str, Precision], ...]] = (
    ("onnxruntime", "f32"),
    ("openvino", "f32"),
    ("openvino", "bf16"),
)


def measure(arguments: argparse.Namespace) -> Report:
    """Run every network under every runtime."""
    os.environ["OMP_NUM_THREADS"] = "1"
    results: list[dict[str, Any]] = []
    notes: list[str] = []
    for name in arguments.networks:
        results += measure_network(name, arguments.images, arguments.repeats, notes)
    rows = [
        [row["network"], row["runtime"], f"{row['per_s']:.1f}", f"{row['ratio']:.2f}", f"{row['cosine']:.5f}"]
        for row in results
    ]
    table = markdown(["network", "runtime", "images/CPU s", "to torch", "cosine"], rows)
    return Report({"images": arguments.images, "repeats": arguments.repeats}, results, table, notes)


def measure_network(name: str, images: int, repeats: int, notes: list[str]) -> list[dict[str, Any]]:
    """One row for each runtime, the first of which is torch."""
    network = build(name)
    pixels = np.random.default_rng(0).integers(0, 256, (images, *network.size, 3), dtype=np.uint8)
    methods: dict[str, Encode] = {"torch float32": with_torch(network)}
    with empty_home():
        for runtime, precision in RUNTIMES:
            os.environ[RUNTIME_VARIABLE] = runtime
            try:
                encoder = load_exported(name, name, lambda: network, precision)
            except CurateError as error:
                notes.append(f"{name} under {runtime} in {precision} is left out: {error.what}")
                continue
            methods[f"{runtime} {precision}"] = lambda pixels, encoder=encoder: encoder.encode(list(pixels))  # type: ignore[misc]
        vectors = {method: encode(pixels) for method, encode in methods.items()}
        seconds = dict.fromkeys(methods, float("inf"))
        for _ in range(repeats):
            for method, encode in methods.items():
                began = time.process_time()
                encode(pixels)
                seconds[method] = min(seconds[method], time.process_time() - began)
    expected, slowest = vectors["torch float32"], seconds["torch float32"]
    return [
        {
            "network": name,
            "runtime": method,
            "per_s": images / seconds[method],
            "ratio": slowest / seconds[method],
            "cosine": float((vectors[method] * expected).sum(axis=1).min()),
        }
        for method in methods
    ]


def build(name: str) -> Network:
    """A network with random weights."""
    import torch

    torch.manual_seed(0)
    kind, _, model_name = name.partition(":")
    if kind == "clip":
        import open_clip

        model = open_clip.create_model(model_name, load_weights=False)
        config = open_clip.get_model_preprocess_cfg(model)
        image, (height, width) = model.visual, config["size"]
    else:
        import timm

        image = timm.create_model(model_name, pretrained=False, num_classes=0)
        config = timm.data.resolve_model_data_config(image)
        _, height, width = config["input_size"]
    return Network(image.eval(), (height, width), config["mean"], config["std"], text=None)


def with_torch(network: Network) -> Encode:
    """The network as torch runs it."""
    import torch

    torch.set_num_threads(1)
    shape = (1, 3, 1, 1)
    mean = 255 * torch.tensor(network.mean).reshape(shape)
    std = 255 * torch.tensor(network.std).reshape(shape)

    def encode(pixels: Images) -> Vectors:
        with torch.inference_mode():
            images = (torch.from_numpy(pixels).permute(0, 3, 1, 2).float() - mean) / std
            return np.asarray(torch.nn.functional.normalize(network.image(images)).numpy())

    return encode


@contextmanager
def empty_home() -> Iterator[None]:
    """A folder of its own for what is exported, and the variables as they were afterwards."""
    with tempfile.TemporaryDirectory() as folder, patch.dict(os.environ, {HOME_VARIABLE: folder}):
        yield


if __name__ == "__main__":
    parser = options(__doc__)
    parser.add_argument("--networks", nargs="+", default=list(NETWORKS), metavar="NAME", help="clip:NAME or timm:NAME")
    parser.add_argument("--images", type=int, default=16, help="in a batch (default 16)")
    parser.add_argument("--repeats", type=int, default=5, help="of which the fastest counts (default 5)")
    run(measure, parser)
