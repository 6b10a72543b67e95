"""Operation count and memory traffic of a network, and the time they imply on a GPU by its published peak figures.

An estimate, for machines that are not at hand: a roofline (Williams, Waterman, Patterson, CACM 2009). Every
convolution and matrix product takes the longer of its arithmetic at peak rate and its traffic at peak bandwidth;
everything between them counts as fused into them, weights as read once per call. No network reaches its roofline.
"""
from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from .source import NetworkSource

PEAKS = {
    "Orin Nano 8GB": (10.0, 68.0),
    "Orin Nano 8GB Super": (16.7, 102.0),
    "AGX Orin 64GB": (42.5, 204.8),
}
"""Dense FP16 TFLOP/s of the GPU's tensor cores and GB/s of memory. NVIDIA publishes sparse INT8 TOPS (Jetson Orin Nano
40 and 67, AGX Orin's GPU 170): a quarter of that is dense FP16."""

FP16_BYTES = 2
SHARE_OF_ROOFLINE = 0.25
"""Share of the roofline that small networks are assumed to reach at batch 1; says nothing about a given network."""


@dataclass(frozen=True)
class Operation:
    """One convolution or matrix product at batch 1."""

    name: str
    macs: int                                        # multiply-accumulates
    activations: int                                 # values read and written
    weights: int                                     # values


def operations(source: NetworkSource) -> list[Operation]:
    """Every convolution and matrix product that one image needs, in order. Runs the network once on the CPU."""
    import torch
    from torch.utils._python_dispatch import TorchDispatchMode

    found: list[Operation] = []
    aten = torch.ops.aten

    class Count(TorchDispatchMode):
        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            output = function(*args, **(kwargs or {}))
            packet = function.overloadpacket
            if packet in (aten.convolution, aten._convolution, aten.mkldnn_convolution):
                image, weight = args[0], args[1]
                macs = output.numel() * weight[0].numel()
                found.append(Operation("convolution", macs, image.numel() + output.numel(), weight.numel()))
            elif packet in (aten.mm, aten.addmm, aten.bmm, aten.baddbmm):
                left, right = args[-2:] if packet in (aten.mm, aten.bmm) else args[1:3]
                held = right.numel() if packet in (aten.mm, aten.addmm) else 0
                moved = left.numel() + output.numel() + (right.numel() - held)
                found.append(Operation("product", output.numel() * left.shape[-1], moved, held))
            return output

    module = source.module().eval()
    with torch.no_grad(), Count():
        module(torch.zeros((1, *source.input_shape), dtype=torch.uint8))
    return found


def implied_milliseconds(counted: list[Operation], tera_flops: float, giga_bytes: float, batch: int = 1) -> float:
    """Roofline time of one call in FP16: at least this long at the given peaks."""
    seconds = 0.0
    for one in counted:
        arithmetic = 2 * one.macs * batch / (tera_flops * 1e12)
        traffic = (one.activations * batch + one.weights) * FP16_BYTES / (giga_bytes * 1e9)
        seconds += max(arithmetic, traffic)
    return seconds * 1e3


def estimate_lines(sources: list[NetworkSource], batches: tuple[int, ...] = (1, 2, 4)) -> list[str]:
    """A Markdown table of counts and implied times, with the words that say what they are."""
    heads = [f"{name}, batch {'/'.join(map(str, batches))}" for name in PEAKS]
    lines = ["| network | input | GMAC | weights, MB | activations, MB | " + " | ".join(heads) + " |",
             "|---" * (5 + len(heads)) + "|"]
    for source in sources:
        counted = operations(source)
        height, width, _ = source.input_shape
        cells = [Path(source.model).name, f"{width} x {height}", f"{sum(one.macs for one in counted) / 1e9:.2f}",
                 f"{sum(one.weights for one in counted) * FP16_BYTES / 1e6:.1f}",
                 f"{sum(one.activations for one in counted) * FP16_BYTES / 1e6:.1f}"]
        limits = sorted({min(batch, source.batch_limit(max(batches))) for batch in batches})
        for tera_flops, giga_bytes in PEAKS.values():
            floors = [implied_milliseconds(counted, tera_flops, giga_bytes, batch) for batch in limits]
            cells.append(" / ".join(f"{floor:.2f} to {floor / SHARE_OF_ROOFLINE:.1f}" for floor in floors) + " ms")
        lines.append("| " + " | ".join(cells) + " |")
    lines.append("")
    lines.append("Estimates, not measurements: the first figure is the roofline in FP16 at published peaks (no network "
                 f"is faster), the second assumes {SHARE_OF_ROOFLINE:.0%} of it. Nothing of this ran on a Jetson.")
    return lines
