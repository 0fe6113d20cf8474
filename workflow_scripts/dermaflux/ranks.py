"""The processes that train together: which rows of a batch each of them takes, and how they add up what they found."""

import os
from contextlib import contextmanager

from dermaflux.errors import UserError
from dermaflux.torch_setup import torch

# isort: split
import torch.distributed as dist


class Ranks:
    """This process's place among `size` that make the same steps, each on its own rows; alone unless several were launched."""

    def __init__(self, rank=0, size=1):
        self.rank, self.size = rank, size

    @property
    def first(self):
        """Whether this is the process that speaks and writes for all."""
        return self.rank == 0

    def own(self, rows):
        """Which of a batch's `rows` (their number) this process takes: a slice, empty where there are fewer than processes."""
        return slice(rows * self.rank // self.size, rows * (self.rank + 1) // self.size)

    def sum(self, tensors):
        """Replace each of the tensors by its sum over all processes."""
        if self.size > 1:
            for work in [dist.all_reduce(tensor, async_op=True) for tensor in tensors]:
                work.wait()

    def require_same(self, value, what):
        """Wait for all processes, and make sure that they have the same `value` (anything picklable).

        Raises:
            UserError: they have not; `what` says of what.
        """
        if self.size > 1:
            values = [None] * self.size
            dist.all_gather_object(values, value)
            if any(other != values[0] for other in values):
                raise UserError(
                    f"the {self.size} processes of this job see different {what}: its inputs and its state must lie on a "
                    "file system that all of its nodes share"
                )


ALONE = Ranks()


@contextmanager
def joined(device):
    """Join the processes that dermaflux.launch has started, each with a GPU of its own (device: cuda | cpu); yields Ranks.

    Raises:
        UserError: the node has fewer GPUs than processes.
    """
    local = int(os.environ["LOCAL_RANK"])
    if device == "cuda":
        if local >= torch.cuda.device_count():
            raise UserError(
                f"this job should have {os.environ['LOCAL_WORLD_SIZE']} GPUs on {os.uname().nodename}, but torch sees "
                f"{torch.cuda.device_count()}: check what the job asked for (lora.gpus) and nvidia-smi"
            )
        torch.cuda.set_device(local)
    dist.init_process_group("nccl" if device == "cuda" else "gloo")
    try:
        yield Ranks(dist.get_rank(), dist.get_world_size())
    finally:
        dist.destroy_process_group()
