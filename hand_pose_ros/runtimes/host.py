"""What this machine has: versions of the parts that a built network depends on, and why a GPU cannot be used.

Nothing here imports torch or TensorRT: a robot without a GPU starts through ONNX Runtime without loading either.
"""
from __future__ import annotations

import ctypes
import functools
import os
import platform
import re
from importlib import metadata
from pathlib import Path

TENSORRT_PACKAGES = ("torch-tensorrt", "torch-tensorrt-rtx", "tensorrt", "tensorrt-rtx")


def version(package: str) -> str:
    """Installed version of a Python package, "" if it is not installed."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return ""


@functools.lru_cache(maxsize=None)
def driver_problem() -> str:
    """Why the CUDA driver shows no GPU, "" if it shows one. Asks the driver library itself, without a CUDA context."""
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return "no NVIDIA driver (libcuda.so.1 not found)"
    code = driver.cuInit(0)
    if code:
        return f"the NVIDIA driver does not start (cuInit returned {code}): install one that fits the GPU and restart"
    count = ctypes.c_int(0)
    code = driver.cuDeviceGetCount(ctypes.byref(count))
    if code or count.value == 0:
        return "the NVIDIA driver shows no GPU (CUDA_VISIBLE_DEVICES empty?)"
    return ""


def on_jetson() -> bool:
    """Whether this is a Jetson, whose GPU has the system's memory."""
    return Path("/etc/nv_tegra_release").is_file()


def processor_flags() -> frozenset[str]:
    """Instruction sets of the processor as Linux names them; empty where it does not say."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return frozenset()
    named = [line.partition(":") for line in lines if line.startswith(("flags", "Features"))]
    return frozenset(named[0][2].split()) if named else frozenset()


def default_threads() -> int:
    """Threads of one call if none are asked for: the cores this process may use, at most 4 and at most OMP_NUM_THREADS,
    by which several processes on one machine share its cores."""
    cores, shared = min(4, len(os.sched_getaffinity(0))), os.environ.get("OMP_NUM_THREADS", "")
    return min(cores, int(shared)) if shared.isdigit() and int(shared) else cores


def torch_problem() -> str:
    """Why torch cannot be used at all, "" if it is installed."""
    return "" if version("torch") else "torch is not installed (pip install torch)"


@functools.lru_cache(maxsize=None)
def cuda_problem() -> str:
    """Why torch cannot compute on a GPU here, "" if it can. Imports torch only when driver and build both allow it."""
    problem = torch_problem() or driver_problem()
    if problem:
        return problem
    if version("torch").endswith("+cpu"):
        return f"torch {version('torch')} is a build without CUDA (install the CUDA build of torch)"
    try:
        import torch
        usable = torch.cuda.is_available()
    except Exception as error:                       # a library is missing, or of another version: various types
        return (f"torch {version('torch')} does not load ({type(error).__name__}: {error}): install what it lacks, see "
                "docs/jetson.md")
    if not torch.version.cuda:
        return f"torch {torch.__version__} is a build without CUDA (install the CUDA build of torch)"
    if not usable:
        return f"torch {torch.__version__} with CUDA {torch.version.cuda} cannot use this GPU (driver too old?)"
    try:                                             # is_available() says nothing of kernels for this GPU
        (torch.ones(1, device="cuda").half() + 1).item()
    except Exception as error:
        said = " ".join(str(error).split())[:200]
        return (f"torch {torch.__version__} computes nothing on this GPU ({said}): free its memory, or install a build "
                "that has kernels for it, see docs/jetson.md")
    return ""


def driver_version() -> str:
    """NVIDIA kernel driver version, or the L4T release on a Jetson; where the kernel tells neither (WSL2, gVisor) what
    NVML says, or the newest CUDA that the driver knows; "" if nothing is found."""
    for path in ("/proc/driver/nvidia/version", "/etc/nv_tegra_release"):
        try:
            text = Path(path).read_text()
        except OSError:
            continue
        match = re.search(r"Module\s+(?:for \S+\s+)?(\d[\d.]+)", text)
        return match.group(1) if match else " ".join(text.split())[:80]
    return _nvml_driver_version() or _driver_cuda()


def _nvml_driver_version() -> str:
    try:
        nvml = ctypes.CDLL("libnvidia-ml.so.1")
    except OSError:
        return ""
    text = ctypes.create_string_buffer(96)
    if nvml.nvmlInit_v2():
        return ""
    try:
        return text.value.decode() if nvml.nvmlSystemGetDriverVersion(text, len(text)) == 0 else ""
    finally:
        nvml.nvmlShutdown()


def _driver_cuda() -> str:
    try:
        driver, number = ctypes.CDLL("libcuda.so.1"), ctypes.c_int(0)
    except OSError:
        return ""
    return f"CUDA {number.value}" if driver.cuDriverGetVersion(ctypes.byref(number)) == 0 else ""


def gpu_ingredients() -> dict[str, str]:
    """Cache-key ingredients of the GPU and everything between it and the engine. Needs a usable torch with CUDA."""
    import torch
    properties = torch.cuda.get_device_properties(torch.cuda.current_device())
    return {
        "gpu": properties.name,
        "compute_capability": f"{properties.major}.{properties.minor}",
        "cuda": str(torch.version.cuda),
        "driver": driver_version(),
        **{package: version(package) for package in TENSORRT_PACKAGES},
    }


def cpu_ingredients() -> dict[str, str]:
    """Cache-key ingredients of a network built for this processor."""
    return {"machine": platform.machine(), "cpu": cpu_name(), "onnx": version("onnx"),
            "onnxscript": version("onnxscript"), "onnxruntime": version("onnxruntime") or version("onnxruntime-gpu")}


@functools.lru_cache(maxsize=None)
def cpu_name() -> str:
    """Processor name as the kernel reports it; the machine type where it reports none."""
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:
        return platform.processor() or platform.machine()
    match = re.search(r"^(?:model name|Model)\s*:\s*(.+)$", text, re.M)
    return match.group(1).strip() if match else platform.machine()
