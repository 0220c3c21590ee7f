"""Converters to the formats of other runtimes, each in a process of its own: one that hangs, crashes or fills the
memory takes nothing along, and what it leaves behind is deleted with its folder.

python -m swiftlet.runtime.convert TARGET NAME   converts net.onnx in the current folder; NAME is for messages
"""

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from swiftlet.errors import BadFile, SwiftletError
from swiftlet.runtime.base import first_line

if TYPE_CHECKING:
    from torch import Tensor

    from swiftlet.cost.screen import Screened
    from swiftlet.runtime.torch_graph import Graph

SECONDS = 600  # the slowest that was seen took 82
FILES = {"litert": "net.tflite", "executorch": "net.pte"}


def convert(file: "Screened", target: str, *, seconds: float = SECONDS) -> bytes:
    """The file in the format of `target`, for batch 1. Raises BadFile as run_converter does."""
    with TemporaryDirectory(prefix="swiftlet-") as folder:
        (Path(folder) / "net.onnx").write_bytes(file.data)
        command = [sys.executable, "-m", "swiftlet.runtime.convert", target, file.name]
        run_converter(command, Path(folder), FILES[target], file.name, seconds=seconds)
        return (Path(folder) / FILES[target]).read_bytes()


def run_converter(command: list[str], folder: Path, made: str, name: str, *, seconds: float = SECONDS) -> None:
    """Run a program in `folder`, until it has written `made` there.

    Raises BadFile, on the network `name`, with the last line of its stderr if it fails, if it dies, or if it takes
    longer than `seconds`, when it is stopped with all that it started.
    """
    program = Path(command[0]).name if made not in FILES.values() else command[3]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "TMPDIR": str(folder)}
    with (folder / "stderr").open("w+b") as stderr:
        child = subprocess.Popen(
            command, cwd=folder, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=stderr,
            start_new_session=True,
        )  # fmt: skip
        try:
            code = child.wait(seconds)
        except subprocess.TimeoutExpired as error:
            raise BadFile(f"{name}: the conversion by {program} took more than {seconds:g} s; stopped") from error
        finally:
            with suppress(ProcessLookupError):  # what it started too
                os.killpg(child.pid, signal.SIGKILL)
            child.wait()
        stderr.seek(0)
        text = stderr.read().decode(errors="replace").strip()
    if code < 0:
        raise BadFile(f"{name}: the conversion by {program} died: {signal.Signals(-code).name}")
    if code > 0 or not (folder / made).exists():
        reason = text.splitlines()[-1] if text else f"exit code {code}"
        raise BadFile(reason if reason.startswith(name) else f"{name}: {program} refuses it: {reason}")


def _litert(graph: "Graph", image: "Tensor") -> None:
    import litert_torch

    litert_torch.convert(graph, (image,)).export("net.tflite")


def _executorch(graph: "Graph", image: "Tensor") -> None:
    import torch
    from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
    from executorch.exir import to_edge_transform_and_lower

    exported = torch.export.export(graph, (image,))
    lowered = to_edge_transform_and_lower(exported, partitioner=[XnnpackPartitioner()])
    Path("net.pte").write_bytes(lowered.to_executorch().buffer)


CONVERTERS: dict[str, Callable[["Graph", "Tensor"], None]] = {"litert": _litert, "executorch": _executorch}


def main(target: str, name: str) -> int:
    """Convert net.onnx in the current folder; the last line on stderr is the reason of a failure."""
    import torch

    from swiftlet.cost.screen import screen_onnx
    from swiftlet.runtime.onnx_io import fixed_shape, signature
    from swiftlet.runtime.torch_graph import Graph, to_tensor

    try:
        file = screen_onnx(Path("net.onnx"))._replace(name=name)
        io = signature(file)
        image: Any = to_tensor(_noise(fixed_shape(file, io, target), io.input_dtype))
        with torch.no_grad():
            CONVERTERS[target](Graph(file, fixed_sizes=True).eval(), image)
    except SwiftletError as error:
        print(str(error).splitlines()[0], file=sys.stderr)
        return 1
    except Exception as error:  # a converter may raise anything
        print(f"{type(error).__name__}: {first_line(error)}", file=sys.stderr)
        return 1
    return 0


def _noise(shape: tuple[int, ...], dtype: Any) -> Any:
    import numpy as np

    return np.random.default_rng(0).integers(0, 100, shape).astype(dtype)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
