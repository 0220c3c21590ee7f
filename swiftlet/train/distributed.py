"""Several processes that train one network: torchrun starts them, DistributedDataParallel adds up their gradients.

Each rank holds the whole network and takes its contiguous part of every global batch. What one process has to decide
(when to stop, where to go on) all of them decide together, so that none waits for a step that another does not make.
"""

import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Literal, get_args
from uuid import uuid4

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch._C._distributed_c10d import GradBucket, PrefixStore, Store
from torch.distributed.rendezvous import rendezvous
from torch.nn.parallel import DistributedDataParallel

from swiftlet.errors import BadInput, WorkerLost

Compress = Literal["bf16", "powersgd"]
TIMEOUT = 60.0  # seconds for which one rank waits for another
PATIENCE = 1800.0  # and before the first step and after the last, see Ranks.wait
REPORTING = 5.0  # after a failure, for the ranks that are still there to say so
ONE_BUCKET = 1_000_000  # megabytes: more than any network has
MEETING = 0.05  # between two looks at who is there
VARIABLES = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")
ALIVE = "swiftlet/alive"


@dataclass(frozen=True, slots=True)
class Ranks:
    """This process among the `world` that train together; a process of its own without torchrun.

    `compress` sends gradients as bfloat16, or as matrices of rank 1 with error feedback (PowerSGD, Vogels et al. 2019,
    arXiv:1905.13727), by DistributedDataParallel's own hooks. `sync_bn` takes BatchNorm's statistics over the global
    batch, on GPUs only; without it each rank normalises by its own part. Either way the running statistics are
    those of rank 0, which the others take over before each step.
    """

    rank: int = 0
    world: int = 1
    local: int = 0
    compress: Compress | None = None
    sync_bn: bool = False
    store: Store | None = None
    control: Any = None  # a gloo group for small numbers, which wait for no GPU

    @property
    def first(self) -> bool:
        """True in the one process that writes."""
        return self.rank == 0

    def part(self, n: int) -> slice:
        """This rank's contiguous part of n, as even as can be."""
        return slice(n * self.rank // self.world, n * (self.rank + 1) // self.world)

    def check_batch(self, size: int, accumulate: int, *, pairs: bool) -> None:
        """Raises BadInput if a batch cannot be dealt out evenly: rank by rank, and there in `accumulate` parts.

        `pairs` of pictures, which mixup mixes, must stay together.
        """
        parts = self.world * accumulate
        if pairs and parts > 1:
            parts *= 2
        if accumulate < 1 or size % parts:
            raise BadInput(
                f"a batch of {size} pictures does not divide by {self.world} processes x {accumulate} parts"
                f"{' of whole pairs, which mixup takes' if pairs else ''}; choose a batch that is a multiple of "
                f"{max(1, parts)} and not more than there are training pictures"
            )

    def parallel(self, model: nn.Module, *, warmup: int) -> nn.Module:
        """What takes `model` forward so that backward sums over all ranks; the model itself if there is but one.

        PowerSGD sends whole gradients for the first `warmup` steps.
        """
        if self.world == 1:
            return model
        if self.sync_bn:
            if next(model.parameters()).device.type == "cpu":
                raise BadInput("sync_bn: PyTorch has it on GPUs only; leave it out, and take a larger part per process")
            model = nn.SyncBatchNorm.convert_sync_batchnorm(model)  # type: ignore[no-untyped-call]
        # PowerSGD answers one sum with the next from another thread, and over gloo those of two buckets get mixed up
        alone = self.compress == "powersgd" and next(model.parameters()).device.type == "cpu"
        wrapped = DistributedDataParallel(model, bucket_cap_mb=ONE_BUCKET if alone else None)
        if self.compress == "bf16":
            wrapped.register_comm_hook(None, _bf16)
        elif self.compress == "powersgd":
            from torch.distributed.algorithms.ddp_comm_hooks import powerSGD_hook as powersgd

            # two more: DistributedDataParallel lays out its buckets after the first, see Training
            state = powersgd.PowerSGDState(None, matrix_approximation_rank=1, start_powerSGD_iter=warmup + 2)
            wrapped.register_comm_hook(state, powersgd.powerSGD_hook)
        return wrapped

    def apart(self, network: nn.Module) -> AbstractContextManager[None]:
        """Inside, backward stays on this rank: for all parts of an accumulated batch but the last."""
        if not isinstance(network, DistributedDataParallel):
            return nullcontext()
        apart: AbstractContextManager[None] = network.no_sync()
        return apart

    def mean(self, value: float) -> float:
        """The mean over all ranks."""
        if self.world == 1:
            return value
        total = torch.tensor(value, dtype=torch.float64)
        dist.all_reduce(total, group=self.control)
        return float(total) / self.world

    def largest(self, value: int) -> int:
        """Over all ranks."""
        if self.world == 1:
            return value
        found = torch.tensor(value)
        dist.all_reduce(found, dist.ReduceOp.MAX, group=self.control)
        return int(found)

    def check_same(self, facts: Mapping[str, object]) -> None:
        """Wait for all ranks, and raise BadInput, naming rank and fact, if one was started with something else."""
        if self.world == 1:
            return
        self.wait()
        everyone: list[Any] = [None] * self.world
        dist.all_gather_object(everyone, dict(facts), group=self.control)
        for rank, other in enumerate(everyone):
            for key, value in everyone[0].items():
                if other.get(key) != value:
                    raise BadInput(f"rank {rank} has {key} = {other.get(key)!r:.200}, rank 0 has {value!r:.200}")

    def wait(self) -> None:
        """For all ranks, patiently: hosts read their photos at different speeds, and rank 0 alone writes files."""
        if self.world > 1:
            dist.monitored_barrier(group=self.control, timeout=timedelta(seconds=PATIENCE))

    def told(self, value: Any) -> Any:
        """What rank 0 has, in every rank."""
        if self.world == 1:
            return value
        message = [value]
        dist.broadcast_object_list(message, src=0, group=self.control)
        return message[0]

    def share(
        self, found: tuple[dict[str, Tensor], dict[str, Any]] | None
    ) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
        """What rank 0 gives, to all: a checkpoint's tensors and facts.

        So one process reads, and no two can go on from different steps, whatever their hosts see of a shared disk.
        """
        if self.world == 1:
            return found
        outline = None
        if found is not None:
            outline = {name: (t.shape, t.dtype) for name, t in found[0].items()}, found[1]
        outline = self.told(outline)
        if outline is None:
            return None
        tensors: dict[str, Tensor] = {}
        for name, (shape, dtype) in outline[0].items():
            # contiguous: gloo sends memory as it lies, and channels-last would arrive in another order
            tensors[name] = (
                found[0][name].cpu().contiguous() if found and self.first else torch.empty(shape, dtype=dtype)
            )
            dist.broadcast(tensors[name], src=0, group=self.control)
        return tensors, outline[1]

    @contextmanager
    def watched(self, where: Callable[[], str]) -> Iterator[None]:
        """Inside, the loss of another rank raises WorkerLost, which names it and `where` this one was."""
        try:
            yield
        except RuntimeError as error:
            if self.world == 1 or not _of_the_network(error):
                raise
            raise WorkerLost(f"rank {self.rank}, {where()}: {self._missing()} ({_short(error)})") from error

    def _missing(self) -> str:
        """Who does not answer: those that are still there write so into torchrun's store, which survives workers."""
        assert self.store is not None
        try:
            # closing our own connections tells those who wait for us rather than for the lost one
            dist.destroy_process_group(self.control)
            self.store.set(f"{ALIVE}/{self.rank}", "")
            time.sleep(REPORTING)
            lost = [str(r) for r in range(self.world) if not self.store.check([f"{ALIVE}/{r}"])]
        except RuntimeError:
            return "the host that holds torchrun's store is gone"
        if not lost:
            return "the connection between ranks broke, but all of them are still there"
        return f"no answer from rank {', '.join(lost)}"


ALONE = Ranks()


@contextmanager
def joined(*, compress: Compress | None = None, sync_bn: bool = False, timeout: float = TIMEOUT) -> Iterator[Ranks]:
    """Inside, this process is one of those that torchrun started; without torchrun it is alone.

    A rank that does not answer for `timeout` seconds counts as lost. Its ports have neither passwords nor encryption,
    so they belong into a network that one trusts. Raises BadInput if the environment is not torchrun's, and WorkerLost
    if the others do not come.
    """
    if compress is not None and compress not in get_args(Compress):
        raise BadInput(f"compress={compress}: choose {' or '.join(get_args(Compress))}")
    if "RANK" not in os.environ and "WORLD_SIZE" not in os.environ:
        if compress or sync_bn:
            raise BadInput("compress and sync_bn are for several processes; start swiftlet with torchrun")
        yield ALONE
        return
    rank, world, local = _environment()
    cuda = torch.cuda.is_available()
    if cuda:
        torch.cuda.set_device(local)
    wait = timedelta(seconds=timeout)
    # NCCL's own watchdog kills the process without a word, so the small messages over gloo are to notice first
    backend, patience = ("nccl", 2 * wait) if cuda else ("gloo", wait)
    try:
        shared, _, _ = next(rendezvous("env://", rank, world, timeout=wait))
        store = PrefixStore(_meet(shared, rank, world, timeout), shared)
        dist.init_process_group(backend, store=store, rank=rank, world_size=world, timeout=patience)
        control = dist.new_group(backend="gloo", timeout=wait)
    except RuntimeError as error:
        where = "{MASTER_ADDR}:{MASTER_PORT}".format(**os.environ)
        raise WorkerLost(f"rank {rank} of {world}: the others did not come to {where} ({_short(error)})") from error
    try:
        yield Ranks(rank, world, local, compress, sync_bn, store, control)
    except WorkerLost:
        raise  # leaving in good order takes everybody
    except BaseException:
        dist.destroy_process_group()
        raise
    else:
        dist.destroy_process_group()


def _meet(store: Store, rank: int, world: int, timeout: float) -> str:
    """A name for this attempt that all ranks of it, and none of an earlier one, come to know.

    torchrun keeps its store when it starts the workers again, with the addresses of the dead in it, and ranks that read
    those never find each other. So rank 0 puts up a fresh name, the others sign under it freshly, and believe it only
    when rank 0 shows their own signature back.
    """
    mine, end = uuid4().hex, time.monotonic() + timeout
    if rank == 0:
        store.set("swiftlet/name", mine)
        store.set(f"{mine}/seen", ",".join(store.get(f"{mine}/{r}").decode() for r in range(1, world)))
        return mine
    while time.monotonic() < end:
        name = store.get("swiftlet/name").decode()
        store.set(f"{name}/{rank}", mine)
        time.sleep(MEETING)
        if store.check([f"{name}/seen"]) and mine in store.get(f"{name}/seen").decode():
            return name
    raise dist.DistStoreError(f"no answer from rank 0 in {timeout:g} s")


def _environment() -> tuple[int, int, int]:
    missing = [name for name in VARIABLES if not os.environ.get(name)]
    if missing:
        raise BadInput(f"{', '.join(missing)}: not set, but others of torchrun's variables are; start with torchrun")
    try:
        rank, world, local = (int(os.environ[name]) for name in VARIABLES[:3])
    except ValueError as error:
        raise BadInput(f"RANK, WORLD_SIZE and LOCAL_RANK must be whole numbers ({error})") from error
    if not 0 <= rank < world or local < 0:
        raise BadInput(f"RANK={rank} of WORLD_SIZE={world}, LOCAL_RANK={local}: cannot be")
    return rank, world, local


def _bf16(group: dist.ProcessGroup, bucket: GradBucket) -> torch.futures.Future[torch.Tensor]:
    """By a name that DistributedDataParallel does not know: it refuses bf16 without NCCL, but gloo sums it as well."""
    from torch.distributed.algorithms.ddp_comm_hooks.default_hooks import bf16_compress_hook

    return bf16_compress_hook(group, bucket)


def _short(error: Exception) -> str:
    return f"{str(error).splitlines()[0]:.200}"


def _of_the_network(error: RuntimeError) -> bool:
    """Gloo raises plain RuntimeErrors, which only their text tells from a fault in the network that is trained."""
    known = (dist.DistBackendError, dist.DistNetworkError, dist.DistStoreError)
    return isinstance(error, known) or "gloo" in str(error).lower()
