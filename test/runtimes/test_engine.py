"""The TensorRT engine as a callable, on a stand-in of TensorRT's Python interface that computes on the CPU."""
from __future__ import annotations

import ctypes
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from hand_pose_ros.errors import ModelError
from hand_pose_ros.runtimes import engine, host, tensorrt
from hand_pose_ros.runtimes.base import Refused
from hand_pose_ros.runtimes.engine import Engine

NAMES = ("output1", "images", "output10", "output2", "output0")             # TensorRT promises no order
MAX_BATCH = 4


class Context:
    """Writes N x 2 floats to each output: the number in its name, and the first byte of each image."""

    def __init__(self, config=None):
        self.shape, self.addresses, self.config = None, {}, config

    def set_input_shape(self, name, shape):
        assert name == "images"
        self.shape = shape
        return 1 <= shape[0] <= MAX_BATCH

    def get_tensor_shape(self, name):
        return (self.shape[0], 2)

    def set_tensor_address(self, name, address):
        self.addresses[name] = address

    def execute_async_v3(self, stream):
        count, each = self.shape[0], int(np.prod(self.shape[1:]))
        images = np.frombuffer((ctypes.c_uint8 * (count * each)).from_address(self.addresses["images"]), np.uint8)
        for name in NAMES:
            if name != "images":
                written = np.frombuffer((ctypes.c_float * (2 * count)).from_address(self.addresses[name]), np.float32)
                written.reshape(count, 2)[:] = np.stack([np.full(count, float(name[6:])), images[::each]], 1)
        return images[0] != 255


class Deserialised:
    num_io_tensors = len(NAMES)

    def __init__(self):
        self.contexts = []

    def get_tensor_name(self, index):
        return NAMES[index]

    def get_tensor_mode(self, name):
        return "in" if name == "images" else "out"

    def get_tensor_dtype(self, name):
        return SimpleNamespace(name="UINT8" if name == "images" else "FLOAT")

    def create_execution_context(self, config=None):
        self.contexts.append(Context(config))
        return self.contexts[-1]

    def create_runtime_config(self):
        return SimpleNamespace(dynamic_shapes_kernel_specialization_strategy="lazy", cuda_graph_strategy="disabled")


class Logger:
    """As TensorRT's ILogger: what a subclass overrides is called, here through ``say``."""

    Severity = SimpleNamespace(INTERNAL_ERROR=0, ERROR=1, WARNING=2)

    def __init__(self):
        Logger.say = self.log


def stand_in(validity=None, **more):
    made = Deserialised()
    runtime = SimpleNamespace(deserialize_cuda_engine=lambda payload: made if payload == b"engine" else None)
    if validity:
        runtime.get_engine_validity = lambda payload: validity
    trt = SimpleNamespace(ILogger=Logger, Runtime=lambda logger: runtime,
                          TensorIOMode=SimpleNamespace(INPUT="in", OUTPUT="out"), **more)
    return trt, made


class Kernels:
    """As TensorRT-RTX's runtime cache: refuses what is not its own."""

    def __init__(self):
        self.compiled = b""

    def deserialize(self, blob):
        self.compiled = blob if blob.startswith(b"kernels") else b"half a file"
        return blob.startswith(b"kernels")

    def reset(self):
        self.compiled = b""

    def serialize(self):
        return bytearray(self.compiled)


class RuntimeConfig(SimpleNamespace):
    def create_runtime_cache(self):
        return Kernels()

    def set_runtime_cache(self, cache):
        self.cache = cache


RTX = {"DynamicShapesKernelSpecializationStrategy": SimpleNamespace(EAGER="eager"),
       "CudaGraphStrategy": SimpleNamespace(WHOLE_GRAPH_CAPTURE="whole")}


def pictures(*first: int) -> torch.Tensor:
    made = torch.zeros((len(first), 4, 4, 3), dtype=torch.uint8)
    made[:, 0, 0, 0] = torch.tensor(first, dtype=torch.uint8)
    return made


def test_outputs_come_in_the_order_of_the_network_not_of_the_engine_or_the_alphabet():
    trt, _ = stand_in()
    outputs = Engine(b"engine", trt, "cpu")(pictures(7, 9))
    assert [int(output[0, 0]) for output in outputs] == [0, 1, 2, 10]
    assert outputs[0][:, 1].tolist() == [7, 9]


def test_each_batch_size_keeps_its_own_context_and_buffers():
    trt, made = stand_in()
    call = Engine(b"engine", trt, "cpu")
    one, three = call(pictures(5)), call(pictures(1, 2, 3))
    assert one[0][:, 1].tolist() == [5] and three[0][:, 1].tolist() == [1, 2, 3]      # not overwritten by the other
    assert call(pictures(6))[0].data_ptr() == one[0].data_ptr()                        # a captured graph stays valid
    assert [context.shape[0] for context in made.contexts] == [1, 3]


@pytest.mark.parametrize("validity, severity, message, kind, said", [
    (None, 1, "", Refused, "another GPU or version"),
    (None, 1, "Error Code 6:\nsm_90 is not supported", Refused, "another GPU or version .*sm_90 is not supported"),
    (None, 0, "assertion failed", Refused, "assertion failed"),
    ((SimpleNamespace(name="INVALID"), 32), 2, "only a warning", Refused, r"\(validity INVALID, diagnostics 0x20\)"),
    ((SimpleNamespace(name="VALID"), 0), 1, "Error Code 2: OutOfMemory", ModelError, "does not load .*OutOfMemory"),
])
def test_bytes_that_are_not_loaded_are_refused_with_the_reason_unless_memory_is_short(validity, severity, message, kind,
                                                                                      said):
    trt, _ = stand_in(validity)
    refuse = trt.Runtime(None).deserialize_cuda_engine
    trt.Runtime(None).deserialize_cuda_engine = lambda payload: Logger.say(severity, message) or refuse(payload)
    with pytest.raises(ModelError, match=said) as caught:
        Engine(b"foreign", trt, "cpu")
    assert type(caught.value) is kind and "warning" not in str(caught.value)


SHORT = ("10: Could not find any implementation for node {ForeignNode[a...b]} due to insufficient workspace.",
         "NVML_SUCCESS == r INTERNAL ASSERT FAILED at CUDACachingAllocator.cpp:1131",
         "Requested amount of GPU memory (1073741824 bytes) could not be allocated.", "CUBLAS_STATUS_ALLOC_FAILED",
         "CUDA initialization failure with error: 2", "Error Code 1: Cuda Runtime (unknown error)")
"""What a Jetson says where memory is short."""


@pytest.mark.parametrize("jetson, kind", [(True, ModelError), (False, Refused)])
def test_no_kernel_for_an_operation_may_be_want_of_memory_on_a_jetson(monkeypatch, jetson, kind):
    monkeypatch.setattr(engine.host, "on_jetson", lambda: jetson)
    assert engine.kind_of("10: Could not find any implementation for node {ForeignNode[a...b]}.") is kind


@pytest.mark.parametrize("message, kind, said", [("", ModelError, "no execution context .out of memory"),
                                                 ("Error Code 2: OutOfMemory", ModelError, "context .*OutOfMemory"),
                                                 ("no kernel image for sm_90", Refused, "context .no kernel image"),
                                                 *((said, ModelError, "no execution context") for said in SHORT)])
@pytest.mark.parametrize("more", [{}, RTX])
def test_without_an_execution_context_the_reason_is_named(more, message, kind, said):
    trt, made = stand_in(**more)
    call = Engine(b"engine", trt, "cpu")
    made.create_execution_context = lambda *args: Logger.say(1, message) if message else None
    with pytest.raises(ModelError, match=said) as caught:
        call(pictures(5))
    assert type(caught.value) is kind


def test_what_tensorrt_does_not_run_is_an_error_not_old_output():
    call = Engine(b"engine", stand_in()[0], "cpu")
    with pytest.raises(RuntimeError, match="does not take"):
        call(pictures(*range(MAX_BATCH + 1)))
    with pytest.raises(ModelError, match="did not run .*it does not say why"):
        call(pictures(255))
    Logger.say(1, "no kernel image for sm_90")
    with pytest.raises(Refused, match="did not run .*no kernel image"):
        call(pictures(255))


@pytest.mark.parametrize("capturable, strategy", [(True, "disabled"), (False, "whole")])
def test_rtx_compiles_at_once_and_replays_itself_where_it_cannot_be_captured(monkeypatch, capturable, strategy):
    monkeypatch.setattr(Context, "is_stream_capturable", lambda self, stream: capturable, raising=False)
    trt, made = stand_in(**RTX)
    call = Engine(b"engine", trt, "cpu")
    call(pictures(5))
    config = made.contexts[-1].config
    assert config.dynamic_shapes_kernel_specialization_strategy == "eager" and config.cuda_graph_strategy == strategy
    monkeypatch.setattr(engine, "_capturing", lambda: True)
    if capturable:
        call(pictures(5))
    else:
        with pytest.raises(RuntimeError, match="graph of its own"):
            call(pictures(5))


@pytest.mark.parametrize("given, kept", [(b"", b""), (b"kernels of an earlier start", b"kernels of an earlier start"),
                                         (b"damaged", b"")])
def test_rtx_compiles_kernels_once_for_all_batch_sizes_and_starts(monkeypatch, given, kept):
    monkeypatch.setattr(Deserialised, "create_runtime_config", lambda self: RuntimeConfig())
    trt, made = stand_in(**RTX)
    call = Engine(b"engine", trt, "cpu", given)
    call(pictures(5)), call(pictures(1, 2))
    caches = [context.config.cache for context in made.contexts]
    assert len(caches) == 2 and caches[0] is caches[1] and caches[0].compiled == kept
    assert call.kernels() == b"", "nothing was compiled that was not given"
    compiled = b"kernels" if given == b"damaged" else b"kernels, more of them than before"       # of the same length
    caches[0].compiled = compiled
    assert call.kernels() == compiled


def test_bindings_without_a_cache_of_kernels_keep_none():
    for more in ({}, RTX):
        call = Engine(b"engine", stand_in(**more)[0], "cpu")
        call(pictures(5))
        assert call.kernels() == b""


@pytest.mark.parametrize("flavour, name", [("torch-tensorrt", "tensorrt"), ("torch-tensorrt-rtx", "tensorrt_rtx")])
def test_the_module_is_that_of_the_flavour_which_builds(monkeypatch, flavour, name):
    monkeypatch.setattr(host, "version", lambda package: "2.13.0" if package == flavour else "")
    monkeypatch.setitem(sys.modules, name, SimpleNamespace(name=name))
    assert engine.import_tensorrt().name == name
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ModelError, match=f"{name} does not load .*; install the version"):
        engine.import_tensorrt()


def test_only_arguments_that_this_version_takes_are_given():
    def version_2_14(program, *, min_block_size=5):
        """Stands for a version that dropped most options."""

    assert tensorrt.supported_arguments(version_2_14, tensorrt.COMPILE_OPTIONS) == {"min_block_size": 1}
