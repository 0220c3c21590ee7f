"""swiftlet shrink: what it opens, how far down it goes, what it delivers, and that it goes on where it was stopped."""

import copy
import json
import os
import signal
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper
from torch import fx, nn
from toy import write_photos

from swiftlet import gate as gate_module
from swiftlet import quantizing
from swiftlet.budget import Budget
from swiftlet.check import check, load_classifier
from swiftlet.cli import app
from swiftlet.compress.batchnorm import recalibrate
from swiftlet.compress.quantize import quantize
from swiftlet.compress.record import Record
from swiftlet.compress.reparameterize import deployed
from swiftlet.cost.count import count_model
from swiftlet.data.contract import InputContract
from swiftlet.data.photos import load_photos
from swiftlet.errors import BadFile, BadInput, Infeasible
from swiftlet.export.artifact import Artifact
from swiftlet.export.onnx import export_onnx
from swiftlet.pack.onnx import unpack_onnx
from swiftlet.run import Run
from swiftlet.shrinking import few_bits, ladder, narrow, offers, smaller, verb, workplace
from swiftlet.shrinking.source import open_source
from swiftlet.shrinking.teach import engine_of, epochs_in, healing, recipe_of, teach
from swiftlet.shrinking.verb import Shrunk, shrink
from swiftlet.shrinking.workplace import Workplace
from swiftlet.signals import Terminated
from swiftlet.train.engine import Engine
from swiftlet.training import train
from swiftlet.zoo import create_model
from swiftlet.zoo.weights.own import save_weights

MINUTES = 0.4
LONGER = 0.8  # where a rung has to hold its accuracy, also beside other tests


@pytest.fixture(scope="module", autouse=True)
def no_int8_is_slow() -> Iterator[None]:
    """Of networks as small as these, int8 may or may not be faster, as the machine pleases."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(gate_module, "SAME", 1e9)
        patched.setattr(gate_module, "RACE_SECONDS", 0.1)
        patched.setattr(verb, "RACE_SECONDS", 0.1)
        yield


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_photos(tmp_path_factory.mktemp("photos") / "colours")


@pytest.fixture(scope="module")
def run(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "run"
    train(
        photos, model="mobilenet_v1", arguments={"width": 0.125, "stem_stride": 1, "shallow": True}, side=16,
        epochs=40, changes={"batch": 16}, out=out, seed=3,
    )  # fmt: skip
    return out


@pytest.fixture(scope="module")
def shrunk(run: Path, photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Shrunk:
    """Within fewer bytes than int8 alone gives."""
    out = tmp_path_factory.mktemp("runs") / "shrunk"
    return shrink(run, photos, Budget(size_bytes=22_000, max_drop=10), minutes=LONGER, out=out)


def test_it_goes_down_to_the_budget_and_no_further(shrunk: Shrunk) -> None:
    assert not shrunk.over and shrunk.size_bytes <= 22_000 < shrunk.parent_bytes
    parent, integer, *narrower = shrunk.ladder
    assert (parent.step, parent.precision, parent.drop) == ("as it came", "float32", 0)
    assert integer.precision == "int8" and 22_000 < integer.size_bytes < parent.size_bytes
    assert narrower and all(a.macs > b.macs for a, b in zip(shrunk.ladder[1:], narrower, strict=False))
    assert all(rung.size_bytes > 22_000 for rung in narrower[:-1]) and not narrower[-1].undone
    assert shrunk.packed_bytes < shrunk.size_bytes


def test_what_it_delivers_is_what_it_says(shrunk: Shrunk, run: Path, photos: Path) -> None:
    folder = Path(shrunk.file).parent
    assert Path(shrunk.file).stat().st_size == shrunk.size_bytes
    assert Path(shrunk.packed).stat().st_size == shrunk.packed_bytes
    assert unpack_onnx(Path(shrunk.packed)) == Path(shrunk.file).read_bytes()
    assert check(Path(shrunk.file)).parity_ok
    manifest = json.loads((folder / "model.json").read_text())
    assert next(record["name"] for record in manifest["records"]) == "prune_channels"
    assert manifest["parents"]["network"] == open_source(run).digest
    again = shrink(run, photos, Budget(size_bytes=22_000, max_drop=10), minutes=LONGER, out=folder)
    assert again == shrunk
    opened = open_source(folder)  # what was shrunk can be shrunk further
    assert opened.seed == 3 and opened.network == "mobilenet_v1"
    noise = np.random.default_rng(0).integers(0, 256, (3, 16, 16, 3), np.uint8)
    with torch.inference_mode():
        scores = opened.model(torch.from_numpy(opened.contract.normalise(noise))).softmax(1).numpy()
    assert np.allclose(scores, load_classifier(folder / "float32.onnx").scores(noise), atol=1e-5)


def test_a_terminated_call_goes_on(run: Path, photos: Path, tmp_path: Path) -> None:
    said: list[str] = []

    def end(what: str, step: int, steps: int) -> None:
        said.append(what)
        if what.startswith("teaching") and step == 2:
            os.kill(os.getpid(), signal.SIGTERM)

    budget, out = Budget(size_bytes=30_000, max_drop=100), tmp_path / "out"
    with pytest.raises(Terminated):
        shrink(run, photos, budget, minutes=0.1, out=out, progress=end)
    assert said[-1].startswith("teaching") and len(list((out / "train").glob("narrow-1.part/*"))) > 0
    said.clear()
    result = shrink(run, photos, budget, minutes=0.1, out=out, progress=lambda what, *_: said.append(what))
    assert not result.over and not any(what.startswith("looking for what fits") for what in said)
    assert not list((out / "train").glob("*.part"))


def test_without_a_limit_the_rung_that_costs_accuracy_is_undone(
    run: Path, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[str] = []

    def judged(*args: Any, **options: Any) -> gate_module.Passed:
        passed = gate_module.gate(*args, **options)
        seen.append("")
        if len(seen) < 3:
            return passed
        faults = {p: replace(option, faults=("planted",)) for p, option in passed.options.items()}
        return gate_module.Passed(options=faults, chosen=None)

    monkeypatch.setattr(offers, "gate", judged)
    monkeypatch.setattr(ladder.Ladder, "_close", lambda *_: False)
    monkeypatch.setattr(ladder, "TAUGHT", 0.03)  # of minutes that are long enough for a busy machine
    monkeypatch.setattr(narrow, "GRID", (1.0, 0.6))
    monkeypatch.setattr(narrow, "ROUND_TO", (1,))  # of these few channels more would not do
    monkeypatch.setattr(smaller, "LEAST", 1)
    result = shrink(run, photos, Budget(max_drop=100), minutes=4, out=tmp_path / "out")
    steps = [(rung.step, rung.undone) for rung in result.ladder]
    assert steps[:2] == [("as it came", ""), ("int8", "")] and [why for _, why in steps[2:4]] == ["", "planted"]
    assert all(step.startswith("pruned to") for step, _ in steps[2:4])
    between, base, coded = result.ladder[4:-1], result.ladder[2], result.ladder[-1]
    macs = [rung.macs for rung in (result.ladder[3], *between, base)]  # half-way back to what stood, and again
    assert len(macs) > 2 and macs == sorted(set(macs)) and all(rung.undone for rung in between)
    assert steps[-1] == ("weights of 4 bits, QAT", "") and not result.over
    assert coded.macs == base.macs and coded.packed_bytes < 0.95 * base.packed_bytes
    assert result.size_bytes == pytest.approx(coded.size_bytes, abs=300)  # its figures are inside now
    manifest = json.loads((tmp_path / "out" / "model.json").read_text())
    assert [r["name"] for r in manifest["records"]][-2:] == ["prepare_qat", "finished"]
    assert manifest["records"][-2]["arguments"]["bits"] == 4
    assert open_source(tmp_path / "out").network == "mobilenet_v1"  # the float32 file of the network before it


@pytest.mark.parametrize("holds", [True, False])
def test_the_last_step_starts_from_a_cut_that_lost_little_too_much(
    holds: bool, run: Path, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def judged(model: nn.Module, draft: Artifact, *args: Any, **options: Any) -> gate_module.Passed:
        passed = gate_module.gate(model, draft, *args, **options)
        return without(passed.options) if draft.records else passed

    def coded(place: Workplace, base: str, *args: Any) -> dict[str, Any]:
        found = few_bits.offer_few_bits(place, base, *args)
        if not holds and base != "parent":
            found["chosen"], found["options"]["int8"]["faults"] = None, ["planted"]
        return found

    def without(options: dict[str, gate_module.Option]) -> gate_module.Passed:
        faults = {p: replace(option, faults=("planted",)) for p, option in options.items()}
        return gate_module.Passed(options=faults, chosen=None)

    monkeypatch.setattr(offers, "gate", judged)
    monkeypatch.setattr(ladder, "offer_few_bits", coded)
    monkeypatch.setattr(ladder, "TAUGHT", 0.03)
    monkeypatch.setattr(ladder.Ladder, "_enough", lambda self, _: self.taught > 0)  # whatever the clock says
    monkeypatch.setattr(ladder.Ladder, "_late", False)
    monkeypatch.setattr(narrow, "GRID", (1.0, 0.6))
    monkeypatch.setattr(narrow, "ROUND_TO", (1,))
    monkeypatch.setattr(smaller, "LEAST", 1)
    result = shrink(run, photos, Budget(max_drop=100), minutes=0.5, out=tmp_path / "out")
    cut, *last = result.ladder[2:]
    assert cut.step.startswith("pruned to") and cut.undone == "planted"
    assert last[0].step == f"{cut.step}, weights of 4 bits, QAT" and last[0].macs == cut.macs
    if holds:
        assert len(last) == 1 and last[0].delivered and not last[0].undone
    else:
        assert [rung.undone for rung in last] == ["planted", ""] and last[1].macs > cut.macs
        assert last[1].step == "weights of 4 bits, QAT" and last[1].delivered
    assert check(Path(result.file)).parity_ok


def test_a_kind_of_cut_that_comes_to_nothing_is_not_chosen_again(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[set[str]] = []

    def told(networks: dict[str, Any], *_: object) -> dict[str, float]:
        asked.append(set(networks))
        return {kind: 1.0 + (kind != "shallower") for kind in networks}

    monkeypatch.setattr(workplace, "HEALED", 100)
    monkeypatch.setattr(workplace, "MOST", 100)
    monkeypatch.setattr(ladder, "milliseconds", told)
    monkeypatch.setattr(ladder.Ladder, "_shallower", lambda *_: iter(()))
    monkeypatch.setattr(ladder, "TAUGHT", 0.03)
    fewer = [3.0, 2.0, 1.0]  # as time goes by
    monkeypatch.setattr(ladder, "epochs_in", lambda *_: fewer.pop(0))
    source = open_source(untrained_resnet(tmp_path)[0])
    with Run(tmp_path / "run") as stages:
        data = load_photos(photos, seed=3)
        place = Workplace(stages, source, data, Budget(max_drop=100), 0.5, 3, lambda *_: None, 16)
        descent = ladder.Ladder(place).descend()
        assert next(descent).step == "as it came" and next(descent).step.startswith(("at ", "pruned to "))
    assert asked[0] == {"smaller", "shallower", "narrower"} and asked[1] == {"smaller", "narrower"}
    assert fewer == [2.0, 1.0]  # what can be healed is found once, or what was chosen could come to nothing


@pytest.mark.parametrize("fastest, step", [("smaller", "at 8"), ("shallower", "without"), ("narrower", "pruned to")])
def test_the_cut_that_leaves_the_fastest_file_goes_first_and_is_taught_longest(
    fastest: str, step: str, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[float] = []

    def taught(place: Workplace, name: str, model: nn.Module, seconds: float, what: str, **options: Any) -> None:
        seen.append(seconds)
        teach(place, name, model, 0.01, what, **options)

    monkeypatch.setattr(workplace, "HEALED", 100)
    monkeypatch.setattr(workplace, "MOST", 100)
    monkeypatch.setattr(ladder, "teach", taught)
    monkeypatch.setattr(
        ladder, "milliseconds", lambda networks, *_: {kind: 2.0 - (kind == fastest) for kind in networks}
    )
    source = open_source(untrained_resnet(tmp_path)[0])
    with Run(tmp_path / "run") as stages:
        place = Workplace(
            stages, source, load_photos(photos, seed=3), Budget(max_drop=100), 2.5, 3, lambda *_: None, 16
        )
        descent = ladder.Ladder(place).descend()
        assert next(descent).step == "as it came" and next(descent).step.startswith(step)
        next(descent)
    assert seen == [pytest.approx(ladder.TAUGHT * seconds) for seconds in (90, 37.5)]


def test_a_rung_is_as_deep_as_teaching_can_heal(
    run: Path, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(narrow, "ROUND_TO", (1,))  # the clock would choose another multiple each time
    source = open_source(run)
    data = load_photos(photos, seed=3)
    limits = []
    for points in (0.01, 0.5, 5.0):  # that may still be lost; as many are lost already
        with Run(tmp_path / str(points)) as stages:
            place = Workplace(stages, source, data, Budget(max_drop=2 * points), 1.0, 3, lambda *_: None, 16)
            mild = place.mild(points, epochs=2)
            scores = narrow.scores_of(place, source.model)
            deepest = narrow.mild_limit(place, "parent", source.model, scores, mild)
            limits.append(deepest and deepest[1])
            if deepest is not None:
                cut, _ = narrow.pruned(place, source.model, scores, keep=deepest[0])
                assert place.macs(cut) == deepest[1]
                recalibrate(cut, place.calibration.images)
                assert workplace.ASKED < place.pace(cut) < place.pace(source.model) == 1
                assert place.gone(place.loss(cut)) * place.pace(cut) <= mild  # its steps take less time
            assert place.mild(points, epochs=16) == pytest.approx(2 * mild) and place.mild(2 * points, epochs=2) == 0
            assert epochs_in(place, 2.0) == pytest.approx(2 * epochs_in(place, 1.0))
    assert workplace.heals(0.5, 1.0, 0.5) and not workplace.heals(workplace.MOST + 0.01, 0.3, 1e6)
    whole = count_model(source.model, (3, 16, 16)).cost.macs
    found = [whole if limit is None else limit for limit in limits]
    assert found == sorted(found, reverse=True) and found[2] < found[0]


@pytest.mark.parametrize(
    ("pace", "seconds", "tried"), [(0.01, 99, False), (0.01, 180, True), (0.28, 180, True), (0.29, 180, False)]
)
def test_an_engine_is_looked_for_where_a_twentieth_of_the_rung_is_enough(
    pace: float, seconds: float, tried: bool, run: Path, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With 32 steps at least."""
    found = Engine(channels_last=False)
    monkeypatch.setattr("swiftlet.shrinking.teach.fastest", lambda *_, **__: found)
    with Run(tmp_path) as stages:
        place = Workplace(
            stages, open_source(run), load_photos(photos, seed=3), Budget(), 5, 3, lambda *_: None, side=16
        )
        stages.once("pace", lambda: {"seconds": pace})
        assert engine_of(place, seconds) == (found if tried else Engine())


def test_the_rate_goes_with_what_was_lost(run: Path, photos: Path, tmp_path: Path) -> None:
    """What a cut hardly hurt, a high rate would: it cost a MobileNet V2 from ImageNet seven points."""
    source = open_source(run)
    place = Workplace(Run(tmp_path), source, load_photos(photos, seed=3), Budget(), 1, 3, lambda *_: None, 16)
    base, whole = recipe_of(place).lr, healing(place, source.model).lr
    emptied = copy.deepcopy(source.model)
    for parameter in emptied.parameters():
        parameter.data.zero_()
    hurt = copy.deepcopy(source.model)
    classifier = [module for module in hurt.modules() if isinstance(module, nn.Linear)][-1]
    classifier.weight.data *= 0.3
    assert whole == base and healing(place, emptied).lr == pytest.approx(10 * base, rel=0.01)
    assert base < healing(place, hurt).lr < 10 * base and healing(place, hurt).clip == 1.0
    plain, _ = deployed(source.model)  # as a file without BatchNorm comes
    assert (healing(place, plain).lr, healing(place, plain).clip) == (base, 1.0)


def test_a_download_too_large_is_coded_with_fewer_bits(run: Path, photos: Path, shrunk: Shrunk, tmp_path: Path) -> None:
    limit = round(0.9 * shrunk.ladder[1].packed_bytes)
    result = shrink(run, photos, Budget(packed_bytes=limit, max_drop=100), minutes=MINUTES, out=tmp_path / "out")
    assert not result.over and result.packed_bytes <= limit and result.cost.packed_bytes == result.packed_bytes
    assert Path(result.packed).stat().st_size == result.packed_bytes
    assert result.ladder[-1].step.startswith("weights of") and result.ladder[-1].macs == result.ladder[1].macs
    assert check(Path(result.file)).parity_ok
    words = Path(result.report).read_text()
    assert "size of the download" in words and "weights of" in words and "Ladder" in words


def untrained_resnet(folder: Path) -> tuple[Path, int]:
    """Its weights, for pictures of 16 pixels, and its multiply-adds."""
    model = create_model("resnet18", width=0.0625, small_input=True, num_classes=4)
    save_weights(model, folder / "resnet.safetensors", contract=InputContract(side=16), licence="none")
    return folder / "resnet.safetensors", count_model(model, (3, 16, 16)).cost.macs or 0


def test_pictures_become_smaller_before_anything_is_cut_off(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workplace, "HEALED", 100)
    monkeypatch.setattr(workplace, "MOST", 100)
    file, whole = untrained_resnet(tmp_path)
    budget = Budget(macs=round(0.75 * whole), max_drop=100)
    result = shrink(file, photos, budget, minutes=0.2, out=tmp_path / "out")
    parent, integer, last = result.ladder
    assert last.step == "at 12 pixels" and not result.over  # 8 would do, and is not asked for
    assert last.macs < 0.75 * whole < parent.macs
    assert last.size_bytes == pytest.approx(integer.size_bytes, rel=0.02)
    checked, manifest = check(Path(result.file)), json.loads((tmp_path / "out" / "model.json").read_text())
    assert checked.parity_ok and manifest["contract"]["side"] == 12
    assert "(12, 12)" in Path(result.report).read_text()  # the lines that run the file
    assert open_source(tmp_path / "out").contract.side == 12


def test_pictures_that_became_too_small_grow_again(
    run: Path, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def judged(model: nn.Module, draft: Artifact, *args: Any, **options: Any) -> gate_module.Passed:
        passed = gate_module.gate(model, draft, *args, **options)
        if draft.contract.side > 8:
            return passed
        faults = {p: replace(option, faults=("planted",)) for p, option in passed.options.items()}
        return gate_module.Passed(options=faults, chosen=None)

    monkeypatch.setattr(offers, "gate", judged)
    monkeypatch.setattr(ladder, "compare", lambda *_: (1.0, 0.9, 1.1))  # as fast as one another: fewer macs are enough
    whole = count_model(open_source(run).model, (3, 16, 16)).cost.macs or 0
    budget = Budget(macs=round(0.4 * whole), max_drop=100)
    result = shrink(run, photos, budget, minutes=MINUTES, out=tmp_path / "out")
    steps = [(rung.step, rung.undone) for rung in result.ladder[2:]]
    assert steps[:2] == [("at 8 pixels", "planted"), ("at 12 pixels", "")]
    assert len(steps) > 2 and not result.over and check(Path(result.file)).parity_ok
    assert json.loads((tmp_path / "out" / "model.json").read_text())["contract"]["side"] == 12


def test_a_network_for_one_size_keeps_it(run: Path, photos: Path, tmp_path: Path) -> None:
    flat = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(4 * 14 * 14, 4)).eval()
    source = replace(open_source(run), model=flat)
    with Run(tmp_path) as stages:
        place = Workplace(stages, source, load_photos(photos, seed=3), Budget(max_drop=100), 1, 3, lambda *_: None, 16)
        assert smaller.smaller_side(place, "parent", flat, mild=1.0) == 16


def test_blocks_go_before_channels_where_more_than_bytes_are_over(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workplace, "HEALED", 100)
    monkeypatch.setattr(workplace, "MOST", 100)  # none of an untrained network's blocks costs so much
    monkeypatch.setattr(smaller, "LEAST", 1)
    file, whole = untrained_resnet(tmp_path)
    budget = Budget(macs=round(0.5 * whole), max_drop=100)
    result = shrink(file, photos, budget, minutes=0.2, out=tmp_path / "out")
    steps = [rung.step for rung in result.ladder]
    assert steps == ["as it came", "int8", "without 5 blocks"] and not result.over
    assert result.ladder[2].macs <= 0.5 * whole
    records = json.loads((tmp_path / "out" / "model.json").read_text())["records"]
    assert records[0]["name"] == "drop_blocks" and len(records[0]["arguments"]["blocks"]) == 5
    assert check(Path(result.file)).parity_ok


def test_the_smallest_that_holds_is_delivered_where_nothing_fits(
    run: Path, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def judged(*args: Any, **options: Any) -> gate_module.Passed:
        passed = gate_module.gate(*args, **options)
        if options["reference"] is None:
            return passed
        faults = {p: replace(option, faults=("planted",)) for p, option in passed.options.items()}
        return gate_module.Passed(options=faults, chosen=None)

    monkeypatch.setattr(offers, "gate", judged)
    result = shrink(run, photos, Budget(size_bytes=22_000, max_drop=100), minutes=MINUTES, out=tmp_path / "out")
    assert set(result.over) == {"size_bytes"} and result.precision == "int8"
    assert [rung.delivered for rung in result.ladder] == [False, True, False]
    assert [rung.undone for rung in result.ladder] == ["", "", "planted"]


def test_int8_that_loses_too_much_is_trained(
    run: Path, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def wrecked(model: fx.GraphModule, *args: Any, steps: int = 0, **options: Any) -> tuple[fx.GraphModule, Record]:
        integer, record = quantize(model, *args, **options)
        return emptied(integer), record

    monkeypatch.setattr(gate_module, "quantize", wrecked)
    monkeypatch.setattr(quantizing, "quantize_best", wrecked)
    out = tmp_path / "out"
    result = shrink(run, photos, Budget(macs=10**9, max_drop=10), minutes=MINUTES, out=out)
    integer = result.ladder[1]
    assert integer.step == "int8, QAT" and integer.drop <= 10 and not integer.undone
    assert result.precision == "int8" and len(result.ladder) == 2


def test_without_a_limit_rounding_is_learnt_last(
    run: Path, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It takes the longest; a taught network may do without."""

    def best(model: fx.GraphModule, *args: Any, steps: int, **options: Any) -> tuple[fx.GraphModule, Record]:
        integer, record = quantize(model, *args, **options)
        return (integer if steps else emptied(integer)), replace(record, name="quantize_best")

    def wrecked(model: fx.GraphModule, *args: Any, **options: Any) -> tuple[fx.GraphModule, Record]:
        integer, record = quantize(model, *args, **options)
        return emptied(integer), record

    monkeypatch.setattr(gate_module, "quantize", wrecked)
    monkeypatch.setattr(quantizing, "quantize_best", best)
    monkeypatch.setattr(ladder, "WORTH", 0)  # no cut
    result = shrink(run, photos, Budget(max_drop=10), minutes=MINUTES, out=tmp_path / "out")
    steps = [(rung.step, rung.precision, bool(rung.undone)) for rung in result.ladder]
    assert steps[:2] == [("as it came", "float32", False), ("int8", "int8", True)]
    assert steps[2] == ("int8, best calibration", "int8", False) and result.precision == "int8"


def emptied(integer: fx.GraphModule) -> fx.GraphModule:
    """It answers the same whatever it sees."""
    last = [layer for layer in integer.modules() if isinstance(layer, nn.Linear)][-1]
    with torch.no_grad():
        last.weight.zero_()
    return integer


def test_bad_calls_are_told_before_anything_is_written(
    run: Path, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    with pytest.raises(BadFile, match="is missing"):
        shrink(tmp_path / "none.onnx", photos, out=out)
    with pytest.raises(BadFile, match="holds no run"):
        shrink(tmp_path, photos, out=out)
    with pytest.raises(BadInput, match="must be above 0"):
        shrink(run, photos, minutes=0, out=out)
    assert not out.exists()
    with pytest.raises(BadInput, match="not the photos that the run was trained on"):
        shrink(run, None, out=out)
    with pytest.raises(BadInput, match="leave the contract out"):
        open_source(run, contract=InputContract(side=16, mean=(1, 2, 3)))
    monkeypatch.setattr(narrow, "GRID", (0.5, 0.1))
    with pytest.raises(Infeasible, match="start from a smaller network"):
        shrink(run, photos, Budget(size_bytes=3_000), minutes=MINUTES, out=tmp_path / "tiny")


def test_a_foreign_file_needs_no_source(photos: Path, run: Path, tmp_path: Path) -> None:
    """A float NCHW file without metadata: its pixels are told by the caller."""
    source = open_source(run)
    contract = source.contract
    inner = onnx.load_from_string(export_onnx(deployed(source.model)[0], contract))
    start = next(i for i, node in enumerate(inner.graph.node) if node.op_type == "Conv")
    image = inner.graph.node[start].input[0]
    del inner.graph.node[:start]
    value = helper.make_tensor_value_info(image, TensorProto.FLOAT, ["N", 3, 16, 16])
    del inner.graph.input[:]
    inner.graph.input.append(value)
    file = tmp_path / "foreign.onnx"
    onnx.save(inner, file)
    given = InputContract(side=224, mean=contract.mean, std=contract.std)
    result = shrink(
        file, photos, Budget(macs=10**9, max_drop=20), minutes=MINUTES, out=tmp_path / "o", contract=given, seed=3
    )
    assert result.network == "foreign" and result.precision == "int8" and "taken for" in result.notes[0]
    assert open_source(file, contract=given).contract == contract and result.parent_accuracy > 0.9


def test_the_command_prints_the_ladder(
    run: Path, photos: Path, shrunk: Shrunk, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    out = str(Path(shrunk.file).parent)
    flags = ["--max-kb", "22", "--max-drop", "10", "--minutes", str(LONGER), "--out", out]
    assert app(["shrink", str(run), str(photos), *flags], standalone_mode=False) == 0
    said = capsys.readouterr().out
    assert "as it came" in said and "pruned to" in said and "budget    met" in said and "next      " in said
    assert app(["shrink", str(run), str(photos), *flags, "--json"], standalone_mode=False) == 0
    assert json.loads(capsys.readouterr().out)["size_bytes"] == shrunk.size_bytes
    asked: list[Budget] = []
    monkeypatch.setattr(verb, "shrink", lambda source, photos, budget, **_: asked.append(budget) or shrunk)
    assert app(["shrink", str(run), str(photos), "--max-packed-kb", "7.5"], standalone_mode=False) == 0
    assert asked[0].packed_bytes == 7_500
