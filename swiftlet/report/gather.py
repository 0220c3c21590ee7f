"""From the figures of a run to the evidence that its report shows."""

from typing import Any

import numpy as np
import numpy.typing as npt

from swiftlet._version import __version__
from swiftlet.budget import LIMITS, Budget
from swiftlet.check import Scored, wilson
from swiftlet.data.contract import InputContract
from swiftlet.data.photos import Photos
from swiftlet.data.split import Split
from swiftlet.plan import Plan
from swiftlet.report.evidence import ClassRow, Evidence, Limit, Picture, Tried
from swiftlet.train.recipe import Recipe

SHOWN = 24  # pictures a section
SNIPPET = """\
import json, numpy, onnxruntime
from PIL import Image, ImageOps

session = onnxruntime.InferenceSession("model.onnx")
photo = ImageOps.exif_transpose(Image.open("photo.jpg")).convert("RGB")
pixels = numpy.asarray(ImageOps.fit(photo, ({side}, {side}), Image.Resampling.{resize}{bleed}))[None]
scores = session.run(None, {{"image": pixels}})[0][0]
print(json.loads(session.get_modelmeta().custom_metadata_map["swiftlet"])["labels"][scores.argmax()], scores.max())
"""
SHOWN_AS = {  # limit: what it is called, its unit, how many make one
    "size_bytes": ("size of the file", "KB", 1e3),
    "latency_ms": ("median latency", "ms", 1.0),
    "macs": ("multiply-adds", "million", 1e6),
    "flops": ("FLOPs", "million", 1e6),
    "params": ("parameters", "thousand", 1e3),
    "memory_access_bytes": ("memory access", "KB", 1e3),
    "peak_activation_bytes": ("peak activations", "KB", 1e3),
}


def gather(
    result: dict[str, Any],
    plan: Plan,
    budget: Budget,
    photos: Photos,
    split: Split,
    contract: InputContract,
    pixels: npt.NDArray[np.uint8],
    scored: dict[str, Scored],
    digest: str,
    recipe: Recipe,
    seed: int,
) -> Evidence:
    """`result` is the run's Result as a dict, `scored` its files' scores on `split`, `pixels` what they saw."""
    ours, parent = scored[result["precision"]], scored["float32"]
    audit, weights = photos.audit, result["weights"]
    trained = {"trained weights": "{source}, licence {licence}, SHA-256 {sha256}".format(**weights)} if weights else {}
    wrong = np.flatnonzero(~ours.right)
    wrong = wrong[np.argsort(-ours.scores[wrong].max(1), kind="stable")][:SHOWN]
    lost = np.flatnonzero(parent.right & ~scored["int8"].right)[:SHOWN] if "int8" in scored else wrong[:0]
    return Evidence(
        title=photos.name,
        verdict=_verdict(result),
        budget_met=result["budget_met"],
        interrupted=result["interrupted"],
        file=result["file"],
        file_sha256=digest,
        split=result["split"],
        n=result["n"],
        accuracy=result["accuracy"],
        interval=result["interval"],
        accuracy_float=result["accuracy_float"],
        p50_ms=result["p50_ms"],
        p90_ms=result["p90_ms"],
        size_bytes=result["size_bytes"],
        machine=result["machine"].partition(";")[0],
        latency_limit_ms=budget.latency_ms,
        limits=tuple(_limits(budget, result)),
        tried=tuple(Tried(**row) for row in result["tried"]),
        classes=tuple(_class_row(i, ours, photos.classes) for i in range(len(photos.classes))),
        mistakes=tuple(_picture(i, ours, split, pixels, photos.classes) for i in wrong.tolist()),
        lost_to_int8=tuple(_picture(i, scored["int8"], split, pixels, photos.classes) for i in lost.tolist()),
        photos_found=audit.found,
        photos_used=audit.used,
        set_aside=tuple((item.key, item.reason) for item in audit.set_aside),
        duplicates=tuple((f"{d.split_a}: {d.a}", f"{d.split_b}: {d.b}") for d in audit.duplicates),
        notes=audit.notes,
        snippet=snippet(contract),
        provenance={
            "swiftlet": __version__,
            "machine": result["machine"],
            "photos (SHA-256)": audit.digest,
            **trained,
            "seed": str(seed),
            "recipe": result["recipe"],
            "recipe's fields": ", ".join(f"{key} {value}" for key, value in recipe.to_json().items()),
            "candidates": f"{len(plan.planned)} counted and timed in {plan.seconds:.0f} s",
            "trained": ", ".join(plan.shortlist),
            "time": f"{result['seconds']:.0f} s in all",
        },
    )


def snippet(contract: InputContract) -> str:
    """The lines of Python that run the file on the pixels of its contract."""
    bleed = "" if contract.crop_pct == 1 else f", bleed={(1 - contract.crop_pct) / 2}"
    return SNIPPET.format(side=contract.side, resize=contract.resize.upper(), bleed=bleed)


def _verdict(result: dict[str, Any]) -> str:
    if result["over"]:
        return "Over budget: " + "; ".join(f"{name} {why}" for name, why in result["over"].items())
    return f"{result['network']} as {result['precision']}, within the budget"


def _limits(budget: Budget, result: dict[str, Any]) -> list[Limit]:
    lines = []
    for name in LIMITS:
        limit = getattr(budget, name)
        if limit is not None:
            what, text, unit = SHOWN_AS[name]
            got = result["cost"][name]
            lines.append(
                Limit(
                    name=what,
                    limit=f"at most {limit / unit:g} {text}",
                    measured=f"{got / unit:.4g} {text}",
                    met=name not in result["over"],
                )
            )
    drop = 100 * (result["accuracy_float"] - result["accuracy"])
    if result["precision"] != "float32":
        limit = f"at most {budget.max_drop:g} {'point' if budget.max_drop == 1 else 'points'}"
        measured = f"{drop:.1f} points here; int8 was admitted by the validation photos"
        lines.append(Limit(name="lost to int8", limit=limit, measured=measured, met=drop <= budget.max_drop))
    return lines


def _class_row(label: int, scored: Scored, classes: tuple[str, ...]) -> ClassRow:
    mine = scored.labels == label
    n, right = int(mine.sum()), int((mine & scored.right).sum())
    taken_for = np.bincount(scored.scores.argmax(1)[mine & ~scored.right], minlength=len(classes))
    return ClassRow(
        label=classes[label],
        n=n,
        right=right,
        interval=wilson(right, n) if n else None,
        confused_with=classes[int(taken_for.argmax())] if taken_for.any() else None,
    )


def _picture(i: int, scored: Scored, split: Split, pixels: npt.NDArray[np.uint8], classes: tuple[str, ...]) -> Picture:
    return Picture(
        key=split.keys[i],
        pixels=pixels[i],
        truth=classes[scored.labels[i]],
        predicted=classes[int(scored.scores[i].argmax())],
        confidence=float(scored.scores[i].max()),
    )
