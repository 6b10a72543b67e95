"""The training loop: one process per GPU under torchrun, one process on a CPU; can be cut off and goes on exactly."""
from __future__ import annotations

import copy
import gc
import json
import logging
import math
import re
import time
from datetime import timedelta
from pathlib import Path

import torch
import torch.distributed as distributed

from hand_pose_ros import limits, networks
from hand_pose_ros.errors import ConfigError, DataError, ModelError
from hand_pose_ros.runtimes import host
from hand_pose_ros.training import batches, checkpoint, frozen, measure, optimizers
from hand_pose_ros.training.losses import LOSSES
from hand_pose_ros.training.settings import Settings

_log = logging.getLogger(__name__)

CHECKPOINT = "last.pt"
CHECKPOINT_S = 180.0
CHECK_STEPS = {"cuda": 10}
"""Steps, by kind of device, before their losses are looked at: a GPU would stand still at each look. Else 1."""
MEASURING = timedelta(hours=6)
"""For so long the other processes wait for the first, which measures alone; by itself NCCL gives up after 10 minutes.
"""
LOG_BATCHES = 50
MAX_ROLLBACKS = 5
LEAST_SHARED = 0.5
"""Of a backbone's kernels, that weights to start from must fit; of another backbone a few do, by chance."""
STATE = {"settings", "network", "average", "optimizers", "step", "images", "seconds", "shelf", "torch_rng"}
"""What every checkpoint holds."""


def is_begun(folder: str | Path) -> bool:
    """Whether ``folder`` holds a checkpoint, the last or the one before it, that a training there goes on from."""
    return checkpoint.exists(Path(folder) / CHECKPOINT)


def start_from(network: torch.nn.Module, weights: dict) -> set[str]:
    """Copy the weights that have the same name and shape, as a detector's backbone has those of a pose network.

    Returns the names of the tensors that were copied. Raises ModelError if fewer than LEAST_SHARED of the backbone's
    kernels fit: the card would name an origin that the weights do not have.
    """
    own = network.state_dict()
    same = {name: value for name, value in weights.items() if name in own and own[name].shape == value.shape}
    kernels = [name for name, value in own.items() if name.startswith("backbone.") and value.ndim > 1]
    fitting = sum(name in same for name in kernels)
    if fitting < LEAST_SHARED * len(kernels):
        raise ModelError(f"{fitting} of the {len(kernels)} kernels of the backbone fit the weights to start from: give "
                         "a model with the same backbone")
    network.load_state_dict({**own, **same})
    _log.info("%d of %d tensors start from given weights", len(same), len(own))
    return set(same)


def prepare(settings: Settings, initial: dict | None, begun: bool, device: torch.device | str = "cpu"):
    """(network, its optimizers) as a training begins with them, on the device. initial: weights to start from, if any;
    begun: a checkpoint replaces them all. Raises ConfigError or ModelError for settings and weights that do not fit."""
    network = networks.build({"architecture": settings.architecture, "options": settings.options})
    if initial is not None:
        lacking = frozen.statistics_of(network, settings.frozen) - start_from(network, initial)
        if lacking:
            raise ConfigError(f"the weights to start from have no {min(lacking)}, which frozen keeps as it is "
                              f"({len(lacking)} tensors in all): it would stay random; give weights of this backbone, "
                              "or freeze nothing")
    elif settings.frozen and not begun:
        raise ConfigError("frozen keeps weights that are there to begin with: set initial, or give --from-model")
    network = network.to(device, memory_format=torch.channels_last)
    frozen.freeze(network, settings.frozen)
    return network, optimizers.build(network, settings.optimizer, settings.learning_rate, settings.weight_decay)


def not_finite(state: dict) -> str | None:
    """The name of a weight or moment in a checkpoint that is not finite, None if all are."""
    moments = {f"{key} of {number}": value for part in state["optimizers"] for number, values in part["state"].items()
               for key, value in values.items()}
    for part, tensors in (("network", state["network"]), ("average", state["average"]), ("optimizer", moments)):
        for name, value in tensors.items():
            if torch.is_tensor(value) and value.is_floating_point() and not torch.isfinite(value).all():
                return f"{name} of its {part}"
    return None


class Trainer:
    """State of one training in ``folder``: last.pt (and last.pt.old), log.jsonl. Make it, ``resume()``, ``run()``."""

    def __init__(self, settings: Settings, shard_folder: str, folder: str | Path, *, minutes: float | None = None,
                 workers: int = 1, pieces: bool = False, held_out: int = 512, photographs: measure.Photographs = None,
                 measure_s: float = 300.0, initial: dict | None = None):
        self.settings, self.folder, self.minutes = settings, Path(folder), minutes
        self.workers, self.pieces, self.measure_s = workers, pieces, measure_s
        self.rank, self.world = _join()
        self.records = True                             # log.jsonl gets a line of each measurement
        self.device = torch.device("cuda", limits.from_environment("LOCAL_RANK", 0)) if torch.cuda.is_available() \
            else torch.device("cpu")
        torch.manual_seed(settings.seed)
        self.network, self.optimizer = prepare(settings, initial, is_begun(folder), self.device)
        self.average = copy.deepcopy(self.network).requires_grad_(False)
        self.step, self.images, self.seconds, self.rollbacks = 0, 0, 0.0, 0
        self.kept = 0                                   # the step of the last checkpoint
        self.looked = 0                                 # the step up to which losses have been looked at
        self.sound = True                               # whether the checkpoint there, if any, can be read
        self.signals = []                               # those that ask to write a checkpoint and end
        self.before = {}                                # "training" and "curve" of the card of the initial weights
        self.shelf = batches.Shelf(shard_folder)
        self.photographs, self.held_out_count, self.held_out = photographs, held_out, None

    @property
    def progress(self) -> float:
        """Share of the plan that is done, 0..1."""
        if self.minutes is not None:
            return min(1.0, self.seconds / (60.0 * self.minutes))
        return min(1.0, self.step / self.settings.steps)

    def rate(self) -> float:
        """The learning rate now: linear warm-up, then a cosine to the end."""
        s = self.settings
        warm = min(1.0, (self.step + 1) / max(s.warm_up_steps, 1))
        low = s.final_rate
        return s.learning_rate * warm * (low + (1 - low) * 0.5 * (1 + math.cos(math.pi * self.progress)))

    def resume(self) -> bool:
        """Go on from the checkpoint in the folder, or the one before it if that is damaged; False if there is none.

        Raises ModelError if there are checkpoints and none can be read: hours of training are not begun anew unasked.
        """
        damaged = None
        for before in (False, True):
            path = self._path(".old" if before else "")
            try:
                state = _of_today(checkpoint.load(self._path(), before))
                if state is not None and not (isinstance(state, dict) and STATE <= set(state)):
                    raise ModelError(f"{path} is no checkpoint of a training: remove it to begin anew")
                if state is not None and (name := not_finite(state)):
                    raise ModelError(f"checkpoint {path} is of no use, {name} is not finite: to begin anew remove it "
                                     "and the other one beside it")
            except ModelError as error:
                _log.warning("%s", error)
                damaged = damaged or error
                continue
            if state is not None:
                self.load_state(state)
                self.sound = not before
                _log.info("resumed from %s at step %d", path, self.step)
                return True
        if damaged is not None:
            raise damaged
        return False

    def state(self) -> dict:
        """Everything that the next step depends on."""
        return {"settings": self.settings.as_dict(), "network": self.network.state_dict(),
                "average": self.average.state_dict(), "optimizers": self.optimizer.state_dict(), "step": self.step,
                "images": self.images, "seconds": self.seconds, "before": self.before, "shelf": self.shelf.state,
                "torch_rng": torch.get_rng_state()}

    def load_state(self, state: dict) -> None:
        """The inverse of ``state``; settings that differ are those of now from here on, and are logged. Raises
        ModelError if it belongs to another network, other frozen parts or another optimizer."""
        before, now = state["settings"], self.settings.as_dict()
        _refuse_another(before, self.settings, self.folder)
        old, new = ({**values, **values["augmentation"], "augmentation": None} for values in (before, now))
        for name, value in new.items():
            if old.get(name) != value:
                _log.warning("%s was %s before, from here on it is %s", name, old.get(name), value)
        decays = [group["weight_decay"] for group in self.optimizer.param_groups]
        try:
            self.network.load_state_dict(state["network"])
            self.average.load_state_dict(state["average"])
            self.optimizer.load_state_dict(state["optimizers"])
        except (RuntimeError, ValueError, KeyError) as error:
            raise ModelError(f"the checkpoint in {self.folder} does not fit this network "
                             f"({str(error).splitlines()[-1].strip()}): it is of another version of the package; use "
                             "another --out folder") from error
        for group, decay in zip(self.optimizer.param_groups, decays):
            group["weight_decay"] = decay
        self.step, self.images, self.seconds = state["step"], state["images"], state["seconds"]
        self.kept = self.looked = self.step
        self.before = state.get("before") or self.before
        self.shelf.state = copy.deepcopy(state["shelf"])
        torch.set_rng_state(state["torch_rng"])

    def run(self, stop_after_s: float | None = None, publish=lambda accuracy: None) -> dict:
        """Train to the end of the plan, for ``stop_after_s`` seconds, or until ``signals`` holds one; the last
        measurement is returned, {} if it failed or was not waited for.

        publish: called by the first process when a checkpoint is written, with {}, and when its weights are measured.

        Raises ModelError if the loss stays not finite after going back to the last checkpoint several times.
        """
        began = time.monotonic()
        self.shelf.rescan()
        if self.world > 1:                              # a shard that has just come must not be held out by one alone
            told = [self.shelf.state]
            distributed.broadcast_object_list(told, 0, device=self.device)
            self.shelf.state = told[0]
        if self.rank == 0:
            self._hold_out()                            # before it might be moved away
        module = self.network
        if self.world > 1:
            module = torch.nn.parallel.DistributedDataParallel(_Raw(self.network))
        mixed = self.settings.bf16 and _has_bf16(self.device)
        if self.device.type == "cpu":
            frozen.quicken(self.network, torch.bfloat16 if mixed else torch.float32)
        stream = self._stream()
        last = last_log = saved = measured = time.monotonic()
        sums, since = {}, 0
        late = False
        while not self._over(late):
            steps = [self._learn(self._next(stream), module, mixed) for _ in range(self._steps_at_once())]
            rows = torch.stack([torch.stack(list(step.values())) for step in steps]).tolist()   # waits for the GPU
            wrong = [k for k, (norm, loss, *_) in enumerate(rows) if not math.isfinite(norm + loss)]
            if wrong:
                self._roll_back(rows[wrong[0]][1], self.step - len(rows) + wrong[0])
                stream = self._stream()
                continue
            self.looked = self.step
            now = time.monotonic()
            self.seconds += now - last
            last = now
            since += len(rows)
            for name, values in zip(steps[0], zip(*rows)):
                sums[name] = sums.get(name, 0.0) + sum(values)
            if since >= LOG_BATCHES:
                self._record_steps(sums, since, now - last_log)
                sums, since, last_log = {}, 0, now
            if self.rank == 0 and now - measured > self.measure_s:
                self._save_and_measure(publish, sums, since, now - last_log)
                saved = measured = last = last_log = time.monotonic()
                sums, since = {}, 0
            elif self.rank == 0 and now - saved > CHECKPOINT_S:
                self.save()
                publish({})
                saved = last = time.monotonic()
            late = bool(self.signals) or stop_after_s is not None and time.monotonic() - began > stop_after_s
        if self.signals:
            if self.rank == 0 and self.step != self.kept:
                self.save()
                publish({})
            return {}
        return self._save_and_measure(publish, sums, since, time.monotonic() - last_log) if self.rank == 0 else {}

    def _next(self, stream) -> dict:
        """The next batch. Raises DataError if there is none; what has been learnt and looked at is kept."""
        cause = None
        try:
            batch = next(stream)
        except DataError as error:                      # of the folder, which is looked at again in this process
            batch, cause = {"error": str(error)}, error
        except RuntimeError as error:
            if not re.search("DataLoader worker.*(exited unexpectedly|is killed by signal)", str(error)):
                raise
            batch, cause = {"error": f"a process that makes batches has ended ({str(error).splitlines()[0]}): is there "
                                     "too little memory? Take fewer --workers or a smaller batch; start the same "
                                     "command again to go on"}, error
        if "error" in batch:
            if self.rank == 0 and self.looked == self.step != self.kept:
                self.save()
            raise DataError(batch["error"]) from cause
        return batch

    def _learn(self, batch: dict, module, mixed: bool) -> dict:
        """One step. Returns norm (of the gradient), loss and its parts as tensors on the device, which may still be
        at work on them; a loss that is not finite spoils the weights, and ``run`` takes those of the checkpoint."""
        batch.pop("batch")
        batch = {k: v.to(self.device, non_blocking=True) for k, v in batch.items()}
        for group in self.optimizer.param_groups:
            group["lr"] = self.rate()
        likelihood = min(1.0, max(0.0, (self.progress - self.settings.likelihood_from) / 0.1))
        frozen.train_mode(self.network)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=mixed):
            raw = module(batch["image"]) if self.world > 1 else self.network.raw(batch["image"])
        raw = {k: v.float() for k, v in raw.items()} if isinstance(raw, dict) else raw.float()
        loss, parts = LOSSES[self.settings.kind](raw, batch, likelihood)
        self.optimizer.zero_grad()
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(self.network.parameters(), self.settings.clip)
        self.optimizer.step()
        self._average()
        self.step += 1
        self.images += len(batch["image"]) * self.world
        return {"norm": norm, **{name: value.detach() for name, value in {"loss": loss, **parts}.items()}}

    def _steps_at_once(self) -> int:
        """Steps until the next look at the losses; all processes count the same, so that they go back together."""
        most = CHECK_STEPS.get(self.device.type, 1)
        return most if self.minutes is not None else min(most, self.settings.steps - self.step)

    def _over(self, out_of_time: bool) -> bool:
        """Whether to stop before the next steps. All processes do what the first one says, whose clock also sets the
        rate: one that went on alone would wait for the others for ever."""
        if self.world > 1:
            told = torch.tensor([self.seconds, out_of_time], dtype=torch.float64, device=self.device)
            distributed.broadcast(told, 0)
            self.seconds, out_of_time = float(told[0]), bool(told[1])
        return out_of_time or self.progress >= 1.0

    def measure(self) -> dict:
        """Errors of the averaged weights on held-out virtual images and, if given, on photographs; logged."""
        self.average.eval()
        kind, size = self.settings.kind, self.settings.size
        self._hold_out()
        on_samples, on_photographs = (measure.pose_on_samples, measure.pose_on_photographs) if kind == "pose" else \
            (measure.detector_on_samples, measure.detector_on_photographs)
        result = {"virtual": on_samples(self.average, self.held_out)}
        if self.photographs is not None:
            try:
                result["photographs"] = on_photographs(self.average, self.photographs,
                                                       size[0] if kind == "pose" else size)
            except Exception as error:                  # a label of a kind that nobody thought of
                _log.exception("the photographs cannot be measured")
                result["error"] = f"the photographs cannot be measured: {error!r}"
        self._record({"kind": "measure", **result})
        return result

    def _save_and_measure(self, publish, *steps) -> dict:
        """The checkpoint first: nothing that goes wrong in measuring, which only tells, may cost the training. steps:
        arguments of ``_record_steps`` for those since its last line."""
        self.save()
        publish({})
        self._record_steps(*steps)
        try:
            result = self.measure()
        except Exception as error:                      # whatever it is, the log says it
            _log.exception("measuring failed, the training is kept")
            self._record({"kind": "error", "error": f"measuring failed: {error!r}"})
            return {}
        publish(result)
        return result

    def save(self) -> None:
        """Write the checkpoint; the one before stays as ``.old``, or the one before that if it is damaged."""
        checkpoint.save(self._path(), self.state(), self.pieces, self.sound)
        self.kept, self.sound = self.step, True

    def _hold_out(self) -> None:
        """Read the held-out samples, once."""
        if self.held_out is None:
            kind, state = self.settings.kind, self.shelf.state
            first, second = ("crops", "frames") if kind == "pose" else ("frames", "crops")
            paths = state["held_" + first] or state["held_" + second]
            self.held_out = measure.held_out(kind, paths, self.settings.size, self.held_out_count)

    def _path(self, suffix: str = "") -> Path:
        return self.folder / f"{CHECKPOINT}{suffix}"

    def _stream(self):
        def size_of(step: int):
            return self.settings.size_at(self.progress if self.minutes is not None else step / self.settings.steps)

        return batches.stream(self.settings, self.shelf, self.step, size_of, self.workers, self.rank,
                              pinned=self.device.type == "cuda")

    def _average(self) -> None:
        """Exponential moving average of weights and batch statistics; quicker at the start, when they change fast."""
        decay = min(self.settings.ema, (1 + self.step) / (10 + self.step))
        with torch.no_grad():
            source, target = self.network.state_dict(), self.average.state_dict()
            floats = [k for k, v in target.items() if v.dtype.is_floating_point]
            torch._foreach_lerp_([target[k] for k in floats], [source[k] for k in floats], 1.0 - decay)

    def _roll_back(self, loss: float, batch: int) -> None:
        what = f"the {'gradient' if math.isfinite(loss) else 'loss'} is not finite in batch {batch}"
        remedy = "lower learning_rate, or look at the shards"
        self.rollbacks += 1
        if self.rollbacks > MAX_ROLLBACKS:
            raise ModelError(f"{what}, after {MAX_ROLLBACKS} returns to the last checkpoint: {remedy}")
        step, seconds = self.step, self.seconds
        _log.warning("%s: going back to the last checkpoint", what)
        if not self.resume():
            raise ModelError(f"{what}, before the first checkpoint: {remedy}")
        # Other batches than those that led here; the time is spent all the same.
        self.step, self.seconds = step, seconds

    def _record_steps(self, sums: dict, steps: int, seconds: float) -> None:
        """A line on so many steps, if there are any: rate, and the means of what was summed up over them."""
        if not steps:
            return
        self._record({"kind": "train", "images_per_s": round(steps * self.settings.batch * self.world / seconds, 1),
                      "rate": self.rate(), **{k: round(v / steps, 4) for k, v in sums.items() if k != "norm"}})

    def _record(self, line: dict) -> None:
        if self.rank or not self.records:
            return
        line = {"step": self.step, "images": self.images, "minutes": round(self.seconds / 60, 2),
                "progress": round(self.progress, 4), **line}
        self.folder.mkdir(parents=True, exist_ok=True)
        with open(self.folder / "log.jsonl", "ab+") as file:
            file.seek(max(0, file.tell() - 1))
            begin = b"" if file.read() in (b"", b"\n") else b"\n"                       # the line before was cut off
            file.write(begin + json.dumps(_plain(line), allow_nan=False).encode() + b"\n")
        _log.info("%s", json.dumps(_plain(line)))


def _plain(value):
    """The value for JSON, which knows no NaN: null."""
    if isinstance(value, dict):
        return {name: _plain(one) for name, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def check_begun(folder: str | Path, settings: Settings) -> None:
    """Raises ModelError if the checkpoint in ``folder`` is of another network, other frozen parts or another optimizer
    than the settings; of none that can be read nothing is said here."""
    for before in (False, True):
        try:
            state = _of_today(checkpoint.load(Path(folder) / CHECKPOINT, before))
        except ModelError:
            continue
        if isinstance(state, dict) and "settings" in state:
            return _refuse_another(state["settings"], settings, folder)


def _refuse_another(before: dict, settings: Settings, folder: str | Path) -> None:
    now = settings.as_dict()
    for name in ("architecture", "options", "frozen", "optimizer"):
        if before.get(name) != now[name]:
            raise ModelError(f"the checkpoint in {folder} is of {name} {before.get(name)}, the settings say "
                             f"{now[name]}: use another --out folder (gpu-train: --state), --from-model takes weights "
                             "along; or settings that say the same")


def _of_today(state):
    """A checkpoint from before there was a choice of optimizers, as one with AdamW; any other thing as it is."""
    if isinstance(state, dict) and "optimizer" in state and isinstance(state.get("settings"), dict):
        state = {**state, "optimizers": [state["optimizer"]], "settings": {"optimizer": "adamw", **state["settings"]}}
    return state


class _Raw(torch.nn.Module):
    """Gives DistributedDataParallel, which calls ``forward`` only, the raw outputs."""

    def __init__(self, network):
        super().__init__()
        self.network = network

    def forward(self, images):
        return self.network.raw(images)


def leave() -> None:
    """Leave the other processes of a training, if there are any: one that ends without may be aborted by threads that
    still listen to them, and torchrun then ends the others, too, which may still be at work on the result."""
    if distributed.is_initialized():
        distributed.barrier()
        gc.collect()                                    # the module that DistributedDataParallel was holds the group
        distributed.destroy_process_group()


def _has_bf16(device: torch.device) -> bool:
    """Whether bf16 is quicker than fp32 there: on a CPU without AVX-512 BF16 or AMX it is emulated, and slow."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return bool(host.processor_flags() & {"avx512_bf16", "amx_bf16"})


def _join() -> tuple[int, int]:
    """(rank, world size), joining torchrun's group if there is one."""
    if limits.from_environment("WORLD_SIZE", 1) > 1 and not distributed.is_initialized():
        if torch.cuda.is_available():
            torch.cuda.set_device(limits.from_environment("LOCAL_RANK", 0))
        distributed.init_process_group("nccl" if torch.cuda.is_available() else "gloo", timeout=MEASURING)
    if distributed.is_initialized():
        return distributed.get_rank(), distributed.get_world_size()
    return 0, 1
