"""Which targets there are; a third party adds its own by an entry point in the group `curate.targets`."""

from __future__ import annotations

from typing import Final

from curate.edge.package.targets.base import Write
from curate.registry import Registry

TARGETS: Final[Registry[Write]] = Registry(
    "target",
    {
        "onnx": "curate.edge.package.targets.onnx:write",
        "openvino": "curate.edge.package.targets.openvino:write",
        "tflite": "curate.edge.package.targets.tflite:write",
        "tensorrt": "curate.edge.package.targets.tensorrt:write",
    },
)
