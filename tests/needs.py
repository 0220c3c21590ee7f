"""What a test needs from outside: skipped with the reason where it is absent, failed in CI, where it must be there."""

import os
from pathlib import Path
from typing import NoReturn

import pytest


def missing(reason: str) -> NoReturn:
    """Skip here, fail in CI: a test that quietly never runs proves nothing."""
    if os.environ.get("CI"):
        pytest.fail(f"CI must have it: {reason}")
    pytest.skip(reason)


def data_folder(name: str) -> Path:
    """The image set `name` under SWIFTLET_DATA (see docs; the sets are not part of the package)."""
    root = os.environ.get("SWIFTLET_DATA")
    if not root:
        missing(f"SWIFTLET_DATA is not set, so there is no {name}")
    folder = Path(root) / name
    if not folder.exists():
        pytest.fail(f"SWIFTLET_DATA is set, but {folder} does not exist")
    return folder
