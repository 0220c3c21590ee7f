"""From the figures of a run to the evidence that its report shows."""

from typing import Any

import numpy as np
import numpy.typing as npt

from swiftlet._version import __version__
from swiftlet.budget import ALL_LIMITS, Budget
from swiftlet.check import Scored, wilson
from swiftlet.data.contract import InputContract
from swiftlet.data.photos import Photos
from swiftlet.data.split import Split
from swiftlet.plan import Plan
from swiftlet.report.evidence import ClassRow, Evidence, Limit, Picture, Step, Tried
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
    "packed_bytes": ("size of the download", "KB", 1e3),
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
    """Of fit. `result`: its Result as a dict; `scored`: its files' scores on `split`; `pixels`: what they saw."""
    weights = result["weights"]
    trained = {"trained weights": "{source}, licence {licence}, SHA-256 {sha256}".format(**weights)} if weights else {}
    int8 = scored.get("int8")
    return Evidence(
        **_common(result, budget, photos, split, contract, pixels, digest),
        **_seen(photos, split, pixels, scored[result["precision"]], scored["float32"] if int8 else None, int8),
        interrupted=result["interrupted"],
        split=result["split"],
        accuracy_float=result["accuracy_float"],
        limits=(*_limits(budget, result), *_lost_to_int8(budget, result)),
        tried=tuple(Tried(**row) for row in result["tried"]),
        notes=photos.audit.notes,
        provenance={
            "swiftlet": __version__,
            "machine": result["machine"],
            "photos (SHA-256)": photos.audit.digest,
            **trained,
            "seed": str(seed),
            "recipe": result["recipe"],
            "recipe's fields": _fields(recipe),
            "candidates": f"{len(plan.planned)} counted and timed in {plan.seconds:.0f} s",
            "trained": ", ".join(plan.shortlist),
            "time": f"{result['seconds']:.0f} s in all",
        },
    )


def gather_ladder(
    result: dict[str, Any],
    budget: Budget,
    photos: Photos,
    split: Split,
    contract: InputContract,
    pixels: npt.NDArray[np.uint8],
    ours: Scored,
    parent: Scored,
    digest: str,
    recipe: Recipe,
    seed: int,
    source: str,
) -> Evidence:
    """Of a run of shrink. `result` is its Shrunk as a dict; `ours` and `parent` are the scores on `split` of the file
    that is delivered and of the network as it came; `source` is the digest of that."""
    lost = Limit(
        name="lost by shrinking",
        limit=_points(budget.max_drop),
        measured=f"{100 * (result['parent_accuracy'] - result['accuracy']):.1f} points here; "
        "steps were admitted by the validation photos",
        met=100 * (result["parent_accuracy"] - result["accuracy"]) <= budget.max_drop,
    )
    return Evidence(
        **_common(result, budget, photos, split, contract, pixels, digest),
        **_seen(photos, split, pixels, ours, parent, ours),
        interrupted=False,
        split="test",
        accuracy_float=result["parent_accuracy"],
        limits=(*_limits(budget, result), lost),
        tried=(),
        ladder=tuple(_step(rung) for rung in result["ladder"]),
        size_limit_bytes=budget.size_bytes,
        notes=(*photos.audit.notes, *result["notes"]),
        provenance={
            "swiftlet": __version__,
            "machine": result["machine"],
            "network as it came (SHA-256)": source,
            "photos (SHA-256)": photos.audit.digest,
            "seed": str(seed),
            "recipe": _fields(recipe),
            "download": f"{result['packed']}, {result['packed_bytes']:,} bytes",
            "time": f"{result['seconds']:.0f} s in all",
        },
    )


def _common(
    result: dict[str, Any],
    budget: Budget,
    photos: Photos,
    split: Split,
    contract: InputContract,
    pixels: npt.NDArray[np.uint8],
    digest: str,
) -> dict[str, Any]:
    """The fields of the evidence that every run has."""
    audit = photos.audit
    return {
        "title": photos.name,
        "verdict": _verdict(result),
        "budget_met": not result["over"],
        "file": result["file"],
        "file_sha256": digest,
        "n": result["n"],
        "accuracy": result["accuracy"],
        "interval": result["interval"],
        "p50_ms": result["p50_ms"],
        "p90_ms": result["p90_ms"],
        "size_bytes": result["size_bytes"],
        "machine": result["machine"].partition(";")[0],
        "latency_limit_ms": budget.latency_ms,
        "photos_found": audit.found,
        "photos_used": audit.used,
        "set_aside": tuple((item.key, item.reason) for item in audit.set_aside),
        "duplicates": tuple((f"{d.split_a}: {d.a}", f"{d.split_b}: {d.b}") for d in audit.duplicates),
        "snippet": snippet(contract),
    }


def _seen(
    photos: Photos,
    split: Split,
    pixels: npt.NDArray[np.uint8],
    ours: Scored,
    before: Scored | None,
    after: Scored | None,
) -> dict[str, Any]:
    """Class by class, where `ours` is wrong, and what `before` knew that `after` does not."""
    wrong = np.flatnonzero(~ours.right)
    wrong = wrong[np.argsort(-ours.scores[wrong].max(1), kind="stable")][:SHOWN]
    lost = np.flatnonzero(before.right & ~after.right)[:SHOWN] if before and after else wrong[:0]
    return {
        "classes": tuple(_class_row(i, ours, photos.classes) for i in range(len(photos.classes))),
        "mistakes": tuple(_picture(i, ours, split, pixels, photos.classes) for i in wrong.tolist()),
        "lost_to_int8": tuple(_picture(i, after, split, pixels, photos.classes) for i in lost.tolist() if after),
    }


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
    for name in ALL_LIMITS:
        limit, got = getattr(budget, name), result["cost"][name]
        if limit is not None:
            what, text, unit = SHOWN_AS[name]
            measured = "not measured" if got is None else f"{got / unit:.4g} {text}"
            met = name not in result["over"]
            lines.append(Limit(name=what, limit=f"at most {limit / unit:g} {text}", measured=measured, met=met))
    return lines


def _lost_to_int8(budget: Budget, result: dict[str, Any]) -> list[Limit]:
    drop = 100 * (result["accuracy_float"] - result["accuracy"])
    measured = f"{drop:.1f} points here; int8 was admitted by the validation photos"
    limit, met = _points(budget.max_drop), drop <= budget.max_drop
    integer = result["precision"] != "float32"
    return [Limit(name="lost to int8", limit=limit, measured=measured, met=met)] if integer else []


def _points(limit: float) -> str:
    return f"at most {limit:g} {'point' if limit == 1 else 'points'}"


def _fields(recipe: Recipe) -> str:
    return ", ".join(f"{key} {value}" for key, value in recipe.to_json().items())


def _step(rung: dict[str, Any]) -> Step:
    same = ("precision", "accuracy", "size_bytes", "packed_bytes", "macs", "seconds", "undone", "delivered")
    return Step(name=rung["step"], latency_ms=rung["p50_ms"], **{name: rung[name] for name in same})


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
