"""Work that several processes share, each with a device of its own (torch.distributed over gloo).

Without a process group everything here is of one process, which does all the work. With one, ``shard`` splits it and
``all_gather`` and ``all_reduce`` put it together: the functions that measure and score call them, so that they give the
same results either way.
"""

import pickle
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import distributed
from torch.multiprocessing.spawn import ProcessExitedException, ProcessRaisedException, spawn

from zeroq.errors import ZeroQError

Item = TypeVar("Item")


def shard(items: Sequence[Item]) -> list[Item]:
    """This process's part of some items: every nth from its own rank on; all of them without a process group."""
    rank, processes = rank_and_size()
    return list(items[rank::processes])


def all_gather(part: list[Item]) -> list[Item]:
    """The results of all items, in their order, from each process's results of its ``shard``."""
    if not distributed.is_initialized():
        return part
    parts: list[list[Item]] = [[] for _ in range(distributed.get_world_size())]
    distributed.all_gather_object(parts, part)
    found: list[Any] = [None] * sum(map(len, parts))
    for rank, own in enumerate(parts):
        found[rank :: len(parts)] = own
    return found


def all_reduce(part: torch.Tensor) -> torch.Tensor:
    """The sum over all processes of a tensor on the CPU that each has its part of."""
    if distributed.is_initialized():
        distributed.all_reduce(part)
    return part


def rank_and_size() -> tuple[int, int]:
    """(rank, number of processes): (0, 1) without a process group."""
    if not distributed.is_initialized():
        return 0, 1
    return distributed.get_rank(), distributed.get_world_size()


def on_devices(devices: Sequence[str], function: Callable[..., Any], *arguments: Any) -> Any:
    """``function(device, *arguments)`` in a process for each device; the first one's result.

    The processes form a group, and what ``function`` calls shares its work among them. Everything that goes in and
    comes out is pickled, so that a function must be one of a module's own. For one device it is called right here.

    Raises ZeroQError where a process does, or dies.
    """
    if len(devices) == 1:
        return function(devices[0], *arguments)
    with tempfile.TemporaryDirectory() as folder:
        meeting = Path(folder)
        try:
            spawn(_work, (tuple(devices), meeting, function, arguments), nprocs=len(devices))
        except (ProcessExitedException, ProcessRaisedException) as error:
            if (meeting / "error").exists():
                raise pickle.loads((meeting / "error").read_bytes()) from None
            if isinstance(error, ProcessExitedException):
                raise ZeroQError(f"one of {len(devices)} processes that shared the work died: {error}") from error
            raise
        return pickle.loads((meeting / "result").read_bytes())


def _work(
    rank: int, devices: tuple[str, ...], meeting: Path, function: Callable[..., Any], arguments: tuple[Any, ...]
) -> None:
    """What a process does: join the group, compute, and leave the first one's result."""
    torch.set_num_threads(max(1, torch.get_num_threads() // len(devices)))
    store = f"file://{meeting / 'group'}"
    distributed.init_process_group("gloo", init_method=store, rank=rank, world_size=len(devices))
    try:
        result = function(devices[rank], *arguments)
    except ZeroQError as error:
        (meeting / "error").write_bytes(pickle.dumps(error))
        raise  # ends the others, which wait for this one's part
    if rank == 0:
        (meeting / "result").write_bytes(pickle.dumps(result))
    distributed.barrier()
    distributed.destroy_process_group()
