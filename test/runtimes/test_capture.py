"""CUDA graphs of torch callables, on a stand-in of torch.cuda whose tensors are on the CPU."""
from __future__ import annotations

import contextlib
import threading
import time
from types import SimpleNamespace

import numpy as np
import pytest
import standin
import torch

from hand_pose_ros.runtimes import Options, eager, host, tensorrt
from hand_pose_ros.runtimes.cache import EngineCache, Entry
from hand_pose_ros.runtimes.eager import GraphedCuda


class Cuda:
    """Stands for torch.cuda: a current stream per thread, and a capture that tells how many go on at once."""

    def __init__(self, monkeypatch):
        self.local, self.capturing, self.most, self.fails = threading.local(), 0, 0, False
        for name in ("zeros", "empty"):
            real = getattr(torch, name)
            monkeypatch.setattr(torch, name, lambda *args, device=None, pin_memory=False, real=real, **more:
                                real(*args, **more))
        for name in ("current_stream", "set_stream", "stream", "graph"):
            monkeypatch.setattr(torch.cuda, name, getattr(self, name))
        monkeypatch.setattr(torch.cuda, "Stream", self.new_stream)
        monkeypatch.setattr(torch.cuda, "CUDAGraph", lambda: SimpleNamespace(replay=lambda: None))
        monkeypatch.setattr(torch.cuda, "synchronize", lambda: None)
        self.pools, self.left = iter(range(100)), []        # handed out; ended after a capture that failed
        monkeypatch.setattr(torch.cuda, "graph_pool_handle", lambda: (0, next(self.pools)))
        monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
        monkeypatch.setattr(torch._C, "_cuda_endAllocateToPool", lambda device, pool: self.left.append(pool),
                            raising=False)

    def new_stream(self):
        return SimpleNamespace(synchronize=lambda: None, wait_stream=lambda other: None)

    def current_stream(self):
        return getattr(self.local, "stream", "default")

    def set_stream(self, stream):
        self.local.stream = stream

    @contextlib.contextmanager
    def stream(self, stream):
        before = self.current_stream()
        self.set_stream(stream)
        yield
        self.set_stream(before)

    @contextlib.contextmanager
    def graph(self, graph, pool, stream, capture_error_mode):
        """As in torch 2.11: does not leave the stream where the end of the capture fails."""
        before = self.current_stream()
        self.set_stream(stream)
        self.capturing += 1
        self.most = max(self.most, self.capturing)
        time.sleep(0.02)                                    # long enough for another capture to begin
        yield
        self.capturing -= 1
        if self.fails:
            raise RuntimeError("CUDA error: operation failed due to a previous error during capture")
        self.set_stream(before)


@pytest.fixture
def cuda(monkeypatch):
    return Cuda(monkeypatch)


def graphed() -> GraphedCuda:
    source = standin.source(size=8)
    return GraphedCuda(source, lambda images: images[:, 0, 0].float(), 2, "cuda")


def picture(value: int) -> np.ndarray:
    return np.full((1, 8, 8, 3), value, np.uint8)


def test_a_capture_that_fails_leaves_the_thread_on_its_own_stream_and_the_callable_serves(cuda):
    cuda.fails = True
    runtime = graphed()
    assert runtime(picture(7))[0][0, 0] == 7 and runtime(picture(9))[0][0, 0] == 9
    assert runtime.info["cuda_graphs"].startswith("no: CUDA error: operation failed")
    assert cuda.current_stream() == "default" and cuda.left == [(0, 0)] and len(runtime._failed) == 1


def test_no_two_threads_capture_at_once(cuda):
    threads = [threading.Thread(target=graphed().warm_up) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert cuda.most == 1 and cuda.capturing == 0


def test_no_engine_is_loaded_while_another_thread_captures(cuda, monkeypatch, tmp_path):
    inside, go_on, done = threading.Event(), threading.Event(), []

    class Loads(GraphedCuda):
        def __init__(self, source, options, payload):
            inside.set()
            assert go_on.wait(20)
            super().__init__(source, lambda images: images[:, 0, 0].float(), 1, "tensorrt")

        def keep_kernels(self):
            done.append("opened")

    monkeypatch.setattr(tensorrt, "EngineRuntime", Loads)
    monkeypatch.setattr(host, "gpu_ingredients", dict)
    options = Options(cache=EngineCache(tmp_path))
    opening = threading.Thread(target=tensorrt.open_built, args=(standin.source(size=8), options, Entry("key", b"")))
    opening.start()
    assert inside.wait(20)
    assert not eager.CAPTURING.acquire(blocking=False)
    capturing = threading.Thread(target=lambda: (graphed().warm_up(), done.append("captured")))
    capturing.start()
    capturing.join(0.2)
    assert done == []
    go_on.set()
    opening.join(20), capturing.join(20)
    assert sorted(done) == ["captured", "opened"] and cuda.most == 1
