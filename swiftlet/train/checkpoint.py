"""Checkpoints: tensors in safetensors, facts in JSON, on disk whole or not at all."""

import hashlib
import json
import os
import re
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from uuid import uuid4

from safetensors import SafetensorError, safe_open
from safetensors.torch import load, save
from torch import Tensor

from swiftlet.errors import BadFile, BadInput, CannotSave, RunBusy
from swiftlet.files import sync_folder, write_atomically, write_synced

FORMAT = 1
MANIFEST = "manifest.json"


def save_checkpoint(path: Path, tensors: dict[str, Tensor], facts: Mapping[str, object]) -> None:
    """Store tensors and JSON facts in one file."""
    write_atomically(path, save(_contiguous(tensors), {"facts": json.dumps(dict(facts), sort_keys=True)}))


def load_checkpoint(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read what save_checkpoint wrote. Raises BadFile if it is not such a file."""
    try:
        with safe_open(path, framework="pt") as file:
            facts = json.loads((file.metadata() or {})["facts"])
            if not isinstance(facts, dict):
                raise ValueError("its facts are no object")
            return {name: file.get_tensor(name) for name in file.keys()}, facts  # noqa: SIM118 (not a dict)
    except (SafetensorError, KeyError, ValueError) as error:
        raise BadFile(f"{path}: not a swiftlet checkpoint ({error}); delete it to start this part again") from error


class Checkpoints:
    """The checkpoints of one training in a folder, the newest `keep` of them: step-00000123-1/ and so on.

    Each is a folder with tensors.safetensors, facts.json and a manifest with the SHA-256 of both. It is written under
    another name, every file and folder is fsynced, and one rename makes it count, so a crash at any moment leaves
    the checkpoints that were there before, and the new one whole or not at all.

    One process owns the folder, the one that called `claim` last: a file owner-N says so, and its checkpoints carry N
    in their name and manifest. An owner that was paused meanwhile cannot commit any more: the new one has taken
    its half-written checkpoint away, so that the rename fails even where the pause came right before it. Two owners
    never use one name, so nothing is ever replaced. Others may read.
    """

    def __init__(self, folder: Path, *, keep: int = 2) -> None:
        if keep < 1:
            raise BadInput(f"Checkpoints: keep={keep}, needs at least 1")
        self.folder, self.keep = folder, keep
        self.token: int | None = None  # of the claim, None before
        self._good: set[Path] = set()  # what this process has verified, or written itself
        self._damaged: set[Path] = set()

    def claim(self) -> None:
        """Own the folder from now on, make it if it is not there, and clear away what killed owners left half-written.

        Raises CannotSave if it cannot be written to.
        """
        with self._saving("this folder cannot be used"):
            self.folder.mkdir(parents=True, exist_ok=True)
            sync_folder(self.folder.parent)
            self.token = self._next_token()
            for path in self.folder.iterdir():
                if ".tmp-" in path.name or (_OWNER.fullmatch(path.name) and _owner(path) < self.token):
                    self._remove(path)
            sync_folder(self.folder)

    def save(self, step: int, tensors: dict[str, Tensor], facts: Mapping[str, object]) -> Path:
        """Store a checkpoint, durably, and remove the ones before it but for the newest `keep`; gives its folder.

        Claims the folder if this process has not. A step that this process knows to be there is not written again.
        Raises CannotSave if it fails, on a full disk say, and RunBusy if another process has claimed the folder; the
        checkpoints from before are untouched then.
        """
        if self.token is None:
            self.claim()
        for path in self._good:
            if _step(path) == step and path.is_dir():
                return path
        final = self.folder / f"step-{step:08d}-{self.token}"
        partial = final.with_name(f"{final.name}.tmp-{uuid4().hex[:8]}")
        with self._saving(f"step {step} cannot be saved"):
            try:
                self._write(partial, step, tensors, facts)
                self._still_owner()
                partial.rename(final)
                sync_folder(self.folder)
                self._good.add(final)
                self._still_owner()
                self._prune()
            except OSError:
                with suppress(OSError):  # what cannot be removed now is cleared away by the next owner
                    self._remove(partial)
                self._still_owner()  # if not, the new owner has taken something away, and that is the reason
                raise
        return final

    def latest(self) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
        """Tensors and facts of the newest checkpoint whose every byte is as it was written; None if there is none.

        A damaged one is passed over with a warning that names it. Raises BadFile if all that there are are damaged.
        """
        passed = []
        for path in self._committed():
            try:
                found = _read(path)
            except (BadFile, OSError) as error:
                self._damaged.add(path)
                passed.append(f"{path.name} ({error})")
                continue
            self._good.add(path)
            if passed:
                warnings.warn(f"{self.folder}: going on from {path.name}; damaged: {'; '.join(passed)}", stacklevel=2)
            return found
        if passed:
            raise BadFile(f"{self.folder}: all checkpoints are damaged; delete it to start again: {'; '.join(passed)}")
        return None

    def _write(self, partial: Path, step: int, tensors: dict[str, Tensor], facts: Mapping[str, object]) -> None:
        partial.mkdir()
        files = {
            "tensors.safetensors": save(_contiguous(tensors)),
            "facts.json": json.dumps(dict(facts), sort_keys=True, allow_nan=False).encode(),
        }
        for name, content in files.items():
            write_synced(partial / name, content)
        digests = {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}
        manifest = {"format": FORMAT, "step": step, "owner": self.token, "sha256": digests}
        write_synced(partial / MANIFEST, json.dumps(manifest, sort_keys=True, indent=1).encode())
        sync_folder(partial)

    def _prune(self) -> None:
        committed = self._committed()
        kept = [path for path in committed if path in self._good][: self.keep]
        old = committed[committed.index(kept[-1]) + 1 :] if len(kept) == self.keep else []
        for path in {*old, *(self._damaged & {*committed})}:
            self._remove(path)

    def _remove(self, path: Path) -> None:
        """Of a folder the name goes first: nobody takes it for a checkpoint while its files go one by one."""
        if not path.is_dir():
            path.unlink(missing_ok=True)
            return
        path = path.rename(path.with_name(f"{path.name}.tmp-{uuid4().hex[:8]}"))
        for file in path.iterdir():
            file.unlink()
        path.rmdir()

    def _committed(self) -> list[Path]:
        """Newest first: the highest step, and of two with the same step that of the later owner."""
        if not self.folder.is_dir():
            return []
        found = [path for path in self.folder.iterdir() if _STEP.fullmatch(path.name)]
        return sorted(found, key=lambda path: (_step(path), _owner(path)), reverse=True)

    def _next_token(self) -> int:
        while True:
            token = 1 + self._newest_token()
            with suppress(FileExistsError):
                os.close(os.open(self.folder / f"owner-{token}", os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644))
                return token

    def _newest_token(self) -> int:
        names = (path for path in self.folder.iterdir() if _OWNER.fullmatch(path.name) or _STEP.fullmatch(path.name))
        return max(map(_owner, names), default=0)

    def _still_owner(self) -> None:
        if self._newest_token() != self.token:
            raise RunBusy(f"{self.folder}: another process has taken over; this one was owner {self.token} and stops")

    @contextmanager
    def _saving(self, what: str) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            why = error.strerror or error
            raise CannotSave(
                f"{self.folder}: {what} ({why}); checkpoints from before are intact: mend that and run the same "
                "command again"
            ) from error


_STEP = re.compile(r"step-\d{8,}-\d+")
_OWNER = re.compile(r"owner-\d+")


def _step(path: Path) -> int:
    return int(path.name.split("-")[1])


def _owner(path: Path) -> int:
    return int(path.name.rpartition("-")[2])


def _read(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """A checkpoint's tensors and facts, every byte verified. Raises BadFile, or OSError."""
    try:
        manifest = json.loads((path / MANIFEST).read_bytes())
        if manifest["format"] != FORMAT:
            raise BadFile(f"format {manifest['format']!r}, this version reads {FORMAT}")
        if path.name != f"step-{manifest['step']:08d}-{manifest['owner']}":
            raise BadFile(f"its manifest is of step {manifest['step']}, owner {manifest['owner']}")
        contents = {}
        for name in ("tensors.safetensors", "facts.json"):
            contents[name] = (path / name).read_bytes()
            if hashlib.sha256(contents[name]).hexdigest() != manifest["sha256"][name]:
                raise BadFile(f"{name} is not as it was written")
        # cloned into memory as torch aligns it, so that a resumed run computes like one that never stopped
        tensors = {name: tensor.clone() for name, tensor in load(contents["tensors.safetensors"]).items()}
        return tensors, json.loads(contents["facts.json"])
    except (SafetensorError, KeyError, TypeError, ValueError) as error:
        raise BadFile(f"no whole manifest: {error}") from error


def _contiguous(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: t.detach().contiguous() for name, t in tensors.items()}
