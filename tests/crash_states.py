"""What a disk may hold after a crash: every prefix of the calls that changed it, less what was never fsynced.

`recorded` notes the calls; `crash_states` replays them. Two things need no fsync to survive a killed process but do to
survive a power cut, so they may be missing from a state: the content of a file, and each single name in a folder.
"""

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

import pytest

CALLS = ("open", "write", "fsync", "close", "mkdir", "rename", "unlink", "rmdir")
LOSSES: dict[str, Callable[[bytes], bytes]] = {
    "whole": lambda content: content,
    "cut": lambda content: content[: len(content) // 2],
    "zeros": lambda content: bytes(len(content)),
    "empty": lambda content: b"",
}


_close = os.close


@dataclass(frozen=True)
class Call:
    kind: str  # create, write, fsync, mkdir, rename, unlink, rmdir
    path: Path
    to: Path = Path()
    content: bytes = b""


@contextmanager
def before_each(hook: Callable[[str, tuple], None]) -> Iterator[None]:
    """Inside, hook(name, arguments) is called ahead of every one of CALLS that could change a disk."""

    def wrap(name: str) -> Callable:
        real = getattr(os, name)

        def call(*args, **kwargs):
            reading = name == "open" and not args[1] & os.O_CREAT
            if not reading:
                hook(name, args)
            return real(*args, **kwargs)

        return call

    with pytest.MonkeyPatch.context() as patch:
        for name in CALLS:
            patch.setattr(os, name, wrap(name))
        yield


@contextmanager
def recorded() -> Iterator[list[Call]]:
    calls: list[Call] = []

    def hook(name: str, args: tuple) -> None:
        if name == "open":
            calls.append(Call("create", Path(args[0])))
        elif name in ("write", "fsync"):
            path = Path(f"/proc/self/fd/{args[0]}").readlink()
            calls.append(Call(name, path, content=bytes(args[1]) if name == "write" else b""))
        elif name == "rename":
            calls.append(Call(name, Path(args[0]), to=Path(args[1])))
        elif name != "close":
            calls.append(Call(name, Path(args[0])))

    with before_each(hook):
        yield calls


def crash_states(calls: list[Call], before: Path, scratch: Path) -> Iterator[tuple[int, Path]]:
    """(calls made, folder in the state after the crash), the folder in turn; `before` is a copy of it as it was."""
    for made in range(len(calls) + 1):
        done = calls[:made]
        names = [i for i, call in enumerate(done) if call.kind not in ("write", "fsync") and not _synced(done, i)]
        lost = [set(some) for n in range(len(names) + 1) for some in combinations(names, n)]
        for missing in lost if len(names) <= 3 else [set(), set(names), *({name} for name in names)]:
            unsynced = any(call.kind == "write" and not _written(done, i) for i, call in enumerate(done))
            for loss in LOSSES.values() if unsynced else [LOSSES["whole"]]:
                shutil.rmtree(scratch, ignore_errors=True)
                if before.exists():
                    shutil.copytree(before, scratch)
                _replay(done, missing, loss)
                yield made, scratch


def _synced(calls: list[Call], i: int) -> bool:
    return any(call.kind == "fsync" and call.path == calls[i].path.parent for call in calls[i + 1 :])


def _written(calls: list[Call], i: int) -> bool:
    return any(call.kind == "fsync" and call.path == calls[i].path for call in calls[i + 1 :])


def _replay(calls: list[Call], missing: set[int], loss: Callable[[bytes], bytes]) -> None:
    real: dict[Path, Path] = {}  # where a rename got lost: its new name -> the old one

    def now(path: Path) -> Path:
        for new, old in real.items():
            if path == new or new in path.parents:
                return old / path.relative_to(new)
        return path

    for i, call in enumerate(calls):
        path = now(call.path)
        if i in missing:
            if call.kind == "rename":
                real[call.to] = path
        elif call.kind == "fsync":
            pass
        elif call.kind == "mkdir":
            if path.parent.exists() and not path.exists():
                path.mkdir()
        elif call.kind == "create":
            if path.parent.exists():
                path.touch()
        elif path.exists():
            if call.kind == "write":
                with path.open("ab") as file:
                    file.write(call.content if _written(calls, i) else loss(call.content))
            elif call.kind == "rename":
                path.rename(call.to)
            elif call.kind == "unlink":
                path.unlink()
            elif not any(path.iterdir()):
                path.rmdir()


class Failing:
    """A hook for before_each: call number `at` fails, and with `ever` all from then on."""

    def __init__(self, at: int, code: int, *, ever: bool) -> None:
        self.at, self.code, self.ever, self.calls = at, code, ever, 0

    def __call__(self, name: str, args: tuple) -> None:
        self.calls += 1
        if self.calls == self.at or (self.ever and self.calls > self.at):
            if name == "close":
                _close(args[0])
            raise OSError(self.code, os.strerror(self.code))
