import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from browser import Open, chromium, tabs

if TYPE_CHECKING:
    from playwright.sync_api import Browser


# No test sees what this machine's hub cache holds, or asks the hub; read when huggingface_hub is imported.
os.environ |= {"HF_HOME": "/nonexistent/huggingface", "HF_HUB_OFFLINE": "1"}


@pytest.fixture(scope="module")  # not the session: Playwright holds an event loop, and others may want their own
def browser() -> "Iterator[Browser]":
    with chromium() as running:
        yield running


@pytest.fixture
def open_html(browser: "Browser", tmp_path: Path) -> Iterator[Open]:
    """Opens a page of HTML in a browser; fails the test if it asks for anything or logs an error. See browser.py."""
    with tabs(browser, tmp_path) as opener:
        yield opener
