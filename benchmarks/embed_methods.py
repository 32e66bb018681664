"""The ways to embed a folder of pictures that `benchmarks.embed` measures, each run in a process of its own.

    python -m benchmarks.embed_methods REQUEST

The request is a JSON object: method, encoder (a spec), folder and cores. The last line printed is one too: how many pictures,
the seconds that they took (of the processor, child processes included, and on the clock) and the largest resident memory.
Imports, loading the encoder and a first batch come before. Every method runs the same encoder, on the same cores; the peers
open pictures with Pillow, as they do by themselves.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from PIL import Image

from benchmarks.usage import cpu_seconds, peak_mb
from curate.dataset.home import cache_folder
from curate.dataset.store import begin
from curate.engine.local import DEFAULT_BATCH, default_threads
from curate.formats.importing import import_source
from curate.imaging import load_pixels
from curate.models.embedding import Embedding
from curate.models.encoders.base import Encoder
from curate.models.encoders.registry import load_encoder
from curate.models.passes import image_items
from curate.models.spaces import update_space

Array = npt.NDArray[Any]
Work = Callable[[], int]
"""What is measured; says how many pictures it embedded."""

DATASET: Final = "bench"


def main() -> None:
    """Answer one request."""
    request = json.loads(sys.argv[1])
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: request["cores"]])
    folder = Path(request["folder"])
    if request["method"] == "import":  # what comes before embedding; not measured
        import_source(DATASET, folder, command="benchmark")
        return
    encoder = load_encoder(request["encoder"])
    paths = sorted(folder.rglob("*.jpg"))
    some = [_prepare(encoder, path) for path in paths[:DEFAULT_BATCH]]
    encoder.encode(some)
    work = METHODS[request["method"]](encoder, paths, some)
    before, began, peak_before = cpu_seconds(), time.perf_counter(), peak_mb()
    images = work()
    measured = {"images": images, "cpu_s": cpu_seconds() - before, "wall_s": time.perf_counter() - began}
    print(json.dumps({**measured, "before_mb": peak_before, "peak_mb": peak_mb()}))


def model_alone(encoder: Encoder, paths: Sequence[Path], some: Sequence[Array]) -> Work:
    """Pictures that are in memory, ready for the model."""

    def work() -> int:
        for batch in _batches(range(len(paths))):
            encoder.encode([some[number % len(some)] for number in batch])
        return len(paths)

    return work


def decoding_alone(encoder: Encoder, paths: Sequence[Path], some: Sequence[Array]) -> Work:
    """From files to what the model takes."""

    def work() -> int:
        with ThreadPoolExecutor(default_threads()) as pool:
            return sum(1 for _ in pool.map(partial(_prepare, encoder), paths))

    return work


def curate(encoder: Encoder, paths: Sequence[Path], some: Sequence[Array], *, most: int | None = None) -> Work:
    """The pass of `curate embed`: from files to a commit; nothing is known by content.

    Args:
        encoder: The encoder.
        paths: Of all pictures.
        some: Not used.
        most: How many of them are embedded; None for all.
    """
    if cache_folder().is_dir():
        for each in cache_folder().iterdir():
            if each.is_dir() and each.name != "exported":
                shutil.rmtree(each)

    def embed(rows: slice) -> int:
        with begin(DATASET, command="benchmark") as transaction:
            images = transaction.base.table("images", columns=["image_id", "path"])
            chosen = image_items(images).take(np.arange(images.num_rows)[rows])
            return update_space(transaction, encoder, "images", chosen).embedded

    embed(slice(1))  # makes the table, and loads what a first commit loads
    return lambda: embed(slice(1, None if most is None else 1 + most))


def torch_loop(encoder: Encoder, paths: Sequence[Path], some: Sequence[Array], *, workers: int) -> Work:
    """A torch DataLoader, a loop over its batches, and a file of vectors."""
    data = import_module("torch.utils.data")
    how: dict[str, Any] = {"multiprocessing_context": "fork"} if workers else {}
    loader = data.DataLoader(_Pictures(encoder, paths), batch_size=DEFAULT_BATCH, num_workers=workers, **how)

    def work() -> int:
        vectors = [encoder.encode(list(batch.numpy())) for batch in loader]
        with tempfile.TemporaryFile() as file:
            np.save(file, np.concatenate(vectors))
        return sum(map(len, vectors))

    return work


def fiftyone(encoder: Encoder, paths: Sequence[Path], some: Sequence[Array]) -> Work:
    """`compute_embeddings` into a field of a dataset, with the model wrapped as FiftyOne asks for it."""
    fo, models, torch = (import_module(name) for name in ("fiftyone", "fiftyone.core.models", "torch"))

    class Wrapped(models.TorchModelMixin, models.EmbeddingsMixin, models.Model):  # type: ignore[misc, name-defined]
        media_type, has_embeddings, preprocess, ragged_batches = "image", True, True, False

        @property
        def transforms(self) -> Callable[[Image.Image], Any]:
            return lambda picture: torch.from_numpy(encoder.prepare(np.asarray(picture)))

        def embed_all(self, args: Any) -> Array:
            return encoder.encode(list(args.numpy()))

    dataset = fo.Dataset(f"{DATASET}-{os.getpid()}")
    dataset.add_samples([fo.Sample(str(path)) for path in paths], progress=False)

    def work() -> int:
        dataset.compute_embeddings(Wrapped(), embeddings_field="vector", batch_size=DEFAULT_BATCH, progress=False)
        return int(dataset.exists("vector").count())

    return work


METHODS: Final[dict[str, Callable[[Encoder, Sequence[Path], Sequence[Array]], Work]]] = {
    "model alone": model_alone,
    "decoding alone": decoding_alone,
    "curate": curate,
    "commit of one": partial(curate, most=1),
    "torch loop": partial(torch_loop, workers=0),
    "torch loop, 2 workers": partial(torch_loop, workers=2),
    "FiftyOne": fiftyone,
}


@dataclass(frozen=True)
class _Pictures:
    """What torch calls a dataset."""

    encoder: Encoder
    paths: Sequence[Path]

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, number: int) -> Array:
        with Image.open(self.paths[number]) as picture:
            return self.encoder.prepare(np.asarray(picture.convert("RGB")))


def _prepare(encoder: Encoder, path: Path) -> Array:
    """As curate's pass does it."""
    return encoder.prepare(load_pixels(path, shortest_side=Embedding(encoder).input_size))


def _batches(numbers: range) -> Iterator[range]:
    return (numbers[start : start + DEFAULT_BATCH] for start in range(0, len(numbers), DEFAULT_BATCH))


if __name__ == "__main__":
    main()
