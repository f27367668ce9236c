"""Several processes of one thread each train one model: faster on two cores than two threads of one process, above all
when something else runs beside them. Gradients are averaged after every step."""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import torch
import torch.distributed as dist
from torch import nn

ONE_THREAD = {"OMP_NUM_THREADS": "1"}
"""Environment of a process that keeps to one core."""


class Group:
    """The processes that train together; alone it does nothing. ``rank`` 0 writes checkpoints and progress."""

    def __init__(self, rank: int, workers: int, meeting: Path | None) -> None:
        self.rank, self.workers = rank, workers
        if workers > 1:
            assert meeting is not None
            dist.init_process_group("gloo", init_method=f"file://{meeting.absolute()}", rank=rank, world_size=workers)

    def mean(self, parameters: list[nn.Parameter], seconds: float) -> float:
        """Average the gradients in place; returns the mean of ``seconds``, so that all stop at the same step."""
        if self.workers == 1:
            return seconds
        used = [p for p in parameters if p.grad is not None]
        flat = torch.cat([*(p.grad.flatten() for p in used if p.grad is not None), torch.tensor([seconds])])
        dist.all_reduce(flat)
        flat /= self.workers
        start = 0
        for p in used:
            assert p.grad is not None
            p.grad.copy_(flat[start : start + p.numel()].view_as(p))
            start += p.numel()
        return float(flat[-1])

    def wait(self) -> None:
        """Until all are here."""
        if self.workers > 1:
            dist.barrier()


def add_flags(parser: argparse.ArgumentParser) -> None:
    """``--rank``, ``--workers`` and ``--meeting``."""
    parser.add_argument("--rank", type=int, default=0, help="number of this process, when several train together")
    parser.add_argument("--workers", type=int, default=1, help="how many processes train together")
    parser.add_argument("--meeting", type=Path, help="file over which they find each other (deleted before)")


def group_of(arguments: argparse.Namespace) -> Group:
    return Group(arguments.rank, arguments.workers, arguments.meeting)


def launch(module: str, flags: Sequence[str], work: Path, workers: int = 2) -> None:
    """Run ``python -m module`` as that many processes that train together; RuntimeError if one fails."""
    meeting = work / f"{module.rsplit('.', 1)[-1]}.meeting"
    meeting.unlink(missing_ok=True)
    command = [sys.executable, "-m", module, *flags, "--workers", str(workers), "--meeting", str(meeting)]
    ranks = [subprocess.Popen([*command, "--rank", str(rank)]) for rank in range(workers)]
    try:
        statuses = [rank.wait() for rank in ranks]
    finally:
        for rank in ranks:
            rank.kill()
    if any(statuses):
        raise RuntimeError(f"{module} stopped with exit status {max(statuses)}")
