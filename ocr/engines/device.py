"""Where an engine runs: what was asked for, and what this machine really has.

`device` is an option of every engine: "auto" (the default: the fastest that is really there), "cpu"
or "cuda:N". The PP-OCR engine turns it into a backend and a device, and passes both on:

    backend, device = choose_ppocr(backend, device)  # "openvino", "cpu"; "onnxruntime", "cuda:0"
    OnnxNetworks(detection, recognition, threads=…, device=device, providers=("cuda",), cache_dir=…)

Nothing is imported, and no driver touched, before an engine asks.
"""

from __future__ import annotations

import ctypes
import importlib
import os
import re
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from mlops.exceptions import EngineUnavailable

AUTO = "auto"
CPU = "cpu"
_NAME = re.compile(r"auto|cpu|cuda(:\d+)?")


def parse_device(device: str) -> str:
    """`auto`, `cpu` or `cuda:N` (plain `cuda` is the first). Raises EngineUnavailable for others.

    That it is well formed says nothing about whether the machine has it.
    """
    if not _NAME.fullmatch(device):
        raise EngineUnavailable(f"There is no device '{device}'. Choose auto, cpu or cuda:N.")
    return "cuda:0" if device == "cuda" else device


def cuda_number(device: str) -> int:
    """The N of a parsed `cuda:N`."""
    return int(device.partition(":")[2])


@cache
def cuda_devices() -> int:
    """How many CUDA devices the driver offers this process; 0 without a driver.

    The driver is asked itself, so that no library of 2 GB is loaded to learn that there is none.
    """
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return 0
    count = ctypes.c_int(0)
    if driver.cuInit(0) != 0 or driver.cuDeviceGetCount(ctypes.byref(count)) != 0:
        return 0
    return count.value


@cache
def cpu_flags() -> frozenset[str]:
    """What the processor can do, in Linux's words: avx2, avx512f, amx_bf16, asimd …"""
    try:
        described = Path("/proc/cpuinfo").read_text()
    except OSError:
        return frozenset()
    found = re.search(r"^(?:flags|Features)\s*:(.*)$", described, re.MULTILINE)
    return frozenset(found[1].split()) if found else frozenset()


@cache
def onnxruntime_providers() -> tuple[str, ...]:
    """`tensorrt`, `cuda`, `cpu`: those that the installed onnxruntime is built with.

    Whether their libraries are there shows only when a network is loaded.
    """
    available = importlib.import_module("onnxruntime").get_available_providers()
    names = {
        "TensorrtExecutionProvider": "tensorrt",
        "CUDAExecutionProvider": "cuda",
        "CPUExecutionProvider": "cpu",
    }
    return tuple(names[name] for name in available if name in names)


def choose_ppocr(backend: str, device: str) -> tuple[str, str]:
    """(`openvino` or `onnxruntime`, `cpu` or `cuda:N`) for the PP-OCR engine's options.

    Both on auto: CUDA where the machine and onnxruntime have it, then OpenVINO, then onnxruntime.
    Raises EngineUnavailable for a device that isn't there, or that the backend can't use.
    """
    device = parse_device(device)
    if device.startswith("cuda"):
        if backend == "openvino":
            raise EngineUnavailable(
                "OpenVINO has no CUDA: take backend onnxruntime (or auto), or device cpu."
            )
        require_cuda(device)
        require_onnxruntime_cuda(device)
        return "onnxruntime", device
    if backend == "openvino" or device == CPU:
        return _on_cpu(backend), CPU
    if find_spec("onnxruntime") and cuda_devices() and "cuda" in onnxruntime_providers():
        return "onnxruntime", "cuda:0"
    return _on_cpu(backend), CPU


def choose_torch(device: str) -> str:
    """`cpu` or `cuda:N` for an engine on torch. Raises EngineUnavailable."""
    device = parse_device(device)
    if device == CPU:
        return CPU
    offered = importlib.import_module("torch").cuda.is_available()
    if device == AUTO:
        return "cuda:0" if offered else CPU
    require_cuda(device)
    if not offered:
        raise EngineUnavailable(
            f"Device {device} needs a CUDA build of torch, and a CPU build is installed: "
            "see requirements/README.md, torch."
        )
    return device


def require_cuda(device: str) -> None:
    """Raises EngineUnavailable unless the driver offers the device `cuda:N`."""
    count = cuda_devices()
    if cuda_number(device) < count:
        return
    raise EngineUnavailable(
        f"There is no {device} here: "
        + (f"this process sees {count}, from cuda:0. " if count else "no NVIDIA driver answers. ")
        + "Choose another device, or auto."
    )


def require_onnxruntime_cuda(device: str) -> None:
    """Raises EngineUnavailable unless the installed onnxruntime is built with CUDA."""
    if "cuda" not in onnxruntime_providers():
        raise EngineUnavailable(
            f"Device {device} needs onnxruntime-gpu, which takes the place of onnxruntime: "
            "pip uninstall -y onnxruntime && pip install onnxruntime-gpu"
        )


def describe_machine() -> str:
    """One line for people: cores, vector units, GPUs."""
    flags = cpu_flags()
    wide = ("avx2", "avx512f", "avx512_bf16", "amx_bf16", "amx_int8", "asimd", "bf16")
    units = ", ".join(flag for flag in wide if flag in flags)
    gpus = cuda_devices()
    return f"{len(os.sched_getaffinity(0))} CPU cores{f' ({units})' if units else ''}, " + (
        f"{gpus} CUDA GPU{'s'[: gpus > 1]}" if gpus else "no CUDA GPU"
    )


def _on_cpu(backend: str) -> str:
    if backend != AUTO:
        return backend
    return "openvino" if find_spec("openvino") else "onnxruntime"
