"""Write a finding: NAME.json, NAME.png and NAME.html, one page that needs nothing beside it."""

import base64
import hashlib
import io
import json
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from swiftlet.errors import MissingExtra
from swiftlet.files import write_atomically
from swiftlet.study import get_study
from swiftlet.study.finding import Finding, Table

HERE = Path(__file__).parent


def write(finding: Finding, folder: Path) -> dict[str, Path]:
    """The three files by their kind. Raises MissingExtra without matplotlib."""
    picture = png(finding)
    folder.mkdir(parents=True, exist_ok=True)
    contents = {
        "json": json.dumps(finding.to_json(), indent=1, allow_nan=False).encode(),
        "png": picture,
        "html": page(finding, picture).encode(),
    }
    paths = {kind: folder / f"{finding.study}.{kind}" for kind in contents}
    for kind, path in paths.items():
        write_atomically(path, contents[kind])
    return paths


def need_matplotlib() -> None:
    """Raise MissingExtra, before anything is timed, if there is nothing to draw with."""
    if find_spec("matplotlib") is None:
        raise MissingExtra("the studies draw with matplotlib: pip install 'swiftlet[study]'")


def png(finding: Finding) -> bytes:
    """The study's figure, 150 dots per inch."""
    need_matplotlib()
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # no pyplot: it keeps every figure in a global list
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 5), layout="constrained")
    FigureCanvasAgg(figure)
    get_study(finding.study).draw(finding, figure)
    figure.suptitle(finding.title)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=150, metadata={"Software": None})
    return buffer.getvalue()


def page(finding: Finding, picture: bytes) -> str:
    """The page with its picture inside; it loads nothing and runs nothing."""
    return render("page.html", finding=finding, picture=inline(picture), cell=cell, numeric=is_numeric)


def render(template: str, **values: Any) -> str:
    """A page of this folder with page.css in it, whose policy forbids everything else."""
    import jinja2
    from markupsafe import Markup

    style = (HERE / "page.css").read_text("utf-8")
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(HERE), autoescape=True, trim_blocks=True, undefined=jinja2.StrictUndefined
    )
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    return environment.get_template(template).render(style=Markup(style), style_hash=f"'sha256-{digest}'", **values)


def inline(picture: bytes) -> str:
    """A PNG as an address that holds it."""
    return f"data:image/png;base64,{base64.b64encode(picture).decode()}"


def cell(value: Any) -> str:
    """A number with as many digits as a reader needs."""
    if value is None:
        return ""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return str(value)
    return f"{value:,}" if isinstance(value, int) else f"{value:.3g}" if abs(value) < 1000 else f"{value:,.0f}"


def is_numeric(table: Table, place: int) -> bool:
    """Whether a column is aligned to the right."""
    return all(row[place] is None or isinstance(row[place], (int, float)) for row in table.rows)
