"""Which machine a measurement was taken on, and what else it was doing: a latency without both means nothing.

`machine()` is what stays the same from call to call and is read once. `moment()` is what changes: load, frequency.
Whatever a system does not tell, as most containers and everything but Linux, is said to be unknown and is no error.
"""

import os
import platform
from dataclasses import asdict, dataclass
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from time import monotonic, process_time
from typing import Any

ROOT = Path("/")
FLAGS = (
    "avx2", "avx512f", "avx512_vnni", "avx_vnni", "avx512_bf16", "amx_bf16", "amx_int8", "asimd", "asimddp", "i8mm",
    "bf16",
)  # fmt: skip
BUSY = 0.1  # cores kept busy by others from which a race is said to be disturbed


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """What stays the same.

    cores: those that this process may use; flags: instructions that matter to networks; cache_bytes: last-level cache,
    as the system states it (a virtual machine may show its host's); governor and max_mhz: the first core's frequency
    policy; gpu: the current NVIDIA GPU, if PyTorch can use one. None is unknown.
    """

    cpu: str
    cores: int
    flags: tuple[str, ...]
    memory_bytes: int | None
    cache_bytes: int | None
    governor: str | None
    max_mhz: int | None
    gpu: str | None
    system: str
    python: str
    packages: tuple[str, ...]

    def __str__(self) -> str:
        memory = f"{self.memory_bytes / 1e9:.0f} GB" if self.memory_bytes else "memory unknown"
        cache = f"cache {self.cache_bytes / 2**20:.0f} MiB" if self.cache_bytes else "cache unknown"
        clock = f"at most {self.max_mhz} MHz" if self.max_mhz else "frequency unknown"
        policy = f"governor {self.governor or 'unknown'}, {clock}"
        hardware = (f"{self.cpu}, {self.cores} cores", " ".join(self.flags), memory, cache, policy)
        parts = (*hardware, self.gpu, self.system, *self.packages, f"python {self.python}")
        return "; ".join(part for part in parts if part)


@dataclass(frozen=True, slots=True, kw_only=True)
class Moment:
    """What changes. at, own: seconds of wall clock and of this process's CPU time; busy: CPU seconds of all processes
    (and those that a hypervisor gave to other machines) since boot; load: the system's 1-minute average. None: unknown.
    """

    at: float
    own: float
    busy: float | None
    load: float | None
    mhz: int | None

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


@cache
def machine() -> Machine:
    """This machine, as it was when first asked."""
    return read_machine(ROOT)


def read_machine(root: Path) -> Machine:
    """The machine whose /proc and /sys lie under `root`."""
    info = _cpu_info(root)
    flags = set((info.get("flags") or info.get("Features") or "").split())
    cpu = root / "sys/devices/system/cpu/cpu0"
    return Machine(
        cpu=info.get("model name") or platform.processor() or platform.machine() or "unknown processor",
        cores=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
        flags=tuple(flag for flag in FLAGS if flag in flags),
        memory_bytes=_memory(),
        cache_bytes=max(filter(None, map(_kibibytes, cpu.glob("cache/index*/size"))), default=None),
        governor=_text(cpu / "cpufreq/scaling_governor"),
        max_mhz=_megahertz(cpu / "cpufreq/cpuinfo_max_freq"),
        gpu=_gpu(),
        system=f"{platform.system()} {platform.release()} {platform.machine()}",
        python=platform.python_version(),
        packages=tuple(filter(None, map(_package, ("torch", "onnxruntime")))),
    )


def moment(root: Path = ROOT) -> Moment:
    """Now."""
    try:
        load = round(os.getloadavg()[0], 2)
    except (OSError, AttributeError):  # no such thing here
        load = None
    policy = root / "sys/devices/system/cpu/cpu0/cpufreq/scaling_cur_freq"
    running = _cpu_info(root).get("cpu MHz", "").partition(".")[0]
    mhz = _megahertz(policy) or (int(running) if running.isdigit() else None)
    return Moment(at=monotonic(), own=process_time(), busy=_busy(root), load=load, mhz=mhz)


def others(before: Moment, after: Moment) -> float | None:
    """How many cores everything else kept busy between two moments; None if the system does not tell."""
    if before.busy is None or after.busy is None or after.at <= before.at:
        return None
    return max(0.0, (after.busy - before.busy - (after.own - before.own)) / (after.at - before.at))


def disturbance(cores: float | None) -> list[str]:
    """What is to be said beside times that were taken while others kept so many cores busy."""
    if cores is None:
        return ["whether other work disturbed the times is unknown: this system does not tell"]
    if cores > BUSY:
        return [f"the machine was busy: other work used {cores:.1f} cores meanwhile, times may be too long"]
    return []


def _busy(root: Path) -> float | None:
    """user + nice + system + irq + softirq + steal of all cores, from /proc/stat's first line."""
    words = (_text(root / "proc/stat") or "").split("\n")[0].split()
    if words[:1] != ["cpu"] or len(words) < 9 or not all(word.isdigit() for word in words[1:9]):
        return None
    user, nice, system, _idle, _iowait, irq, softirq, steal = map(int, words[1:9])
    ticks: int = os.sysconf("SC_CLK_TCK")
    return (user + nice + system + irq + softirq + steal) / ticks


def _cpu_info(root: Path) -> dict[str, str]:
    """Linux's description of the first core; empty elsewhere."""
    lines = (_text(root / "proc/cpuinfo") or "").split("\n\n")[0].splitlines()
    return {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)}


def _text(path: Path) -> str | None:
    try:
        return path.read_text(errors="replace").strip()
    except OSError:  # absent, or not for us to read
        return None


def _megahertz(path: Path) -> int | None:
    """The files hold kHz."""
    text = _text(path) or ""
    return int(text) // 1000 if text.isdigit() else None


def _kibibytes(path: Path) -> int | None:
    """ "32768K" -> bytes."""
    number = (_text(path) or "").removesuffix("K")
    return int(number) * 1024 if number.isdigit() else None


def _gpu() -> str | None:
    import torch  # here: the rest of this module needs no PyTorch, and it takes a second to import

    return f"{torch.cuda.get_device_name()}, CUDA {torch.version.cuda}" if torch.cuda.is_available() else None


def _memory() -> int | None:
    if "SC_PHYS_PAGES" not in getattr(os, "sysconf_names", {}):
        return None
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def _package(name: str) -> str | None:
    try:
        return f"{name} {version(name)}"
    except PackageNotFoundError:
        return None
