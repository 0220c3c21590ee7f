"""A first run in a process of its own: native code that crashes takes its process with it, so let it not be ours."""

import json
import os
import pickle
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from swiftlet.runtime.base import Runtime
from swiftlet.runtime.race import random_batch

CORE = ("onnxruntime", "torch", "null")  # swiftlet itself stands on these
SECONDS = 120.0  # for each job; some runtimes compile for a long time


class Job(NamedTuple):
    file: str
    threads: int
    batch: int


def trial(runtime: Runtime, jobs: Sequence[Job], *, seconds: float = SECONDS) -> list[str]:
    """For each job how the process died that loaded and ran it, or "". One process does all of them, and after a
    death another one goes on with those that are left. An exception is no death: it comes again, where it can be told.
    """
    outcomes: list[str] = []
    while len(outcomes) < len(jobs):
        left = list(jobs[len(outcomes) :])
        command = [sys.executable, "-c", "from swiftlet.runtime.trial import child; child()"]
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        call = pickle.dumps((runtime, left))  # between our own two processes only
        try:
            done = subprocess.run(
                command, input=call, capture_output=True, env=environment, timeout=seconds * len(left)
            )
            lines, death = done.stdout, _death(done.returncode, done.stderr)
        except subprocess.TimeoutExpired as error:
            lines, death = error.stdout or b"", f"did not finish a first run within {seconds * len(left):.0f} s"
        survived = lines.count(b"survived\n")
        outcomes += [""] * survived
        if survived < len(left):
            outcomes.append(death)
    return outcomes


def child() -> None:
    """The other side: reads the call from standard input and says so after each job."""
    runtime, jobs = pickle.loads(sys.stdin.buffer.read())
    for job in jobs:
        try:
            program = runtime.load(Path(job.file), job.threads)
            program.run(random_batch(program, job.batch))
            program.close()
        except Exception as error:  # the parent meets it again; here it only must not end the other jobs
            print(json.dumps(str(error)), file=sys.stderr)
        os.write(1, b"\nsurvived\n")


def _death(code: int, errors: bytes) -> str:
    if code < 0:
        return f"its process died of {signal.Signals(-code).name} in a first run"
    said = errors.decode(errors="replace").strip().splitlines()
    return f"its process ended with code {code} in a first run{': ' + said[-1] if said else ''}"
