"""Muon for the matrices inside a network and AdamW for the rest, or AdamW for all of it, called as one."""
from __future__ import annotations

import torch
from torch import nn

from hand_pose_ros.errors import ConfigError

LEAST_SIDE = 32
"""Muon takes matrices with as many rows and columns at least: it is for what leads from features to features, not for
what reads an image, a place, or the outputs."""


class Optimizers:
    """The optimizers of one network, each of its own parameters. Make it with ``build``.

    twins: kernels (O, I, h, w) or (O, I) of the network, each with the matrix (O, columns) of the same memory that
    stands for it in an optimizer and gets its gradient before each step.
    """

    def __init__(self, parts: list[torch.optim.Optimizer], twins: list[tuple[nn.Parameter, nn.Parameter]] = ()):
        self.parts, self._twins = parts, twins

    @property
    def param_groups(self) -> list[dict]:
        return [group for part in self.parts for group in part.param_groups]

    def zero_grad(self) -> None:
        for part in self.parts:
            part.zero_grad(set_to_none=True)
        for kernel, _ in self._twins:
            kernel.grad = None

    def step(self) -> None:
        for kernel, matrix in self._twins:
            matrix.grad = None if kernel.grad is None else _rows(kernel.grad).flatten(1)
        for part in self.parts:
            part.step()

    def state_dict(self) -> list[dict]:
        """Of each optimizer."""
        return [part.state_dict() for part in self.parts]

    def load_state_dict(self, states: list[dict]) -> None:
        """The inverse of ``state_dict``. Raises ValueError if they are of other optimizers."""
        if len(states) != len(self.parts):
            raise ValueError(f"it holds {len(states)} optimizers, not {len(self.parts)}")
        for part, state in zip(self.parts, states):
            part.load_state_dict(state)


def build(network: nn.Module, name: str, rate: float, decay: float) -> Optimizers:
    """Optimizers of the parameters of ``network`` that are learnt, with weight decay for matrices and kernels, none for
    biases, norms and embeddings.

    name: "adamw" (Loshchilov and Hutter, ICLR 2019) for all of them; or "muon" (Jordan, 2024), whose steps change a
    matrix as much along every direction, for the matrices and kernels of at least LEAST_SIDE inputs and outputs, with
    steps as large as AdamW's (Liu et al., arXiv 2502.16982, equation 4), so that one rate serves both; these kernels
    must be channels-last in memory. Raises ConfigError for "muon" in a torch that lacks it.
    """
    learnt = [(n, p) for n, p in network.named_parameters() if p.requires_grad]
    inner = [p for _, p in learnt if name == "muon" and p.ndim > 1 and min(p.shape[:2]) >= LEAST_SIDE]
    taken = set(map(id, inner))
    decayed, bare = [], []
    for n, p in learnt:
        if id(p) not in taken:
            (decayed if p.ndim > 1 and not n.endswith("names") else bare).append(p)
    parts = [torch.optim.AdamW([{"params": decayed, "weight_decay": decay}, {"params": bare, "weight_decay": 0.0}],
                               lr=rate, betas=(0.9, 0.99), fused=True)]
    twins = []
    if inner:
        if not hasattr(torch.optim, "Muon"):
            raise ConfigError(f"optimizer: muon needs torch 2.9 or later, this is {torch.__version__}: give adamw")
        twins = [(p, nn.Parameter(_rows(p.detach()).view(len(p), -1))) for p in inner]      # of the same memory
        parts.append(torch.optim.Muon([matrix for _, matrix in twins], lr=rate, weight_decay=decay,
                                      adjust_lr_fn="match_rms_adamw"))
    return Optimizers(parts, twins)


def _rows(kernel: torch.Tensor) -> torch.Tensor:
    """(O, I) as it is, (O, I, h, w) as (O, h, w, I), as channels-last memory has it."""
    return kernel.permute(0, 2, 3, 1) if kernel.ndim == 4 else kernel
