"""The processes that train one model together, as torchrun starts them; one alone has nobody to exchange with.

Gloo carries what they agree on; the gradients go over gloo on CPUs and over NCCL on GPUs.
"""

import contextlib
import datetime
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.rendezvous import rendezvous
from torch.nn.parallel import DistributedDataParallel

from ..errors import PeerError, S2SError
from ..launch import launched, rank, restarts

# Until the training begins, one may wait for another that counts the words of a large file.
STARTING = datetime.timedelta(days=1)


@contextlib.contextmanager
def joined(device, timeout: float):
    """Processes: all that torchrun has started, or this one alone.

    Args:
        device: where the model is.
        timeout: seconds after which a process that does not answer counts as gone.

    Raises:
        PeerError: another process has ended, or does not answer.
        S2SError: the processes cannot meet.
    """
    if not launched():
        yield ALONE
        return
    with answering(timeout):
        try:
            store, number, size = next(rendezvous("env://", timeout=STARTING))
            # torchrun keeps one store through all its restarts (2.13): without names of their own the processes of this
            # start may meet at the address that one which was killed has left there.
            store = dist.PrefixStore(f"start {restarts()}", store)
            dist.init_process_group("gloo", store=store, rank=number, world_size=size, timeout=STARTING)
        except ValueError as error:  # a variable of torchrun is missing
            raise S2SError(f"the processes cannot meet ({error}); start them with torchrun.") from None
        backend = "nccl" if torch.device(device).type == "cuda" else "gloo"
        wait = datetime.timedelta(seconds=timeout)
        yield Processes(
            number,
            size,
            dist.new_group(timeout=wait, backend="gloo"),
            dist.new_group(timeout=wait, backend=backend),
        )
        # Not after an error: a process that waits for others that have gone would not end.
        dist.destroy_process_group()


@contextlib.contextmanager
def answering(timeout):
    """Within it, the many errors of a process that is gone are one sentence."""
    try:
        yield
    except RuntimeError as error:
        gloo = any(words in str(error) for words in ("gloo/", "caused pair closure"))
        if not isinstance(error, dist.DistError) and not gloo:
            raise
        raise PeerError(
            f"process {rank()}: another process of this training has ended, or has not answered for "
            f"{timeout:g} s; --resume goes on from the last validation."
        ) from None


class Processes:
    """``size`` processes, of which this is number ``rank``."""

    def __init__(self, rank=0, size=1, control=None, gradients=None):
        self.rank, self.size, self.control, self.gradients = rank, size, control, gradients

    @property
    def first(self) -> bool:
        """Whether this is the one that speaks and writes."""
        return self.rank == 0

    def agree(self, function) -> Any:
        """``function()`` in every process; where it raises an S2SError in one, it does in all."""
        if self.size == 1:
            return function()
        result = error = None
        try:
            result = function()
        except S2SError as caught:
            error = str(caught)
        errors = [None] * self.size
        dist.all_gather_object(errors, error)
        for number, found in enumerate(errors):
            if found is not None:
                raise S2SError(found if errors[0] else f"process {number}: {found}")
        return result

    def share(self, make) -> Any:
        """What ``make()`` returns in the first process, in all of them."""
        if self.size == 1:
            return make()
        made = [self.agree(lambda: make() if self.first else None)]
        dist.broadcast_object_list(made, 0)
        return made[0]

    def same(self, value, what):
        """S2SError if a value is not the same in all processes."""
        found = [None] * self.size
        if self.size > 1:
            dist.all_gather_object(found, value)
            for number, other in enumerate(found):
                if other != found[0]:
                    raise S2SError(f"process {number} has other {what} than process 0, expected the same files.")

    def gather(self, tensor) -> list[Tensor]:
        """A tensor of each process, all of one shape."""
        if self.size == 1:
            return [tensor]
        found = [torch.empty_like(tensor) for _ in range(self.size)]
        dist.all_gather(found, tensor, group=self.control)
        return found

    def add(self, tensor) -> Tensor:
        """The sum of a tensor over the processes, the same bits in all; on the CPU."""
        tensor = tensor.cpu().clone()
        if self.size > 1:
            dist.all_reduce(tensor, group=self.control)
        return tensor

    def decide(self, value: float) -> float:
        """The number that the first process has, in all of them."""
        if self.size == 1:
            return value
        box = torch.tensor([value], dtype=torch.float64)
        dist.broadcast(box, 0, group=self.control)
        return box.item()

    def part(self, rows):
        """This process's share of the rows of a batch: every size-th, so that like lengths are spread evenly."""
        return rows[self.rank :: self.size]

    def wrap(self, module):
        """A module whose backward pass leaves the mean of all processes' gradients."""
        if self.size == 1:
            return module
        return DistributedDataParallel(
            module,
            process_group=self.gradients,
            gradient_as_bucket_view=True,
            # A parameter may take part in some steps only (scheduled sampling) or in none.
            find_unused_parameters=True,
        )


ALONE = Processes()
