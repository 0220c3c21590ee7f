"""Ask before taking much memory: a refusal with a number is better than a killed process."""

import os
from pathlib import Path

from swiftlet.errors import BadPhotos


def check_memory(needed: int, what: str) -> None:
    """Raises BadPhotos if `needed` bytes are more than half of the available memory; unknown memory is not judged."""
    available = available_memory()
    if available is not None and needed > available / 2:
        raise BadPhotos(
            f"{what} need {needed / 1e9:.2f} GB of memory and {available / 1e9:.2f} GB are available, of which "
            "swiftlet takes half at most: use a smaller input side, fewer photos or a machine with more memory"
        )


def available_memory() -> int | None:
    """Bytes that can be had without swapping, or None where the system does not say."""
    meminfo = Path("/proc/meminfo")  # sysconf counts the page cache as taken, which is nearly all memory after a while
    if meminfo.exists():
        for line in meminfo.read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    names = getattr(os, "sysconf_names", {})
    if "SC_PAGE_SIZE" in names and "SC_PHYS_PAGES" in names:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return None
