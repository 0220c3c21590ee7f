"""swiftlet study all: planted studies share the minutes, are taken if they are there, and stand in the right order."""

import io
import json
import sys
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import test_studies
import test_studies_more
import test_trials
from browser import Open
from PIL import Image
from test_cli import run as command

from swiftlet.errors import BadFile, BadInput, BadPhotos, MissingExtra
from swiftlet.run import Run
from swiftlet.study import MINUTES, STUDIES, get_study
from swiftlet.study.bench import Bench
from swiftlet.study.finding import Effect, Finding, Table
from swiftlet.study.overview import Strip, Survey, overview, strips, thumbnail
from swiftlet.study.run import run_study, stored, taken_by
from swiftlet.study.survey import ANYWAY, Need, choose, run_survey
from swiftlet.study.timed import staircase
from swiftlet.study.trained.deep_compression import Made, _smaller
from swiftlet.study.trials import Lab

BENCH = Bench(runtimes=("onnxruntime", "torch"), seconds=0.1)
TABLE = Table(title="t", columns=("a",), rows=((1,),), source="s")


@cache
def picture() -> bytes:
    """A figure in the size of a study's, as PNG."""
    noise = np.random.default_rng(0).integers(0, 255, (75, 135, 3), np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(noise).resize((1350, 750)).save(buffer, "png")
    return buffer.getvalue()


@dataclass
class Planted:
    """Studies whose time passes on a clock of their own."""

    now: float = 0.0  # seconds
    ran: list[str] = field(default_factory=list)
    lent: dict[str, float] = field(default_factory=dict)
    beside: dict[str, float] = field(default_factory=dict)  # minutes that training takes over those that it is lent
    stops: dict[str, BaseException] = field(default_factory=dict)

    def plant(self, patch: pytest.MonkeyPatch, name: str, takes: str, minutes: float, effect: Effect | None) -> None:
        """A study that takes so many minutes or, if it trains, all that it is lent."""

        def work(lent: float | None = None) -> Finding:
            self.ran.append(name)
            if name in self.stops:
                raise self.stops[name]
            self.now += 60 * (minutes if lent is None else lent + self.beside.get(name, 0.0))
            return Finding(
                study=name, title=f"Study {name}", claim=f"{name} is better.", verdict="holds",
                sentence=f"{name} is better (95 % of it).", effect=effect, measured=(TABLE,),
            )  # fmt: skip

        def timed(bench: Bench) -> Finding:
            return work()

        def trained(lab: Lab) -> Finding:
            self.lent[name] = lab.minutes
            return work(lab.minutes)

        def of_data(bench: Bench, data: Path) -> Finding:
            return work()

        module = ModuleType(f"swiftlet.study.timed.{name}")
        module.run = {"bench": timed, "lab": trained, "data": of_data}[takes]  # type: ignore[attr-defined]
        patch.setitem(sys.modules, module.__name__, module)
        patch.setitem(STUDIES, name, f"is {name} better?")
        if takes != "lab":
            patch.setitem(MINUTES, name, minutes)


@pytest.fixture
def planted(monkeypatch: pytest.MonkeyPatch) -> Planted:
    """Two studies that time, 1 and 3 minutes, two that train, and one that takes 36 minutes and pictures."""
    made = Planted()
    for name in reversed(tuple(STUDIES)):  # put back in their order
        monkeypatch.delitem(STUDIES, name)
    made.plant(monkeypatch, "slow", "bench", 3.0, Effect("time", "Be slow.", 1.5, 1.01, 2.0))
    made.plant(monkeypatch, "fast", "bench", 1.0, Effect("time", "Be fast.", 0.8, 0.75, 0.85))
    made.plant(monkeypatch, "first", "lab", 0.0, Effect("accuracy", "Be first.", 2.0, 1.0, 3.0))
    made.plant(monkeypatch, "long", "data", 36.0, None)
    made.plant(monkeypatch, "second", "lab", 0.0, Effect("accuracy", "Be second.", 5.0, -1.0, 11.0))
    monkeypatch.setattr(Run, "seconds", property(lambda run: made.now))
    monkeypatch.setattr("swiftlet.study.page.png", lambda finding: picture())
    return made


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    return folder


# --- what runs --------------------------------------------------------------------------------------------------------


def test_the_quickest_comes_first_and_what_trains_shares_the_rest(
    planted: Planted, tmp_path: Path, photos: Path
) -> None:
    survey, paths = run_survey(BENCH, tmp_path / "out", "swiftlet study all", photos, minutes=20)
    assert planted.ran == ["fast", "slow", "first", "second"]
    assert planted.lent == {"first": 8, "second": 8} and survey.spent == pytest.approx(20)
    assert list(survey.left_out) == ["long"] and "36 minutes or more, 0.0 were left" in survey.left_out["long"]
    told = json.loads(paths["json"].read_text())
    assert [rule["study"] for rule in told["rules"]["accuracy"]] == ["first", "second"]
    assert [rule["study"] for rule in told["rules"]["time"]] == ["fast", "slow"]
    assert not (tmp_path / "out" / "all.run" / "trials").exists()


def test_a_share_too_small_is_given_up(planted: Planted, tmp_path: Path, photos: Path) -> None:
    survey, _ = run_survey(BENCH, tmp_path / "nine", "", photos, minutes=9)
    assert planted.lent == {"first": 5} and "takes 4 minutes or more, 0.0 were left" in survey.left_out["second"]
    planted.ran.clear()
    survey, _ = run_survey(BENCH, tmp_path / "two", "", photos, minutes=2)
    assert planted.ran == ["fast"] and "takes about 3 minutes, 1.0 were left" in survey.left_out["slow"]


def test_what_training_takes_beside_is_kept_free(planted: Planted, tmp_path: Path, photos: Path) -> None:
    planted.beside = {"first": 1.5, "second": 1.5}
    survey, _ = run_survey(BENCH, tmp_path / "out", "", photos, minutes=20)
    assert planted.lent == pytest.approx({"first": 8, "second": 5}) and survey.spent == pytest.approx(20)
    survey, _ = run_survey(BENCH, tmp_path / "short", "", photos, minutes=17)
    assert planted.lent["first"] == pytest.approx(6.5)
    assert "takes 5.5 minutes or more, 5.0 were left" in survey.left_out["second"]


def test_with_hours_all_runs(planted: Planted, tmp_path: Path, photos: Path) -> None:
    survey, _ = run_survey(BENCH, tmp_path, "", photos, minutes=124)
    assert planted.lent == {"first": 40, "second": 40} and planted.ran[-1] == "long"
    assert not survey.left_out and [finding.study for finding in survey.others()] == ["long"]


def test_without_pictures_what_trains_is_left_out(planted: Planted, tmp_path: Path) -> None:
    survey, _ = run_survey(BENCH, tmp_path, "", minutes=60)
    assert planted.ran == ["fast", "slow"] and set(survey.left_out) == {"first", "second", "long"}
    assert all("--data" in reason for reason in survey.left_out.values())


@pytest.mark.parametrize(
    ("waiting", "left", "chosen"),
    [
        ([Need("a", 4, True), Need("b", 4, True), Need("c", 4, True)], 11, ("a", 5.5)),
        ([Need("a", 36, True), Need("b", 4, True)], 71, ("b", 71)),
        ([Need("a", 36, True), Need("b", 4, True)], 72, ("a", 36)),
        ([Need("a", 4, True)], 3.9, None),
        ([Need("a", 3, False), Need("b", 4, True)], 2, None),
        ([Need("a", 9, False), Need("b", 4, True)], 8, ("b", 8)),
        ([Need("a", ANYWAY, True), Need("b", 4, True)], -1, ("a", -1)),  # its minutes are remembered
        ([], 100, None),
    ],
)
def test_choose(waiting: list[Need], left: float, chosen: tuple[str, float] | None) -> None:
    found = choose(waiting, left)
    assert (found and (found[0].name, found[1])) == chosen


def test_a_slow_machine_is_noticed(planted: Planted, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    planted.plant(monkeypatch, "first", "bench", 4.0, None)
    monkeypatch.setitem(MINUTES, "first", 1.0)  # 4 of them, so what comes next is thought to take as long
    monkeypatch.delitem(STUDIES, "fast")
    survey, _ = run_survey(BENCH, tmp_path, "", minutes=15)
    assert planted.ran == ["first"] and "about 12 minutes, 11.0 were left" in survey.left_out["slow"]
    survey, _ = run_survey(replace(BENCH, seconds=0.6), tmp_path / "precise", "", minutes=7)
    assert "slow" in survey.left_out and planted.ran == ["first", "first"]


def test_every_study_that_shares_no_minutes_has_its_own() -> None:
    own = {name for name in STUDIES if "lab" not in taken_by(name)}
    assert own == MINUTES.keys(), "give each its usual minutes in swiftlet/study/__init__.py"


# --- what is taken, what goes on, what fails --------------------------------------------------------------------------


def test_what_is_there_is_taken_if_it_fits(planted: Planted, tmp_path: Path, photos: Path) -> None:
    run_study("fast", BENCH, tmp_path, "")
    run_study("first", BENCH, tmp_path, "", photos, minutes=5)
    run_study("second", BENCH, tmp_path, "", photos, minutes=3)  # too few to say anything
    planted.ran.clear()
    survey, paths = run_survey(BENCH, tmp_path, "", photos, minutes=20)
    assert planted.ran == ["slow", "second"] and survey.earlier == {"fast", "first"}
    assert paths["html"].read_text().count("taken from an earlier run") == 2
    other = tmp_path / "other"
    other.mkdir()
    for unlike in ({"bench": replace(BENCH, threads=2)}, {"data": other}, {"bench": replace(BENCH, batch=2)}):
        asked = {"bench": BENCH, "folder": tmp_path, "data": photos} | unlike
        assert stored("first" if "data" in unlike else "fast", **asked) is None  # type: ignore[arg-type]
    assert stored("first", BENCH, tmp_path, None) is not None, "without pictures any will do"
    (tmp_path / "fast.png").unlink()
    assert stored("fast", BENCH, tmp_path, None) is None
    (tmp_path / "slow.json").write_text("{}")
    assert stored("slow", BENCH, tmp_path, None) is None


def test_a_quick_finding_stands_for_quick_ones_only(planted: Planted, tmp_path: Path) -> None:
    quick = replace(BENCH, quick=True)
    survey, paths = run_survey(quick, tmp_path, "", minutes=1)
    assert planted.ran == ["slow", "fast"] and survey.quick and "says\nnothing" in paths["html"].read_text()
    assert stored("fast", quick, tmp_path, None) is not None and stored("fast", BENCH, tmp_path, None) is None
    run_study("fast", BENCH, tmp_path, "")
    assert stored("fast", quick, tmp_path, None) is not None, "and is not overwritten by a quick one"


def test_on_another_machine_nothing_is_taken(planted: Planted, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run_study("fast", BENCH, tmp_path, "")
    monkeypatch.setattr("swiftlet.study.run.machine", lambda: "another")
    assert stored("fast", BENCH, tmp_path, None) is None


def test_a_killed_survey_goes_on_where_it_stood(planted: Planted, tmp_path: Path, photos: Path) -> None:
    planted.stops["second"] = KeyboardInterrupt()
    with pytest.raises(KeyboardInterrupt):
        run_survey(BENCH, tmp_path, "", photos, minutes=20)
    assert "not yet" in (tmp_path / "all.html").read_text() and "Be first." in (tmp_path / "all.html").read_text()
    planted.now += 60 * 5  # of its 8 minutes
    planted.stops.clear()
    with pytest.raises(BadInput, match="give up what was begun"):
        run_survey(BENCH, tmp_path, "", photos, minutes=30)
    planted.ran.clear()
    survey, _ = run_survey(BENCH, tmp_path, "", photos, minutes=20)
    assert planted.ran == ["second"] and planted.lent["second"] == 8 and survey.earlier == set()
    planted.now += 1e6
    survey, _ = run_survey(BENCH, tmp_path, "", photos, minutes=30)
    assert survey.spent == 0 and survey.earlier == {"fast", "slow", "first", "second"}, "another survey, another clock"


def test_a_failure_is_a_line_and_the_rest_goes_on(planted: Planted, tmp_path: Path) -> None:
    planted.stops["fast"] = MissingExtra("pip install 'swiftlet[it]'")
    survey, paths = run_survey(BENCH, tmp_path, "", minutes=20)
    assert planted.ran == ["fast", "slow"]
    assert survey.left_out["fast"] == "could not run: pip install 'swiftlet[it]'"
    assert "could not run: pip install" in paths["html"].read_text()
    del planted.stops["fast"]
    survey, _ = run_survey(BENCH, tmp_path, "", minutes=20)
    assert "fast" not in survey.left_out, "tried again the next time"
    planted.stops["slow"] = ZeroDivisionError("a fault of ours")
    with pytest.raises(ZeroDivisionError):
        run_survey(replace(BENCH, threads=2), tmp_path, "", minutes=20)


def test_what_cannot_be_is_refused_first(planted: Planted, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="minutes=0"):
        run_survey(BENCH, tmp_path, "", minutes=0)
    with pytest.raises(BadPhotos, match="no such"):
        run_survey(BENCH, tmp_path, "", tmp_path / "nowhere", minutes=20)
    assert planted.ran == []


# --- how it is told ---------------------------------------------------------------------------------------------------


def test_an_effect_and_how_far_it_is_from_none() -> None:
    pays = Effect("time", "R.", 2.0, 1.5, 4.0)
    assert (pays.size, pays.least) == (1, pytest.approx(0.585, abs=1e-3))
    assert str(pays) == "going against it takes 2.00x the time (95 % 1.50 to 4.00)"
    costs = Effect("size", "R.", 0.5, 0.25, 0.8)
    assert (costs.size, costs.least) == (1, pytest.approx(0.322, abs=1e-3))
    assert str(costs) == "going by it takes 2.00x the bytes (95 % 1.25 to 4.00)"
    points = Effect("accuracy", "R.", -3.0, -5.0, -1.0)
    assert (points.size, points.least) == (3, 1)
    assert str(points) == "going by it: -3.00 points (95 % -5.00 to -1.00)"
    assert Effect("accuracy", "R.", 9.0, -1.0, 19.0).least == Effect("time", "R.", 9.0, 0.9, 99.0).least == 0


def survey_of(*effects: Effect | None) -> Survey:
    findings = tuple(
        Finding(
            study=f"s{place}", title=f"Study {place}", claim="c", verdict="holds", sentence="It is so.", effect=effect,
            measured=(TABLE,), date="2026-01-01",
        )
        for place, effect in enumerate(effects)
    )  # fmt: skip
    return Survey(
        findings=findings, earlier=frozenset({"s1"}), left_out={"g1": "takes <too> long"}, minutes=20, spent=3,
        quick=False, place="onnxruntime, 1 thread, batch 1", data=None, machine="a <b>machine</b>; of 2 cores",
        command="swiftlet study all", date="2026-01-01",
    )  # fmt: skip


TIMES = (
    Effect("time", "Small and sure.", 1.1, 1.09, 1.11),
    Effect("time", "Large and unsure.", 9.0, 0.9, 90.0),
    Effect("time", "Backfires.", 0.5, 0.4, 0.6),
    Effect("time", "Nothing.", 1.0, 0.98, 1.02),
)


def test_what_matters_at_least_most_stands_first() -> None:
    survey = survey_of(*TIMES, None, Effect("accuracy", "Learn.", 1.0, 0.5, 1.5))
    order = [effect.rule for _, effect in survey.rules("time")]
    assert order == ["Backfires.", "Small and sure.", "Large and unsure.", "Nothing."]
    assert [finding.study for finding in survey.others()] == ["s4"]
    assert len(survey.rules("accuracy")) == 1 and survey.rules("size") == []


def test_strips_share_a_scale() -> None:
    pays, costs = strips([Effect("time", "R.", 2.0, 1.0, 4.0), Effect("time", "R.", 0.5, 0.25, 1.0)])
    assert pays == Strip(50, 50, 73.5, 97) and costs == Strip(50, 3, 26.5, 50)
    assert strips([Effect("accuracy", "R.", 0.0, 0.0, 0.0)]) == [Strip(3, 3, 3, 3)]


def test_the_page_in_a_browser(tmp_path: Path, open_html: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(STUDIES, "s4", "is it so? Needs --data")
    survey = survey_of(*TIMES, None, Effect("accuracy", "Learn.", 1.0, 0.5, 1.5))
    for finding in survey.findings:
        (tmp_path / f"{finding.study}.png").write_bytes(picture())
    html = overview(survey, tmp_path)
    for width in (1280, 360):
        page = open_html(html, width=width).page
        assert page.locator("h3").all_inner_texts() == [
            "Backfires.", "Small and sure.", "Large and unsure.", "Nothing.", "Learn.", "Study 4",
        ]  # fmt: skip
        assert page.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth")
        assert page.evaluate("[...document.images].every(image => image.naturalWidth == 640)")
        assert page.locator("a.small").first.get_attribute("href") == "s2.html"
        assert page.locator("#s1").get_by_text("taken from an earlier run").count() == 1
        assert page.locator("#s1").get_by_text("no difference can be told").count() == 1
        none, low, middle = (page.locator(f"#s2 line.{kind}").bounding_box() for kind in ("none", "range", "middle"))
        assert none and low and middle and low["x"] < middle["x"] < none["x"], "it backfires, so it lies on the left"
        assert "takes <too> long" in page.locator(".left-out").inner_text()
        assert "a <b>machine</b>" in page.locator("footer").inner_text()


def test_a_small_picture_is_small() -> None:
    small = thumbnail(picture())
    assert small.startswith(b"\x89PNG") and len(small) < 0.5 * len(picture())


def test_the_command(
    planted: Planted, tmp_path: Path, photos: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = ("study", "all", "--minutes", 20, "--data", photos, "--out", tmp_path / "out")
    code, out, _ = command(capsys, *asked)
    lines = out.splitlines()
    assert code == 0 and lines[0] == (
        "time      fast, holds: Be fast: going by it takes 1.25x the time (95 % 1.18 to 1.33)"
    )
    assert lines[3].startswith("accuracy  second") and lines[4].startswith("left out  long: takes")
    assert lines[-1] == f"next      open {tmp_path / 'out' / 'all.html'}"
    code, out, _ = command(capsys, *asked, "--json")
    told = json.loads(out)
    assert code == 0 and told["rules"]["time"][0]["earlier"] is True and Path(told["files"]["html"]).exists()
    assert set(told["left_out"]) == {"long"} and told["minutes"] == 20
    code, out, err = command(capsys, "study", "all", "--minutes", 0, "--out", tmp_path / "none")
    assert (code, out) == (2, "") and "must be above 0" in err


# --- findings and their effects ---------------------------------------------------------------------------------------


def test_a_finding_comes_back_from_json(planted: Planted, tmp_path: Path) -> None:
    finding, paths = run_study("slow", BENCH, tmp_path, "swiftlet study slow")
    assert finding.setting["threads"] == 1 and finding.effect is not None
    assert Finding.from_json(json.loads(paths["json"].read_text())) == finding
    for wrong in ([], {}, finding.to_json() | {"verdicts": "holds"}):
        with pytest.raises(BadFile, match="not the finding"):
            Finding.from_json(wrong)


@pytest.mark.parametrize("name", ["g1", "gemm", "kernels", "fused", "activations"])
def test_a_rule_is_worth_more_where_its_claim_holds(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    worth = []
    for cost in test_studies.CLAIMS[name]:
        test_studies.plant(monkeypatch, cost)
        effect = get_study(name).run(test_studies.QUICK).effect
        assert effect.kind == "time" and effect.rule.endswith(".") and effect.low <= effect.value <= effect.high
        worth.append(effect.value)
    assert worth[0] > worth[1] and worth[0] >= 1, "against the rule over by the rule"


def test_the_rules_of_other_studies(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(Bench, "times", test_studies_more.made_up)
    monkeypatch.setattr(staircase, "in_integers", lambda bench, case: bench.runtimes[:1])
    found = staircase.run(Bench(quick=True))
    spot = {"program": "onnxruntime float32", "layers": "1x1", "multiples_of": 16}
    (ratio,) = found.measured[1].where(**spot).column("x time")
    assert found.effect is not None and found.effect.value == pytest.approx(1 / ratio)
    halved = get_study("multipliers").run(Bench(quick=True))
    (alpha,) = halved.measured[0].where(of="onnxruntime").column("alpha")
    assert halved.effect.value == pytest.approx(2**alpha)
    test_trials.plant(monkeypatch, "linear", 2.0, 0.1)
    better = get_study("linear-bottleneck").run(Lab(data=tmp_path, folder=tmp_path)).effect
    assert better.kind == "accuracy" and 1.0 < better.low < better.value < 2.5
    seeds = [Made(seed, (100, size), (), (), {}) for seed, size in ((0, 10), (1, 20))]
    middle, low, high = _smaller(seeds)
    assert middle == pytest.approx(50**0.5) and low < middle < high and low * high == pytest.approx(50)


@pytest.mark.slow
def test_all_real_studies_quickly(tmp_path: Path) -> None:
    told: list[tuple[str, int, int]] = []
    show: Callable[[str, int, int], None] = lambda *step: told.append(step)  # noqa: E731
    bench = Bench(runtimes=("onnxruntime", "torch"), seconds=0.002, quick=True, progress=show)
    survey, paths = run_survey(bench, tmp_path, "swiftlet study all --quick")
    assert {finding.study for finding in survey.findings} == {name for name in STUDIES if "data" not in taken_by(name)}
    assert len(survey.rules("time")) >= 12 and paths["html"].stat().st_size < 3e6
    assert {what.partition(",")[0] for what, _, _ in told} <= STUDIES.keys()
