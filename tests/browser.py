"""A real Chromium, headless, in which every page must be quiet: no console error, no request but for itself."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from needs import missing

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

CHROMIUM = Path("/usr/bin/chromium")
FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


@dataclass
class Tab:
    """A page and what it did that it should not have done. Clear `complaints` once they were expected and seen."""

    page: "Page"
    complaints: list[str] = field(default_factory=list)


Open = Callable[..., Tab]  # (html, *, width, height, **Playwright's context options)


@contextmanager
def chromium() -> "Iterator[Browser]":
    """Debian's Chromium. Skips, or fails in CI, where it or Playwright is absent."""
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        missing("Playwright is absent: pip install 'swiftlet[test]'")
    if not CHROMIUM.exists():
        missing(f"{CHROMIUM} is absent: apt-get update && apt-get install -y chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=list(FLAGS))
        try:
            yield browser
        finally:
            browser.close()


@contextmanager
def tabs(browser: "Browser", folder: Path) -> Iterator[Open]:
    """A function that opens HTML from a file, as a user does; at the end every tab must have been quiet."""
    opened: list[Tab] = []

    def open_html(html: str, *, width: int = 1280, height: int = 900, **options: object) -> Tab:
        file = folder / f"page{len(opened)}.html"
        file.write_text(html, "utf-8")
        context = browser.new_context(viewport={"width": width, "height": height}, **options)
        tab = Tab(context.new_page())
        tab.page.on("console", lambda m: tab.complaints.append(m.text) if m.type in ("error", "warning") else None)
        tab.page.on("pageerror", lambda error: tab.complaints.append(str(error)))
        tab.page.on("request", lambda r: None if _is_local(r.url, file) else tab.complaints.append(f"request {r.url}"))
        opened.append(tab)
        tab.page.goto(file.as_uri())
        return tab

    try:
        yield open_html
        assert [tab.complaints for tab in opened] == [[] for _ in opened]
    finally:
        for tab in opened:
            tab.page.context.close()


def _is_local(url: str, file: Path) -> bool:
    return url == file.as_uri() or url.startswith("data:")
