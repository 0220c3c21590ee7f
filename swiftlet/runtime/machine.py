"""Which machine a measurement was taken on: a latency without it means nothing."""

import os
import platform
from dataclasses import dataclass
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

FLAGS = ("avx2", "avx512f", "avx512_vnni", "avx_vnni", "avx512_bf16", "amx_int8", "asimd", "asimddp", "i8mm", "bf16")


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """cores: those that this process may use; flags: instructions that matter to networks, where known."""

    cpu: str
    cores: int
    flags: tuple[str, ...]
    memory_bytes: int | None
    system: str
    python: str
    packages: tuple[str, ...]

    def __str__(self) -> str:
        memory = f"{self.memory_bytes / 1e9:.0f} GB" if self.memory_bytes else "memory unknown"
        parts = (f"{self.cpu}, {self.cores} cores", " ".join(self.flags), memory, self.system, *self.packages)
        return "; ".join(part for part in (*parts, f"python {self.python}") if part)


@cache
def machine() -> Machine:
    """This machine."""
    info = _cpu_info()
    flags = set((info.get("flags") or info.get("Features") or "").split())
    return Machine(
        cpu=info.get("model name") or platform.processor() or platform.machine(),
        cores=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
        flags=tuple(flag for flag in FLAGS if flag in flags),
        memory_bytes=_memory(),
        system=f"{platform.system()} {platform.release()} {platform.machine()}",
        python=platform.python_version(),
        packages=tuple(filter(None, map(_package, ("torch", "onnxruntime")))),
    )


def _cpu_info() -> dict[str, str]:
    """Linux's description of the first core; empty elsewhere."""
    path = Path("/proc/cpuinfo")
    if not path.exists():
        return {}
    lines = path.read_text(errors="replace").split("\n\n")[0].splitlines()
    return {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)}


def _memory() -> int | None:
    if "SC_PHYS_PAGES" not in getattr(os, "sysconf_names", {}):
        return None
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def _package(name: str) -> str | None:
    try:
        return f"{name} {version(name)}"
    except PackageNotFoundError:
        return None
