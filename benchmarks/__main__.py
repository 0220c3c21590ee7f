"""python -m benchmarks [NAME ...]: run all benchmarks, or those named, one after the other."""

import sys

from benchmarks import count, demo, export, gpu, int8, memory, photos, plan, predict, studies, zoo

ALL = {
    "count": count.run,
    "memory": memory.run,
    "plan": plan.run,
    "predict": predict.run,
    "export": export.run,
    "int8": int8.run,
    "studies": studies.run,
    "zoo": zoo.run,
    "demo": demo.run,
    "photos": photos.run,
}

ASKED_FOR = {"gpu": gpu.run}  # needs another machine, so only by name

for name in sys.argv[1:] or ALL:
    if name not in ALL | ASKED_FOR:
        sys.exit(f"benchmarks: no {name!r}; there are {', '.join(ALL | ASKED_FOR)}")
    (ALL | ASKED_FOR)[name]()
