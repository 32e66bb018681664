"""How long models take: CPU time of one thread, one image at a time, all of them in turn.

Each round runs every model once, so that whatever else the machine does falls on all of them alike.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from curate.models.runtime import Runtime, open_graph

_WARM_UP: Final = 3
_ROUNDS: Final = 15
_SECONDS: Final = 0.02
"""Of CPU that a model gets in a round at least: clocks of processes are not fine."""


def latencies(
    models: Mapping[str, Path], image: npt.NDArray[Any], *, runtime: Runtime = "onnxruntime", rounds: int = _ROUNDS
) -> dict[str, float]:
    """Median CPU seconds of one image.

    Args:
        models: ONNX files by name.
        image: Input of one row, which all of them take.
        runtime: What runs them.
        rounds: How many times each is measured.

    Raises:
        InputError: A file cannot be run.
    """
    graphs = {name: open_graph(path, runtime=runtime, threads=1) for name, path in models.items()}

    def run(name: str, times: int) -> float:
        graph = graphs[name]
        feed, outputs = {graph.inputs[0].name: image}, [port.name for port in graph.outputs]
        start = time.process_time()
        for _ in range(times):
            graph.call(feed, outputs)
        return (time.process_time() - start) / times

    first = {name: max(run(name, _WARM_UP), 1e-6) for name in graphs}
    times = {name: max(1, round(_SECONDS / seconds)) for name, seconds in first.items()}
    found: dict[str, list[float]] = {name: [] for name in graphs}
    for _ in range(rounds):
        for name in graphs:
            found[name].append(run(name, times[name]))
    return {name: float(np.median(seconds)) for name, seconds in found.items()}
