"""What a model may come to on a device that is not here: an estimate on paper, never a measurement.

The roofline (Williams et al., 2009) says how fast a processor could be at best: for each layer, operations over its peak or bytes
over its bandwidth, whichever takes longer. Nothing reaches it; which part of it is reached is taken from what others have
measured on the device and published, and an estimate is as wide as that.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from curate.edge.bench.operations import Layer, Work


@dataclass(frozen=True)
class Device:
    """A processor, by the figures that its maker gives.

    Attributes:
        name: Its own.
        float_peak: Floating-point operations a second that it could do at best; 0 where it has none.
        int8_peak: The same on 8-bit integers.
        bandwidth: Bytes a second to and from memory; for an accelerator on a bus, over that bus.
        cache: Bytes that it keeps near: a layer's input and output, and the weights, are not moved as long as they fit in.
        on_chip: Whether what lies between layers never leaves the chip, and what goes in and out has 8 bits.
        half: Whether what is float in the model has 16 bits there.
        reached: The least and the greatest part of the roofline that others reached.
        reached_with: What they reached it with.
        sources: Where these figures are from.
    """

    name: str
    float_peak: float
    int8_peak: float
    bandwidth: float
    cache: int
    on_chip: bool
    half: bool
    reached: tuple[float, float]
    reached_with: str
    sources: tuple[str, ...]

    def roofline(self, work: Work) -> float | None:
        """Seconds for one image at best; None if it cannot run."""
        if work.float_ops and not self.float_peak:
            return None
        stays = work.weights <= self.cache
        layers = sum(self._layer(each, stays and not self.on_chip) for each in work.layers)
        if not self.on_chip:
            return layers
        return max(layers, (max(work.weights - self.cache, 0) + work.transfer) / self.bandwidth)

    def _layer(self, layer: Layer, stays: bool) -> float:
        """Seconds for one layer at best."""
        compute = layer.ops / (self.int8_peak if layer.integer else self.float_peak)
        if self.on_chip:
            return compute
        moved = (0 if stays else layer.weights) + (layer.activations if layer.activations > self.cache else 0)
        return max(compute, moved * (0.5 if self.half and not layer.integer else 1.0) / self.bandwidth)


DEVICES: Final = (
    Device(
        "Raspberry Pi 5",
        float_peak=4 * 2.4e9 * 16,  # cores, clock, two 128-bit units of four multiply-and-adds
        int8_peak=4 * 2.4e9 * 64,  # the same units, sixteen with SDOT
        bandwidth=4267e6 * 4,
        cache=2 << 20,
        on_chip=False,
        half=False,
        # onnxruntime, float: YOLOX-Nano (1.08e9 operations) 21.3 a second, YOLOX-X (281.9e9) 0.3 a second.
        reached=(1.08e9 * 21.3 / 153.6e9, 281.9e9 * 0.3 / 153.6e9),
        reached_with="float models by onnxruntime",
        sources=(
            "Raspberry Pi 5 product brief: four Cortex-A76 at 2.4 GHz, 2 MB of shared cache, 32 bits of LPDDR4X-4267",
            "Arm Cortex-A76 Software Optimization Guide: two 128-bit FMLA or SDOT a cycle",
            "reached: onnxruntime on float models, visionanalysis.org/articles/ncnn-fp32-vs-onnx-fp32-rpi5",
        ),
    ),
    Device(
        "Jetson Orin Nano 8GB",
        float_peak=10e12,  # FP16, which TensorRT uses for float models: half of the 8-bit figure
        int8_peak=20e12,
        bandwidth=68e9,
        cache=2 << 20,
        on_chip=False,
        half=True,
        # YOLOv8n at 640 pixels, 8.7e9 operations, in 3.49 ms where 33e12 a second can be had; half and twice of that.
        reached=(0.5 * 8.7e9 / 33e12 / 3.49e-3, 2 * 8.7e9 / 33e12 / 3.49e-3),
        reached_with="an 8-bit detector by TensorRT, give or take a factor of two",
        sources=(
            "NVIDIA Jetson Orin Nano Series data sheet: 20 dense INT8 TOPS at 625 MHz, 128-bit LPDDR5 at 68 GB/s",
            "reached: YOLOv8n INT8 by TensorRT at Super clocks, hokwangchoi.com/blog/vision-benchmarks",
        ),
    ),
    Device(
        "Coral USB Accelerator",
        float_peak=0.0,
        int8_peak=4e12,
        bandwidth=0.3e9,
        cache=8 << 20,
        on_chip=True,
        half=False,
        # MobileNet v2 at 224 pixels, almost 400 a second; by the roofline 151e3 bytes go in and out. Half and twice of that.
        reached=(0.5 * 151e3 / 0.3e9 * 400, 2 * 151e3 / 0.3e9 * 400),
        reached_with="MobileNet v2, give or take a factor of two",
        sources=(
            "Coral Accelerator Module datasheet 1.4: 4 TOPS on 8-bit integers",
            "Edge TPU compiler documentation: about 8 MB of SRAM, which keeps weights; USB 3.0 at some 0.3 GB/s in practice",
            "reached: MobileNet v2 at almost 400 frames a second, in the same datasheet",
        ),
    ),
)


@dataclass(frozen=True)
class Estimate:
    """What the inference of one image may take on a device; seconds, None where the model cannot run there.

    Attributes:
        device: Which.
        at_best: What the roofline says.
        low: With as much of it reached as others have at their best.
        high: As they have at their worst.
        note: What this rests on.
    """

    device: Device
    at_best: float | None
    low: float | None
    high: float | None
    note: str

    def to_json(self) -> dict[str, Any]:
        """JSON-ready values; times in milliseconds."""
        times = {"at_best_ms": self.at_best, "low_ms": self.low, "high_ms": self.high}
        return {
            "device": self.device.name,
            "kind": "estimate",
            **{name: None if value is None else 1e3 * value for name, value in times.items()},
            "note": self.note,
            "sources": list(self.device.sources),
        }


def estimate(device: Device, work: Work) -> Estimate:
    """What the inference of one image may take on a device that was never near."""
    at_best = device.roofline(work)
    if at_best is None:
        return Estimate(device, None, None, None, "runs 8-bit models only: compress the model, every layer of it")
    least, most = device.reached
    note = f"others reached {100 * least:.0f}% to {100 * most:.0f}% of the roofline with {device.reached_with}"
    return Estimate(device, at_best, at_best / most, at_best / least, note)
