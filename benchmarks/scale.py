"""The order of 100 million pictures on 64 hosts, computed, and what each host then reads; real shards, read at random.

The order is the one that training uses. Every position of one epoch is computed, for all 64 ranks.
"""

import os
import tempfile
import time
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.ledger import record
from swiftlet.data.contract import InputContract
from swiftlet.data.photos import load_photos
from swiftlet.data.read_ahead import ReadAhead
from swiftlet.data.shard_index import ROW
from swiftlet.data.shard_place import Folder
from swiftlet.data.shard_reader import Stored, open_shards
from swiftlet.data.shards import make_shards
from swiftlet.data.split import Split
from swiftlet.train.distributed import Ranks
from swiftlet.train.draws import shuffled

PICTURES, HOSTS, BATCH = 100_000_000, 64, 8_192
PICTURE_BYTES, SHARD_BYTES = 30_000, 100_000_000
EPOCHS = (1, 3, 10)
ROUNDS = 21
AT_A_TIME = 128  # batches

Order = npt.NDArray[np.int64]


def batch(step: int, n: int, epoch: int, size: int = BATCH) -> Order:
    """The pictures of one global batch, as Training orders them."""
    return shuffled(np.arange(step * size, (step + 1) * size), n, 0, epoch)


def resume(position: int, n: int) -> dict[str, Any]:
    """Seconds until a process that knows nothing but the position has the pictures of its next batch."""
    times = []
    for epoch in range(ROUNDS):
        began = time.perf_counter()
        batch(position // BATCH, n, epoch)
        times.append(time.perf_counter() - began)
    return {"pictures": n, "position": position, "ms": round(1e3 * float(np.median(times)), 2)}


def each_once(n: int = PICTURES, hosts: int = HOSTS, size: int = BATCH) -> dict[str, Any]:
    """One epoch, position by position: what the hosts are given together, and the share of the first host."""
    steps, seen, first = n // size, np.zeros(n, np.uint8), 0
    began = time.perf_counter()
    for start in range(0, steps, AT_A_TIME):
        stop = min(start + AT_A_TIME, steps)
        order = shuffled(np.arange(start * size, stop * size), n, 0, 0).reshape(-1, size)
        for rank in range(hosts):
            part = order[:, Ranks(rank=rank, world=hosts).part(size)].ravel()
            seen[part] += 1
            first += len(part) if rank == 0 else 0
    return {
        "pictures": n,
        "hosts": hosts,
        "batch": size,
        "steps": steps,
        "given": int((seen == 1).sum()),
        "given_twice": int((seen > 1).sum()),
        "left_for_other_epochs": int((seen == 0).sum()),
        "of_one_host": first,
        "seconds": round(time.perf_counter() - began, 1),
    }


def reads(n: int = PICTURES, hosts: int = HOSTS, size: int = BATCH) -> dict[str, Any]:
    """What one host reads, from the order itself: different pictures after some epochs, and shards in a step."""
    share, seen, distinct = size // hosts, np.zeros(n, bool), {}
    per_shard = SHARD_BYTES // PICTURE_BYTES
    for epoch in range(max(EPOCHS)):
        for start in range(0, n // size, AT_A_TIME):
            steps = np.arange(start, min(start + AT_A_TIME, n // size))
            mine = (steps[:, None] * size + np.arange(share)).ravel()
            seen[shuffled(mine, n, 0, epoch)] = True
        if epoch + 1 in EPOCHS:
            distinct[str(epoch + 1)] = round(int(seen.sum()) * PICTURE_BYTES / 1e9, 1)
    touched = [len(np.unique(batch(step, n, 0, size)[:share] // per_shard)) for step in range(50)]
    return {
        "picture_bytes": PICTURE_BYTES,
        "shards": -(-n // per_shard),
        "gb_of_all": round(n * PICTURE_BYTES / 1e9),
        "gb_of_its_own_part": round(n * PICTURE_BYTES / hosts / 1e9, 1),
        "gb_read_after_epochs": distinct,
        "shards_in_a_step": float(np.median(touched)),
        "pictures_in_a_step": share,
    }


def memory_of_index(n: int = 1_000_000) -> dict[str, Any]:
    """Bytes for each picture, in a file and in a process that trains on it."""
    rows = np.zeros(n, ROW)
    tracemalloc.start()
    keys = [f"{number:09}" for number in range(n)]
    split = Split(Stored(Folder(Path()), [], rows), range(n), keys, rows["label"].tolist())
    del keys
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return {"in_the_file": ROW.itemsize, "in_the_split": round(held / len(split))}


def real(source: Path) -> dict[str, Any]:
    """Photos into shards and out of them again, warm from the page cache, by one thread and by all."""
    with tempfile.TemporaryDirectory() as folder:
        began = time.perf_counter()
        made = make_shards(source, Path(folder) / "shards", shard_mb=5, progress=None)
        making = time.perf_counter() - began
        count = sum(made.pictures.values())
        _, stored = open_shards(Path(folder) / "shards")
        order = shuffled(np.arange(count), count, 0, 0)
        began = time.perf_counter()
        for number in order:
            stored.data(int(number))
        reading = time.perf_counter() - began
        split, contract = load_photos(Path(folder) / "shards").train, InputContract(side=160)
        ahead, rows = ReadAhead(split, contract, quick=True), shuffled(np.arange(len(split)), len(split), 0, 0)
        began = time.perf_counter()
        for start in range(0, len(rows), 64):
            ahead[rows[start : start + 64]]
        decoding = time.perf_counter() - began
        ahead.close()
    return {
        "photos": count,
        "shards": made.shards,
        "bytes": made.bytes,
        "bytes_of_the_files": sum(file.stat().st_size for file in source.rglob("*.jpg")),
        "made_per_second": round(count / making),
        "read_and_checked_per_second": round(count / reading),
        "read_and_decoded_per_second": round(len(rows) / decoding),
    }


def run() -> None:
    figures = {
        "resume": [resume(1_000_000, 10_000_000), resume(50_000_000, PICTURES)],
        "epoch": each_once(),
        "one_host": reads(),
        "memory": memory_of_index(),
        "real": real(Path(os.environ["SWIFTLET_DATA"]) / "clothing10"),
    }
    record("scale", "python -m benchmarks scale", figures)
