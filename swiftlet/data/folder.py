"""A folder per class, alone or under train/ val/ test/.

Subfolders inside a class are walked. Never followed: symbolic links. Passed over without a word: names that start with
a dot, and what operating systems leave behind (Thumbs.db, desktop.ini, __MACOSX, @eaDir). Set aside with a reason:
links, files that are no JPEG, PNG or WebP, files in no class folder, what cannot be read, names that are not Unicode.
"""

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from swiftlet.data.decode import FORMATS, NOT_A_PHOTO
from swiftlet.data.listing import SPLIT_NAMES, SPLITS, Files, Listing, SetAside
from swiftlet.errors import BadPhotos

LITTER = {"thumbs.db", "desktop.ini", "__macosx", "@eadir"}
NO_CLASS = "in no class folder"


def list_folder(root: Path, classes: tuple[str, ...] | None = None) -> Listing:
    """The photos under `root`, sorted by key; a key is the path below `root` with forward slashes.

    Classes are the sorted names of the class folders (of train/, if there are splits) unless `classes` gives them.
    Raises BadPhotos for a class folder that is not among the classes, or a split given twice.
    """
    aside: list[SetAside] = []
    notes: list[str] = []
    tops, loose = _entries(root, "", aside)
    given = _given_splits(root, [Path(top).name for top in tops])
    if given:
        homes = {name: split for split, name in given.items()}
        aside += [SetAside(top.name, "neither train, val nor test") for top in tops if top.name not in homes]
        places: list[tuple[str, Path]] = []
        for name, split in sorted(homes.items()):
            folders, files = _entries(root / name, f"{name}/", aside)
            places += [(split, folder) for folder in folders]
            loose += files
        if list(given) == ["train"]:
            places = [("", folder) for _, folder in places]
            notes.append("there is only a train folder: validation and test photos are taken from it")
            given = {}
    else:
        places = [("", folder) for folder in tops]
    aside += [SetAside(file.relative_to(root).as_posix(), NO_CLASS) for file in loose]

    teaching = ("", "train") if not given or "train" in given else SPLITS
    known = classes or tuple(sorted({folder.name for split, folder in places if split in teaching}))
    found: list[tuple[str, int, str, Path]] = []
    for split, folder in places:
        if folder.name not in known:
            names = ", ".join(known) or "none"
            whose = "the file's" if classes else "train's"
            raise BadPhotos(
                f"{folder}: class {folder.name!r} is not one of {whose} classes ({names}); rename or remove it"
            )
        for file in _walk(folder, root, aside):
            found.append((file.relative_to(root).as_posix(), known.index(folder.name), split, file))
    found.sort(key=lambda item: item[0])
    return Listing(
        name=root.resolve().name,
        classes=known,
        keys=tuple(key for key, *_ in found),
        labels=np.array([label for _, label, *_ in found], np.int64),
        splits=np.array([split for *_, split, _ in found], "U5"),
        pictures=Files([path for *_, path in found]),
        given=frozenset(given),
        set_aside=tuple(sorted(aside, key=lambda item: item.key)),
        notes=tuple(notes),
    )


def _given_splits(root: Path, names: list[str]) -> dict[str, str]:
    """{split: folder name} if the folders at the top are splits, {} if they are classes.

    They are splits if two or more of them are called so, or there are no others: one class may well be named "train".
    """
    given: dict[str, str] = {}
    called = [name for name in names if name.lower() in SPLIT_NAMES]
    if len(called) < 2 and called != names:
        return given
    for name in called:
        split = SPLIT_NAMES[name.lower()]
        if split in given:
            raise BadPhotos(f"{root}: both {given[split]!r} and {name!r} say they are the {split} split; remove one")
        given[split] = name
    return given


def _walk(folder: Path, root: Path, aside: list[SetAside]) -> Iterator[Path]:
    """The photo files at any depth below `folder`."""
    waiting = [folder]
    while waiting:
        here = waiting.pop()
        folders, files = _entries(here, f"{here.relative_to(root).as_posix()}/", aside)
        waiting += folders
        yield from files


def _entries(folder: Path, prefix: str, aside: list[SetAside]) -> tuple[list[Path], list[Path]]:
    """(subfolders, photo files) directly in `folder`, each sorted; all else is passed over or set aside."""
    folders, files = [], []
    try:
        with os.scandir(folder) as scan:
            entries = sorted(scan, key=lambda entry: entry.name)
    except OSError as error:
        aside.append(SetAside(prefix.rstrip("/") or str(folder), f"cannot be listed: {error.strerror or error}"))
        return [], []
    for entry in entries:
        if entry.name.startswith(".") or entry.name.lower() in LITTER:
            continue
        key = prefix + os.fsencode(entry.name).decode("utf-8", "backslashreplace")
        if key != prefix + entry.name:
            aside.append(SetAside(key, "its name is not Unicode"))
        elif entry.is_symlink():
            aside.append(SetAside(key, "symbolic link: swiftlet does not follow links"))
        elif entry.is_dir(follow_symlinks=False):
            folders.append(Path(entry.path))
        elif Path(entry.name).suffix.lower() not in FORMATS:
            aside.append(SetAside(key, NOT_A_PHOTO))
        else:
            files.append(Path(entry.path))
    return folders, files
