"""The command line: parse, call one library function, print.

Exit codes: 0 it fits or passes; 1 it does not; 2 the call, the photos or a file are at fault; 130 interrupted;
143 terminated by SIGTERM, after saving.
"""

import json
import sys
from collections.abc import Callable
from functools import wraps
from typing import Annotated, Any

import typer

from swiftlet._version import __version__
from swiftlet.cli import jobs, measure, pack, shards, shrinking, study, training
from swiftlet.errors import Infeasible, SwiftletError
from swiftlet.signals import Terminated

app = typer.Typer(
    name="swiftlet",
    help="Photos and a budget in; the most accurate small network that fits, as a checked file, out.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


def main() -> None:
    """Entry point. Errors that swiftlet raises on purpose become one line and an exit code, everything else a trace."""
    try:
        code = app(standalone_mode=False)
    except Infeasible as error:
        code = _fail(error, 1)
    except SwiftletError as error:
        code = _fail(error, 2)
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        code = _fail(f"{where}{error.strerror or error}; mend that and run the same command again", 2)
    except typer.TyperException as error:
        code = _fail(error, 2)
    except (_Interrupted, typer.Abort) as error:
        code = _fail(str(error) or "interrupted", 130)
    except Terminated:
        code = _fail("terminated; all is saved, the same command goes on from here", 143)
    sys.exit(code if isinstance(code, int) else 0)


RESUMABLE = ("fit", "train", "shrink", "study")


class _Interrupted(Exception):
    """KeyboardInterrupt, which Typer would turn into a silent exit."""


def _told(name: str, verb: Callable[..., int]) -> Callable[..., int]:
    """The verb, whose interruption is told."""

    @wraps(verb)
    def call(*args: Any, **options: Any) -> int:
        try:
            return verb(*args, **options)
        except KeyboardInterrupt:
            onward = "the same command goes on from here" if name in RESUMABLE else "nothing was kept"
            raise _Interrupted(f"interrupted; {onward}") from None

    return call


def _fail(error: object, code: int) -> int:
    if "--json" in sys.argv:
        print(json.dumps({"error": str(error)}))
    print(f"swiftlet: {error}", file=sys.stderr)
    return code


def _version(asked: bool) -> None:
    if asked:
        print(f"swiftlet {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None: ...


VERBS: dict[str, Callable[..., int]] = {
    "fit": jobs.fit,
    "plan": jobs.plan,
    "train": training.train,
    "shrink": shrinking.shrink,
    "shards": shards.shards,
    "show": jobs.show,
    "list": measure.list_,
    "count": measure.count,
    "time": measure.time_,
    "check": measure.check,
    "pack": pack.pack,
    "unpack": pack.unpack,
    "fuzz": pack.fuzz,
    "study": study.study,
    "doctor": measure.doctor,
}
for name, verb in VERBS.items():
    app.command(name)(_told(name, verb))
