import functools
import hashlib
import importlib.resources
import math
import re
from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from browser import Open

from swiftlet.errors import BadInput
from swiftlet.report.build import bought, build_report, chart, count, ladder_charts, milliseconds, percent, points, size
from swiftlet.report.evidence import ClassRow, Evidence, Limit, Picture, Step, Tried

if TYPE_CHECKING:
    from playwright.sync_api import Page

HOSTILE = """"><script>window.pwned = 1</script><img src=x onerror="window.pwned = 1">'&</script>{{ 7*7 }}"""
SECTIONS = ["numbers", "limits", "tried", "classes", "mistakes", "lost", "data", "notes", "use", "provenance"]
DESKTOP, PHONE = {"width": 1280, "height": 900}, {"width": 360, "height": 740}


def picture(index: int, side: int = 28, **changes: Any) -> Picture:
    pixels = np.random.default_rng(index).integers(0, 256, (side, side, 3), np.uint8)
    values = {"key": f"test/coat/{index}.png", "truth": "coat", "predicted": "shirt", "confidence": 0.9 - index / 100}
    return Picture(**({"pixels": pixels} | values | changes))


def tried(name: str, precision: str, accuracy: float | None, ms: float, **changes: Any) -> Tried:
    values = {"size_bytes": 90_000 if precision == "int8" else 330_000, "macs": 5_000_000, "delivered": False}
    values["status"] = "planned" if accuracy is None else "trained"
    return Tried(**({"name": name, "precision": precision, "accuracy": accuracy, "latency_ms": ms} | values | changes))


def evidence(**changes: Any) -> Evidence:
    values: dict[str, Any] = {
        "title": "garments",
        "verdict": "mobilenet_v2-0.2-28px as int8 keeps both limits.",
        "budget_met": True,
        "interrupted": False,
        "file": "model.onnx",
        "file_sha256": "ab" * 32,
        "split": "test",
        "n": 400,
        "accuracy": 0.9,
        "interval": (0.867, 0.926),
        "accuracy_float": 0.905,
        "p50_ms": 0.412,
        "p90_ms": 0.5,
        "size_bytes": 90_000,
        "machine": "a test machine, onnxruntime, 1 thread",
        "limits": (
            Limit(name="Time per photo", limit="1 ms", measured="0.412 ms", met=True),
            Limit(name="Size", limit="100 KB", measured="90.0 KB", met=True),
        ),
        "tried": (
            tried("mobilenet_v1-0.25-28px", "float32", None, 1.9),
            tried("mobilenet_v1-0.125-28px", "float32", 0.88, 0.8),
            tried("mobilenet_v1-0.125-28px", "int8", 0.87, 0.3, size_bytes=None, macs=None),
            tried("mobilenet_v2-0.2-28px", "float32", 0.91, 0.9),
            tried("mobilenet_v2-0.2-28px", "int8", 0.9, 0.412, delivered=True, status="delivered"),
        ),
        "classes": (
            ClassRow(label="coat", n=100, right=85, interval=(0.77, 0.91), confused_with="shirt"),
            ClassRow(label="hat", n=9, right=9, interval=(0.7, 1.0), confused_with=None),
            ClassRow(label="sock", n=0, right=0, interval=None, confused_with=None),
        ),
        "mistakes": tuple(picture(i) for i in range(30)),
        "lost_to_int8": (picture(40),),
        "photos_found": 2_012,
        "photos_used": 2_000,
        "set_aside": (*((f"train/coat/{i}.jpg", "truncated") for i in range(11)), ("a.txt", "not an image")),
        "duplicates": (("train/hat/1.png", "test/hat/2.png"),),
        "notes": ("hat has 9 test photos.",),
        "snippet": 'session = ort.InferenceSession("model.onnx")\nprint(1 < 2)\n',
        "provenance": {"seed": "0", "command": "swiftlet fit photos"},
        "latency_limit_ms": 1.0,
    }
    return Evidence(**(values | changes))


def step(name: str, accuracy: float, ms: float, **changes: Any) -> Step:
    values = {"precision": "int8", "size_bytes": 90_000, "packed_bytes": 70_000, "macs": 5_000_000, "seconds": 60.0}
    values |= {"undone": "", "delivered": False}
    return Step(**({"name": name, "accuracy": accuracy, "latency_ms": ms} | values | changes))


def ladder_evidence(**changes: Any) -> Evidence:
    """Of a run of shrink: the third step is undone, the last one delivered."""
    ladder = (
        step("as it came", 0.912, 0.9, precision="float32", size_bytes=330_000, packed_bytes=290_000),
        step("int8", 0.91, 0.5),
        step("pruned to 60 %", 0.895, 0.3, size_bytes=60_000, undone="loses 1.7 points, 1 allowed"),
        step("pruned to 77 %", 0.911, 0.4, size_bytes=72_000, packed_bytes=56_000),
        step("weights of 4 bits, QAT", 0.908, 0.4, size_bytes=40_000, packed_bytes=28_000, delivered=True),
    )
    return evidence(**{"tried": (), "ladder": ladder, "size_limit_bytes": 50_000} | changes)


EMPTY = {"limits": (), "tried": (), "classes": (), "mistakes": (), "lost_to_int8": (), "set_aside": (), "notes": ()}
EMPTY |= {"duplicates": (), "snippet": "", "provenance": {}, "latency_limit_ms": None}


@functools.cache
def usual() -> str:
    return build_report(evidence())


def overflow(page: "Page") -> int:
    return page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")


def drawn(page: "Page") -> float:
    """The share of the chart's pixels that carry anything."""
    return page.evaluate(
        """() => {
          const canvas = document.getElementById("chart");
          const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
          return data.filter((value, index) => index % 4 === 3 && value > 0).length / (data.length / 4);
        }"""
    )


def column(page: "Page", section: str, index: int) -> list[str]:
    return [row.inner_text() for row in page.locator(f"#{section} tbody tr > :nth-child({index + 1})").all()]


@pytest.mark.parametrize("view", [DESKTOP, PHONE], ids=["desktop", "phone"])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_is_whole_fits_the_screen_and_can_be_read(open_html: Open, view: dict[str, int], scheme: str) -> None:
    page = open_html(usual(), color_scheme=scheme, **view).page
    assert page.locator("h1").inner_text() == "Budget met"
    assert [s.get_attribute("id") for s in page.locator("section").all()] == SECTIONS
    assert all(page.locator(f"#{name}").is_visible() for name in SECTIONS)
    assert page.locator("dl.headlines > div").count() == 6
    assert overflow(page) <= 0
    assert 0.01 < drawn(page) < 0.9
    page.evaluate("document.querySelectorAll('details').forEach((details) => (details.open = true))")
    weak = page.evaluate(CONTRAST)
    assert weak["seen"] > 100 and weak["below"] == []


def test_the_contrast_check_can_fail(open_html: Open) -> None:
    page = open_html("<body style='background: #fff'><p style='color: #999'>pale</p><p>black</p>").page
    assert page.evaluate(CONTRAST) == {"seen": 2, "below": ["pale 2.8"]}


CONTRAST = """() => {
  const parse = (text) => (text.match(/[0-9.]+/g) ?? []).map(Number);
  const light = (rgb) => rgb.slice(0, 3).map((v) => v / 255)
    .map((v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4))
    .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
  const behind = (element) => {
    for (let at = element; at; at = at.parentElement) {
      const rgb = parse(getComputedStyle(at).backgroundColor);
      if (rgb.length === 3) return rgb;
    }
    return [255, 255, 255];
  };
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  const below = [];
  let seen = 0;
  while (walker.nextNode()) {
    const element = walker.currentNode.parentElement;
    if (!walker.currentNode.textContent.trim() || !element.checkVisibility()) continue;
    seen++;
    const [a, b] = [light(parse(getComputedStyle(element).color)), light(behind(element))].sort((x, y) => y - x);
    const ratio = (a + 0.05) / (b + 0.05);
    if (ratio < 4.5) below.push(`${element.textContent.trim().slice(0, 20)} ${ratio.toFixed(1)}`);
  }
  return { seen, below };
}"""


def test_pointing_at_a_mark_tells_about_it_and_so_do_the_arrow_keys(open_html: Open) -> None:
    page = open_html(usual()).page
    canvas = page.locator("#chart")
    canvas.scroll_into_view_if_needed()
    spot = page.evaluate(
        """() => {
          const chart = Chart.getChart("chart");
          const index = chart.data.datasets.findIndex((dataset) => dataset.label === "mobilenet_v2 int8");
          const { x, y } = chart.getDatasetMeta(index).data[0];
          return { x, y };
        }"""
    )
    box = canvas.bounding_box()
    assert box is not None
    tooltip = "(({ opacity, title, body }) => [opacity, title, body?.[0]?.lines])(Chart.getChart('chart').tooltip)"
    assert page.evaluate("Chart.getChart('chart').scales.x.type") == "linear"
    assert page.evaluate(tooltip)[0] == 0
    page.mouse.move(box["x"] + spot["x"], box["y"] + spot["y"])
    page.wait_for_function("Chart.getChart('chart').tooltip.opacity > 0")
    _, title, lines = page.evaluate(tooltip)
    assert title == ["mobilenet_v2-0.2-28px, int8"]
    text = [line.replace("\u00a0", " ") for line in lines]
    assert text == ["90.0 % on validation photos", "0.412 ms", "90.0 KB", "5.00 M MACs", "delivered"]

    page.mouse.move(0, 0)
    canvas.focus()
    told = set()
    for _ in range(4):
        page.keyboard.press("ArrowRight")
        told.add(page.locator("#chart-spoken").inner_text())
    assert len(told) == 4 and any("mobilenet_v1-0.125-28px, int8, 87.0" in words for words in told)


def test_the_chart_shows_every_measured_file_the_limit_and_the_delivered_one(open_html: Open) -> None:
    slow = tried("mobilenet_v3-1-28px", "float32", 0.92, 9.0)
    page = open_html(build_report(evidence(tried=(*evidence().tried, slow)))).page
    labels = page.evaluate("Chart.getChart('chart').data.datasets.map((d) => [d.label, d.data.length])")
    families = [[f"mobilenet_{v} {p}", 1] for v in ("v1", "v2") for p in ("float32", "int8")]
    assert labels == [*families, ["mobilenet_v3 float32", 1], ["delivered", 1], ["limit 1 ms", 2]]
    looks = page.evaluate(
        """Chart.getChart('chart').data.datasets.slice(0, 5)
          .map((d) => `${d.pointStyle} ${d.backgroundColor === 'transparent'}`)"""
    )
    assert len(set(looks)) == 5  # told apart without colour
    assert page.evaluate("Chart.getChart('chart').scales.x.type") == "logarithmic"


def test_a_ladder_shows_what_each_step_bought_and_which_are_undone(open_html: Open) -> None:
    html = build_report(ladder_evidence())
    page = open_html(html).page
    sections = [s.get_attribute("id") for s in page.locator("section").all()]
    assert sections == ["ladder" if name == "tried" else name for name in SECTIONS]
    told = [words.replace("\u00a0", " ") for words in column(page, "ladder", 7)]
    assert told[0] == "–" and told[1].startswith("0.2 points lost, 1.80 x faster, 3.67 x smaller, 4.14 x less")
    assert told[2] == "undone: loses 1.7 points, 1 allowed"
    assert told[3] == "0.1 points won, 1.25 x faster, 1.25 x smaller, 1.25 x less to download"  # against int8
    assert told[4].endswith("2.00 x less to download; delivered")
    assert page.locator("#ladder .delivered").count() == 1 == page.locator("#ladder .undone").count()
    assert page.locator("#lost h2").inner_text() == "Right as it came, wrong now"
    for name, limit in (("chart", "limit 1 ms"), ("chart-bytes", "limit 50 KB")):
        labels = page.evaluate(f"Chart.getChart('{name}').data.datasets.map((d) => [d.label, d.data.length])")
        groups = [["float32", 1], ["int8", 3], ["undone int8", 1]]
        assert labels == [*groups, ["delivered", 1], ["the way down", 4], [limit, 2]]
    page.locator("#chart-bytes").focus()
    page.keyboard.press("ArrowLeft")
    assert page.locator("#chart-bytes-spoken").inner_text().startswith("weights of 4 bits, QAT, int8, 90.8")
    page.set_viewport_size(PHONE)
    boxes = [page.locator(f"#{name}").bounding_box() for name in ("chart", "chart-bytes")]
    assert boxes[0] and boxes[1] and boxes[0]["y"] < boxes[1]["y"] and overflow(page) <= 0


def test_a_step_is_compared_with_the_last_that_stands() -> None:
    ladder = ladder_evidence().ladder
    assert bought(ladder[1:2]) == [""] and bought((ladder[1], ladder[1]))[1] == "the same accuracy"
    assert [each["path"] for each in ladder_charts(ladder_evidence())] == [[0, 1, 3, 4]] * 2
    with pytest.raises(BadInput, match="latency_ms=nan"):
        build_report(ladder_evidence(ladder=(replace(ladder[0], latency_ms=math.nan),)))


def test_tables_sort_both_ways_with_the_unmeasured_last(open_html: Open) -> None:
    page = open_html(usual()).page
    rising = [f"{share}\u00a0%" for share in ("87.0", "88.0", "90.0", "91.0")]
    assert column(page, "tried", 2) == [*rising[::-1], "–"]  # as delivered: the best first
    head = page.get_by_role("columnheader", name="Accuracy")
    button = page.get_by_role("button", name="Accuracy")
    button.focus()
    for order, expected in (("ascending", rising), ("descending", rising[::-1])):
        page.keyboard.press("Enter")
        assert head.get_attribute("aria-sort") == order
        assert column(page, "tried", 2) == [*expected, "–"]
    page.get_by_role("button", name="Candidate").click()
    assert head.get_attribute("aria-sort") is None
    assert column(page, "tried", 0) == sorted(t.name for t in evidence().tried)
    page.get_by_role("button", name="Recall").click()
    assert column(page, "classes", 0) == ["coat", "hat", "sock"]


def test_the_snippet_is_copied_or_else_selected(open_html: Open) -> None:
    page = open_html(usual()).page
    page.evaluate("() => { navigator.clipboard.writeText = async (text) => { window.copied = text; }; }")
    page.get_by_role("button", name="Copy").click()
    page.get_by_role("button", name="Copied").wait_for()
    assert page.evaluate("copied") == evidence().snippet
    page.evaluate("() => { navigator.clipboard.writeText = () => Promise.reject(new Error('refused')); }")
    page.get_by_role("button", name="Copied").click()
    page.get_by_role("button", name="Selected").wait_for()
    assert page.evaluate("getSelection().toString()").strip() == evidence().snippet.strip()


def test_hostile_names_are_text_wherever_they_stand(open_html: Open) -> None:
    def poison(value: Any) -> Any:
        if isinstance(value, str):
            return HOSTILE
        if isinstance(value, tuple):
            return tuple(poison(each) for each in value)
        if isinstance(value, dict):
            return {HOSTILE: HOSTILE}
        if isinstance(value, Limit | Tried | ClassRow | Picture):
            return replace(value, **{f.name: poison(getattr(value, f.name)) for f in fields(value)})
        return value

    whole = evidence()
    poisoned = replace(whole, **{f.name: poison(getattr(whole, f.name)) for f in fields(whole)})
    page = open_html(build_report(poisoned)).page
    assert page.evaluate("window.pwned") is None
    assert page.locator("script").count() == 3 and page.locator("[onerror]").count() == 0
    assert page.locator("img").count() == 25 and overflow(page) <= 0
    for section in ("limits", "tried", "classes", "mistakes", "data", "notes", "use", "provenance"):
        assert "{{ 7*7 }}" in page.locator(f"#{section}").inner_text(), section
    poisoned = replace(
        poisoned, ladder=tuple(replace(s, name=HOSTILE, undone=HOSTILE) for s in ladder_evidence().ladder)
    )
    told = open_html(build_report(replace(poisoned, tried=()))).page
    assert told.evaluate("window.pwned") is None and told.locator("#ladder tbody").inner_text().count("7*7") == 10
    assert page.locator("#mistakes img").first.get_attribute("alt") == f"{HOSTILE}, taken for {HOSTILE}"
    assert page.evaluate("Chart.getChart('chart').data.datasets[0].data[0].point.name") == HOSTILE


def test_a_file_name_that_is_not_text_can_be_written(tmp_path: Path) -> None:
    key = b"caf\xe9.jpg".decode("utf-8", "surrogateescape")
    html = build_report(evidence(set_aside=((key, "truncated"),), title="Мода 服"))
    (tmp_path / "report.html").write_text(html, "utf-8")
    assert r"caf\udce9.jpg" in html and "Мода 服" in html


def test_the_policy_stops_a_script_and_a_request_and_the_guard_sees_them(open_html: Open) -> None:
    intruder = "<script>window.pwned = 1</script><img src='http://127.0.0.1:9/x.png'></body>"
    html = usual().replace("</body>", intruder)
    tab = open_html(html)
    assert tab.page.evaluate("window.pwned") is None
    assert sum("Content Security Policy" in complaint for complaint in tab.complaints) == 2
    tab.complaints.clear()
    tab = open_html(re.sub("<meta http-equiv.*>", "", html))
    assert tab.page.evaluate("window.pwned") == 1
    assert "request http://127.0.0.1:9/x.png" in tab.complaints
    tab.complaints.clear()


def test_not_met_and_stopped_early_are_said_first(open_html: Open) -> None:
    limit = Limit(name="Time per photo", limit="0.3 ms", measured="0.412 ms", met=False)
    html = build_report(evidence(budget_met=False, interrupted=True, split="validation", limits=(limit,)))
    page = open_html(html).page
    assert page.locator("h1").inner_text() == "Budget not met" and "not met" in page.title()
    early = page.locator("header").inner_text()
    assert "Stopped early" in early and "400 validation photos" in early and "stay sealed" in early
    assert "400 validation photos" in page.locator("#numbers").inner_text()
    assert column(page, "limits", 3) == ["not met"]
    assert not any("test photos" in p for p in page.locator("#numbers dd, #classes p, #mistakes p").all_inner_texts())
    assert "Stopped early" not in usual()


def test_empty_sections_say_why(open_html: Open) -> None:
    page = open_html(build_report(evidence(**EMPTY, accuracy=1.0)), **PHONE).page
    can_be_empty = [name for name in SECTIONS if name not in ("numbers", "provenance")]
    said = {name: page.locator(f"#{name} .none").first.inner_text() for name in can_be_empty}
    assert all(words.endswith(".") for words in said.values())
    assert said["mistakes"] == "No mistakes on 400 test photos."
    assert said["tried"] == "No file was both trained and timed, so there is nothing to draw."
    assert page.locator("canvas").count() == 0 and overflow(page) <= 0
    float_only = (tried("mobilenet_v2-0.2-28px", "float32", 0.9, 0.4, delivered=True),)
    assert "so nothing was lost to int8" in build_report(evidence(tried=float_only, lost_to_int8=()))
    assert "so it does not\n    make these mistakes" in build_report(evidence(tried=float_only))
    assert "None of the 40 mistakes was kept" in build_report(evidence(mistakes=()))


def test_a_thousand_classes_and_a_large_input_stay_small_and_within_the_screen(open_html: Open) -> None:
    classes = tuple(
        ClassRow(label=f"class {i} " + "w" * (i % 90), n=50, right=i % 51, interval=(0.1, 0.9), confused_with="x" * 80)
        for i in range(1000)
    )
    html = build_report(evidence(classes=classes, mistakes=tuple(picture(i, side=224) for i in range(30))))
    assert len(html) < 2_500_000
    page = open_html(html).page
    for view in (DESKTOP, PHONE):
        page.set_viewport_size(view)
        assert overflow(page) <= 0
        assert page.locator("#classes tbody tr").count() == 1000
        assert page.evaluate("document.documentElement.scrollHeight") < 12_000
        assert page.locator("#mistakes img").count() == 24


def test_tiny_pictures_stay_pixels_and_paper_is_light(open_html: Open) -> None:
    page = open_html(build_report(evidence(lost_to_int8=(picture(1, side=128),))), color_scheme="dark").page
    natural = page.evaluate("[...document.images].map((i) => [i.naturalWidth, getComputedStyle(i).imageRendering])")
    assert natural == [[28, "pixelated"]] * 24 + [[96, "auto"]]
    page.emulate_media(media="print")
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert page.evaluate("getComputedStyle(document.body).color") == "rgb(27, 28, 30)"
    assert page.evaluate("Chart.getChart('chart').options.scales.x.ticks.color") == "#5a5d63"
    page.evaluate("dispatchEvent(new Event('afterprint'))")
    assert page.evaluate("document.documentElement.className") == ""


def test_without_scripts_everything_but_the_chart_is_there(open_html: Open) -> None:
    page = open_html(usual(), java_script_enabled=False).page
    assert len(column(page, "tried", 0)) == 5
    assert not page.locator("#chart").is_visible() and page.get_by_role("button").count() == 0


def test_numbers_read_honestly() -> None:
    plain = {percent(0.9): "90.0 %", percent(0.9996): "> 99.9 %", percent(1.0): "100.0 %", percent(None): "–"}
    plain |= {milliseconds(0.4123): "0.412 ms", milliseconds(12.34): "12.3 ms", milliseconds(123.4): "123 ms"}
    plain |= {size(999): "999 bytes", size(90_049): "90.0 KB", size(2_345_678): "2.35 MB", size(None): "–"}
    plain |= {count(5_610_000): "5.61 M", count(1_230_000_000): "1.23 G", count(12): "12", count(None): "–"}
    plain |= {points(0.54): "0.5 points", points(-1.25): "−1.2 points", points(-0.01): "0.0 points"}
    assert {got.replace("\u00a0", " "): wanted for got, wanted in plain.items()} == {v: v for v in plain.values()}


def test_only_what_was_measured_becomes_a_mark() -> None:
    data = chart(evidence())
    assert [p["name"] for p in data["points"]] == [t.name for t in evidence().tried if t.accuracy is not None]
    assert not data["log"] and chart(evidence(latency_limit_ms=20.0))["log"]


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"tried": (tried("a", "int8", 0.9, 1.0, delivered=True),) * 2}, "both marked as delivered"),
        ({"tried": (tried("a", "int8", math.nan, 1.0),)}, "accuracy=nan"),
        ({"tried": (tried("a", "int8", 90.0, 1.0),)}, "share of 1"),
        ({"tried": (tried("a", "int8", 0.9, 0.0),)}, "latency_ms=0.0"),
        ({"mistakes": (picture(0, pixels=np.zeros((3, 8, 8), np.uint8)),)}, r"not uint8 \(3, 8, 8\)"),
        ({"lost_to_int8": (picture(0, pixels=np.zeros((8, 8, 3), np.float32)),)}, "not float32"),
    ],
)
def test_evidence_that_contradicts_itself_is_refused(changes: dict[str, Any], says: str) -> None:
    with pytest.raises(BadInput, match=says):
        build_report(evidence(**changes))


def test_the_chart_library_is_the_published_one() -> None:
    """Chart.js 4.6.1 from npm; with another version, update chart.LICENSE too."""
    content = (importlib.resources.files("swiftlet.report") / "chart.umd.min.js").read_bytes()
    assert hashlib.sha256(content).hexdigest() == "87364cc2b2a76a6684929e7d6b80b18a897794db38400caff1fcf1791c6925d2"
    licence = (importlib.resources.files("swiftlet.report") / "chart.LICENSE").read_text("utf-8")
    assert "Chart.js 4.6.1" in licence and licence.count("The MIT License (MIT)") == 2
