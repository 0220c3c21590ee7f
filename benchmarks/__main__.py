"""python -m benchmarks [NAME ...]: run all benchmarks, or those named, one after the other."""

import sys

from benchmarks import demo, export, int8, photos, plan, zoo

ALL = {
    "plan": plan.run,
    "export": export.run,
    "int8": int8.run,
    "zoo": zoo.run,
    "demo": demo.run,
    "photos": photos.run,
}

for name in sys.argv[1:] or ALL:
    if name not in ALL:
        sys.exit(f"benchmarks: no {name!r}; there are {', '.join(ALL)}")
    ALL[name]()
