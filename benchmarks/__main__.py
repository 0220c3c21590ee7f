"""python -m benchmarks [NAME ...]: run all benchmarks, or those named, one after the other."""

import sys

from benchmarks import (
    accuracy,
    count,
    decode,
    demo,
    export,
    factorize,
    gpu,
    int8,
    int8_collapse,
    kills,
    memory,
    minutes,
    mutants,
    pack,
    photos,
    plan,
    predict,
    saturation,
    scale,
    shrink,
    studies,
    train_throughput,
    wire,
    zoo,
)

ALL = {
    "count": count.run,
    "memory": memory.run,
    "plan": plan.run,
    "predict": predict.run,
    "export": export.run,
    "int8": int8.run,
    "int8_collapse": int8_collapse.run,
    "saturation": saturation.run,
    "factorize": factorize.run,
    "studies": studies.run,
    "zoo": zoo.run,
    "demo": demo.run,
    "photos": photos.run,
    "kills": kills.run,
    "decode": decode.run,
    "train_throughput": train_throughput.run,
    "scale": scale.run,
    "pack": pack.run,
    "mutants": mutants.run,
}

# hours, another machine, root, or the extra `rivals`: so only by name
ASKED_FOR = {"accuracy": accuracy.run, "gpu": gpu.run, "minutes": minutes.run, "shrink": shrink.run, "wire": wire.run}

for name in sys.argv[1:] or ALL:
    if name not in ALL | ASKED_FOR:
        sys.exit(f"benchmarks: no {name!r}; there are {', '.join(ALL | ASKED_FOR)}")
    (ALL | ASKED_FOR)[name]()
