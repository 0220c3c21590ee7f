"""The exporter against PyTorch on every operation it knows; metadata, the golden proof, the report's snippet."""

import hashlib
import json
from dataclasses import replace
from functools import cache

import numpy as np
import onnx
import pytest
import torch
from PIL import Image
from settle import settled
from torch import Tensor, fx, nn
from torch.nn import functional as F

from swiftlet.budget import Cost
from swiftlet.check import PARITY, load_classifier
from swiftlet.compress.fold import fold_batchnorm
from swiftlet.compress.quantize import FakeQuantize, quantize
from swiftlet.compress.record import Record
from swiftlet.compress.trace import Tracer
from swiftlet.data.contract import InputContract, golden_pictures
from swiftlet.data.decode import open_photo
from swiftlet.errors import BadFile, BadInput
from swiftlet.export.artifact import Artifact, read_artifact
from swiftlet.export.golden import golden_record, parity, write_golden
from swiftlet.export.onnx import export_onnx, graph_digest, with_metadata
from swiftlet.export.operations import FUNCTIONS, MODULES
from swiftlet.gate import largest_difference
from swiftlet.layers.padding import SameConv2d, SameMaxPool2d
from swiftlet.report.gather import snippet
from swiftlet.runtime import get_runtime
from swiftlet.runtime.kernels import optimised
from swiftlet.zoo import create_model

CONTRACT = InputContract(side=16)
UNEVEN = InputContract(side=16, mean=(123.675, 116.28, 103.53), std=(58.395, 57.12, 57.375))
NOISE = np.random.default_rng(0).integers(0, 256, (8, 16, 16, 3), np.uint8)


def expected(model: nn.Module, pixels: np.ndarray, contract: InputContract) -> np.ndarray:
    with torch.inference_mode():
        return torch.softmax(model(torch.from_numpy(contract.normalise(pixels))), 1).numpy()


def run_file(file: bytes, pixels: np.ndarray, runtime: str = "onnxruntime") -> np.ndarray:
    return get_runtime(runtime).load(file, 1).run(pixels)[0]


class Everything(nn.Module):
    """Calls every module and every function of the exporter's tables."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, (3, 5), stride=(1, 2), padding=(0, 2), dilation=(2, 1))
        self.grouped = nn.Conv2d(8, 16, 3, groups=4, bias=False)
        self.bn, self.plain_bn = nn.BatchNorm2d(16, eps=0.01), nn.BatchNorm2d(16, affine=False)
        self.pool, self.ceil = nn.MaxPool2d(3, 2, 1), nn.MaxPool2d((2, 2), ceil_mode=True)
        self.same_conv, self.same_pool = SameConv2d(16, 16, (3, 5), 2, groups=2), SameMaxPool2d(3, 2)
        self.average, self.uneven = nn.AvgPool2d(3, 1, 1), nn.AdaptiveAvgPool2d((7, 3))
        self.shuffle, self.lrn = nn.ChannelShuffle(4), nn.LocalResponseNorm(5, alpha=0.1, k=2)
        self.kept, self.halves = nn.AdaptiveAvgPool2d((7, 3)), nn.AdaptiveAvgPool2d((2, 1))
        self.twice = nn.Conv2d(16, 16, 1)
        self.acts = nn.ModuleList((nn.ReLU(), nn.ReLU6(), nn.Hardsigmoid(), nn.Hardswish(), nn.Sigmoid(), nn.SiLU()))
        self.tanh = nn.Tanh()
        self.pad, self.clip = nn.ZeroPad2d((1, 0, 0, 2)), nn.Hardtanh(-0.5, 2.0)
        self.fake, self.drop, self.same = FakeQuantize(0.125, 99), nn.Dropout(), nn.Identity()
        self.squeeze, self.flat = nn.AdaptiveAvgPool2d((1, 1)), nn.Flatten()
        self.fc, self.head = nn.Linear(48, 9, bias=False), nn.Linear(9, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.plain_bn(self.bn(self.grouped(self.conv(self.clip(self.pad(x))))))
        x = x + self.average(self.lrn(x)) * self.tanh(x)
        seen = self.halves(self.kept(self.uneven(self.same_pool(self.same_conv(x)))))
        left, right = torch.chunk(self.shuffle(x), 2, dim=1)
        x = torch.cat([right, left[:, 2:7], x[:, 13:]], 1)
        x = self.twice(self.twice(self.ceil(self.pool(x)))) + self.squeeze(seen)
        relu, relu6, hardsigmoid, hardswish, sigmoid, silu = (act(x) for act in self.acts)
        y = torch.add(relu6 * hardsigmoid + hardswish, torch.mul(sigmoid, silu))
        y = torch.cat([y, F.relu(self.fake(x), inplace=False), self.drop(relu)], dim=1)
        z = torch.flatten(self.squeeze(y), start_dim=1) + torch.flatten(self.squeeze(torch.cat((x, x, x), 1)), 1)
        z += self.flat(self.squeeze(torch.cat([torch.relu(x), self.same(x), x], 1)))
        return self.head(self.fc(z))


class QuantizedTracer(Tracer):
    """As the quantizer leaves a network: FakeQuantize is a leaf."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return isinstance(m, FakeQuantize) or super().is_leaf_module(m, module_qualified_name)


def calls(model: fx.GraphModule) -> set[object]:
    modules = [type(model.get_submodule(node.target)) for node in model.graph.nodes if node.op == "call_module"]
    return {*modules, *(node.target for node in model.graph.nodes if node.op == "call_function")}


@pytest.mark.parametrize("contract", [CONTRACT, UNEVEN], ids=["whole mean", "uneven mean"])
def test_every_operation_agrees_with_pytorch(contract):
    torch.manual_seed(0)
    module = settled(Everything(), NOISE, contract)
    model = fx.GraphModule(module, QuantizedTracer().trace(module)).eval()
    assert calls(model) == MODULES.keys() | FUNCTIONS.keys()
    file = export_onnx(model, contract)
    onnx.checker.check_model(onnx.load_from_string(file), full_check=True)
    assert expected(model, NOISE, contract).std(0).min() > 0.005  # pictures differ, so agreement means something
    for batch in (1, 2, 7):
        pixels = NOISE[:batch]
        np.testing.assert_allclose(run_file(file, pixels), expected(model, pixels, contract), atol=1e-5, rtol=0)
    assert ("Cast" in {node.op_type for node in onnx.load_from_string(file).graph.node}) == (contract is UNEVEN)


@pytest.mark.parametrize(
    ("mean", "std", "grid"),
    [
        ((128.0,) * 3, (64.0,) * 3, (1 / 64, 128)),
        ((0.0,) * 3, (255.0,) * 3, (1 / 255, 0)),
        ((127.5,) * 3, (64.0,) * 3, None),
        ((-1.0,) * 3, (64.0,) * 3, None),
        ((256.0,) * 3, (64.0,) * 3, None),
        ((128.0, 128.0, 127.0), (64.0,) * 3, None),
        ((128.0,) * 3, (64.0, 64.0, 65.0), None),
    ],
    ids=str,
)
def test_pixels_lie_on_one_grid_or_are_computed(mean, std, grid):
    contract = InputContract(side=16, mean=mean, std=std)
    assert contract.grid == grid
    model = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 2)).eval()
    file = export_onnx(model, contract)
    assert ("DequantizeLinear" in {node.op_type for node in onnx.load_from_string(file).graph.node}) == bool(grid)
    np.testing.assert_allclose(run_file(file, NOISE), expected(model, NOISE, contract), atol=1e-5)


class Calls(nn.Module):
    """Modules by name, a function over them, and a classifier."""

    def __init__(self, function, **modules: nn.Module) -> None:
        super().__init__()
        for name, module in modules.items():
            self.add_module(name, module)
        self.function, self.squeeze, self.fc = function, nn.AdaptiveAvgPool2d(1), nn.Linear(3, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(torch.flatten(self.squeeze(self.function(self, x)), 1))


REFUSED = {
    "module": (Calls(lambda m, x: m.act(x), act=nn.GELU()), r"module 'act' is a GELU, which the exporter cannot write"),
    "function": (Calls(lambda m, x: torch.tanh(x)), r"node 'tanh' is a tanh, which"),
    "method": (Calls(lambda m, x: x.clamp(0, 6)), r"node 'clamp' is a clamp, which"),
    "padding_mode": (
        Calls(lambda m, x: m.c(x), c=nn.Conv2d(3, 3, 3, 1, 1, padding_mode="reflect")),
        r"'c' .*='reflect'",
    ),
    "padding": (
        Calls(lambda m, x: m.c(x), c=nn.Conv2d(3, 3, 3, padding="same")),
        r"'c' has padding='same'; give it as numbers",
    ),
    "statistics": (Calls(lambda m, x: m.b(x), b=nn.BatchNorm2d(3, track_running_stats=False)), r"'b' keeps no running"),
    "number": (Calls(lambda m, x: x + 1.0), r"'add' combines a tensor with a number"),
    "number first": (Calls(lambda m, x: 2 * x), r"'mul' combines a tensor with a number"),
    "alpha": (Calls(lambda m, x: torch.add(x, x, alpha=-3)), r"'add' gives add alpha by name"),
    "keyword": (Calls(lambda m, x: torch.mul(x, other=x)), r"'mul' gives mul other by name"),
    "axis": (Calls(lambda m, x: torch.cat([x, x], axis=2)), r"'cat' gives cat axis by name"),
    "functional": (Calls(lambda m, x: F.avg_pool2d(x, 2)), r"node 'avg_pool2d' is a avg_pool2d, which"),
    "flatten": (nn.Sequential(nn.Flatten(2), nn.Flatten(1)), r"'_0' flattens dimensions \(2, -1\)"),
    "two outputs": (nn.Sequential(nn.Conv2d(3, 2, 1)), r"must return logits of shape \(B, classes\)"),
    "unequal chunks": (
        Calls(lambda m, x: torch.cat(torch.chunk(x, 2, 1), 1)),
        r"'chunk' splits dimension 1 of 3 into 2; only",
    ),
    "rows": (Calls(lambda m, x: x[:, :, 2:]), r"'getitem' takes .* of a tensor; only x\[:, a:b\]"),
    "every second": (
        Calls(lambda m, x: torch.cat([x[:, ::2], x[:, :1]], 1)),
        r"'getitem' takes .* of a tensor; only x\[:, a:b\]",
    ),
    "divisor": (
        Calls(lambda m, x: m.pool(x), pool=nn.AvgPool2d(2, divisor_override=3)),
        r"'pool' has a divisor of its own",
    ),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_the_exporter_cannot_write_is_refused_by_name(what):
    model, message = REFUSED[what]
    with pytest.raises(BadInput, match=message):
        export_onnx(model.eval(), CONTRACT)


def test_training_mode_is_refused():
    with pytest.raises(BadInput, match=r"export_onnx: call model.eval\(\) first"):
        export_onnx(create_model("mobilenet_v1", width=0.1).train(), CONTRACT)


# --- the networks ---------------------------------------------------------------------------------------------------


@cache
def mobilenet(name: str) -> tuple[fx.GraphModule, fx.GraphModule]:
    """Folded, and int8."""
    width = {"mobilenet_v1": 0.25, "mobilenet_v2": 0.35}[name]
    torch.manual_seed(0)
    folded, _ = fold_batchnorm(settled(create_model(name, width=width, num_classes=6, stem_stride=1), NOISE, CONTRACT))
    images = torch.from_numpy(CONTRACT.normalise(NOISE))
    scale, zero = CONTRACT.grid
    return folded, quantize(folded, [images], input_scale=scale, input_zero_point=zero)[0]


@pytest.mark.parametrize("name", ["mobilenet_v1", "mobilenet_v2"])
def test_both_precisions_of_the_networks_prove_parity(name):
    folded, integer = mobilenet(name)
    assert expected(folded, NOISE, CONTRACT).std(0).max() > 0.02  # pictures differ
    files = {"float32": export_onnx(folded, CONTRACT), "int8": export_onnx(integer, CONTRACT)}
    for precision, model in (("float32", folded), ("int8", integer)):
        file = files[precision]
        onnx.checker.check_model(onnx.load_from_string(file), full_check=True)
        assert export_onnx(model, CONTRACT) == file  # the same bytes
        classifier = load_classifier(file, contract=CONTRACT)
        assert largest_difference(model, classifier, precision) <= PARITY[precision]
        for runtime in ("onnxruntime", "torch"):  # a sum at the edge between two steps may fall to either side, rarely
            off = np.abs(run_file(file, NOISE, runtime) - expected(model, NOISE, CONTRACT)).max(1)
            assert np.quantile(off, 0.3 if precision == "int8" else 1.0) < 1e-5, runtime
    assert len(files["int8"]) < 0.5 * len(files["float32"])
    assert largest_difference(folded, classifier, "float32") > PARITY["float32"]  # int8 is not the float network


def test_an_int8_file_holds_integers_only():
    _, integer = mobilenet("mobilenet_v2")
    graph = onnx.load_from_string(export_onnx(integer, CONTRACT)).graph
    large = [t for t in graph.initializer if np.prod(t.dims) > 256]
    kinds = {onnx.helper.tensor_dtype_to_np_dtype(t.data_type) for t in large if len(t.dims) > 1}
    assert kinds == {np.dtype(np.int8)}
    produced = {out: node.op_type for node in graph.node for out in node.output}
    for node in graph.node:
        if node.op_type in ("Conv", "Gemm"):  # every input behind a DequantizeLinear: a runtime can fuse them all
            moved = next((n for n in graph.node if n.output[0] == node.input[0]), None)
            first = moved.input[0] if moved.op_type == "Reshape" else node.input[0]
            assert [produced[name] for name in (first, *node.input[1:])] == ["DequantizeLinear"] * 3, node.name
    ran = {node.op_type for node in optimised(export_onnx(integer, CONTRACT)).graph.node}
    assert {"QLinearConv", "QGemm"} < ran and "DequantizeLinear" not in ran  # and ONNX Runtime does


# --- metadata -------------------------------------------------------------------------------------------------------


def tiny(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    layers = nn.Conv2d(3, 4, 3, stride=2), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3)
    return settled(nn.Sequential(*layers), NOISE, CONTRACT)


def artifact(**changes: object) -> Artifact:
    values = {
        "network": "tiny",
        "arguments": {"width": 0.5},
        "precision": "float32",
        "labels": ("a", "b \u2603", "c"),
        "contract": CONTRACT,
        "golden": {},
        "parents": {"data": "00ff"},
        "records": (Record(name="fold_batchnorm", changed=("0.1",), skipped=(("1", "why"),)),),
    }
    return Artifact(**(values | changes))


def test_metadata_make_the_round_trip_and_leave_the_graph_alone():
    file = export_onnx(tiny(), CONTRACT)
    given = {"b": "2 \u2603", "a": "1"}
    labelled = with_metadata(file, given)
    assert {p.key: p.value for p in onnx.load_from_string(labelled).metadata_props} == given
    assert with_metadata(labelled, {}) == file == with_metadata(file, {})
    assert with_metadata(file, dict(sorted(given.items()))) == labelled == export_onnx(tiny(), CONTRACT, given)
    assert graph_digest(labelled) == graph_digest(file) != graph_digest(export_onnx(tiny(1), CONTRACT))
    with pytest.raises(BadInput, match="metadata exceeds 1,000,000 characters"):
        with_metadata(file, {"a": "x" * 1_000_001})


def test_an_artifact_is_read_back_from_its_file():
    whole = artifact(
        accuracy=0.5, interval=(0.4, 0.6), n=90, split="test", golden={"pictures": ["x"]},
        cost=Cost(params=7, macs=9, size_bytes=5, latency_ms=0.1, runtime="onnxruntime", threads=1, batch=1),
    )  # fmt: skip
    model = onnx.load_from_string(export_onnx(tiny(), CONTRACT, whole.metadata()))
    bare_record = Record(name="fold_batchnorm")
    assert read_artifact(model) == replace(whole, records=(bare_record,), cost=Cost(params=7, macs=9))
    assert "latency" not in model.metadata_props[0].value  # a machine's figure would change the file's bytes
    assert json.loads(json.dumps(whole.to_json()))["cost"]["latency_ms"] == 0.1
    assert read_artifact(onnx.load_from_string(export_onnx(tiny(), CONTRACT, {"other": "{}"}))) is None


FACTS = json.loads(artifact().metadata()["swiftlet"])
MALFORMED = {
    "empty": "",
    "no object": "[]",
    "null": "null",
    "deep": "[" * 100_000,
    "label": json.dumps(FACTS | {"labels": ["a", 5]}),
    "unknown key": json.dumps(FACTS | {"colour": "red"}),
    "contract": json.dumps(FACTS | {"contract": FACTS["contract"] | {"side": -1}}),
    "half accuracy": json.dumps(FACTS | {"accuracy": 0.5}),
    "cost": json.dumps(FACTS | {"cost": {"params": -1}}),
    "records": json.dumps(FACTS | {"records": [{}]}),
} | {f"no {key}": json.dumps({k: v for k, v in FACTS.items() if k != key}) for key in ("golden", "labels", "network")}


@pytest.mark.parametrize("what", MALFORMED)
def test_malformed_metadata_are_refused(what):
    file = with_metadata(export_onnx(tiny(), CONTRACT), {"swiftlet": MALFORMED[what]})
    with pytest.raises(BadFile, match=r"metadata in the file is malformed|input contract: "):
        load_classifier(file)


def test_an_artifact_is_not_half_measured():
    with pytest.raises(BadInput, match="belong together"):
        artifact(accuracy=0.5, n=3)


# --- golden pictures ------------------------------------------------------------------------------------------------


def with_golden(model: nn.Module, contract: InputContract = CONTRACT) -> bytes:
    graph = export_onnx(model, contract)
    bare = load_classifier(graph, contract=contract)
    return with_metadata(graph, artifact(contract=contract, golden=golden_record(bare.scores, contract)).metadata())


def test_the_golden_proof_holds_and_notices_another_weight_and_another_contract():
    classifier = load_classifier(with_golden(tiny()))
    assert parity(classifier.scores, classifier.contract, classifier.golden).max() < 1e-6
    assert np.ptp(classifier.golden["scores"], axis=0).max() > 0.1

    other = tiny()
    with torch.no_grad():
        other[0].weight[1, 0, 2, 2] += 0.05
    changed = load_classifier(export_onnx(other, CONTRACT), contract=CONTRACT)
    assert parity(changed.scores, CONTRACT, classifier.golden).max() > PARITY["float32"]
    shifted = replace(CONTRACT, mean=(120.0,) * 3)  # the same pixels, other scores
    moved = load_classifier(export_onnx(tiny(), shifted), contract=shifted)
    assert parity(moved.scores, shifted, classifier.golden).max() > PARITY["float32"]
    with pytest.raises(BadFile, match="gradient-96x64: this machine computes other pixels"):
        parity(classifier.scores, replace(CONTRACT, side=25), classifier.golden)


def break_record(**changes: object) -> object:
    good = golden_record(lambda pixels: np.zeros((len(pixels), 3)), CONTRACT)
    return good | changes


BROKEN = {
    "no object": [],
    "empty": {},
    "no pictures": break_record(pictures=[]),
    "unknown picture": break_record(pictures=["moon"] * 4),
    "too few digests": break_record(pixels_sha256=[]),
    "too many digests": break_record(pixels_sha256=[*break_record()["pixels_sha256"], ""]),
    "number": break_record(pixels_sha256=5),
    "scores": break_record(scores=[[1.0], [1.0, 2.0]]),
    "no scores": break_record(scores=None),
    "text": break_record(scores=[["a", "b", "c"]] * 4),
    "other classes": break_record(scores=[[0.0, 1.0]] * 4),
}


@pytest.mark.parametrize("what", BROKEN)
def test_malformed_golden_records_are_refused(what):
    with pytest.raises(BadFile, match="golden record"):
        parity(lambda pixels: np.zeros((len(pixels), 3)), CONTRACT, BROKEN[what])


def test_the_golden_folder_proves_itself(tmp_path):
    classifier = load_classifier(with_golden(tiny()))
    photo = Image.fromarray(NOISE[0]).resize((61, 43))
    folder = tmp_path / "golden"
    for _ in range(2):  # written over itself
        write_golden(folder, classifier.scores, CONTRACT, [("photo", photo)])
    record = json.loads((folder / "golden.json").read_text())
    assert InputContract.from_json(record["contract"]) == CONTRACT
    assert record["pictures"] == [*(name for name, _ in golden_pictures()), "photo"]
    assert {path.stem for path in folder.glob("*.png")} == set(record["pictures"])
    assert len(list(folder.iterdir())) == 6

    reread = [Image.open(folder / f"{name}.png") for name in record["pictures"]]
    again = golden_record_of(classifier.scores, dict(zip(record["pictures"], reread, strict=True)))
    assert again == {key: record[key] for key in again}
    own = {key: value[:4] for key, value in record.items() if key != "contract"}
    assert own == classifier.golden  # the file carries the same proof


def golden_record_of(run, pictures: dict[str, Image.Image]) -> dict[str, object]:
    """As a reader in another language would compute it."""
    pixels = np.stack([CONTRACT.pixels(picture) for picture in pictures.values()])
    scores = [[round(float(value), 6) for value in row] for row in run(pixels)]
    return {"pixels_sha256": [hashlib.sha256(p.tobytes()).hexdigest()[:32] for p in pixels], "scores": scores}


@pytest.mark.parametrize("size", [(75, 40), (40, 75), (61, 61), (13, 200)], ids=str)
def test_the_reports_snippet_runs_as_written(size, tmp_path, monkeypatch, capsys):
    (tmp_path / "model.onnx").write_bytes(with_golden(tiny()))
    lying = Image.fromarray(np.random.default_rng(1).integers(0, 256, (*size, 3), np.uint8)).resize(size)
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned
    lying.save(tmp_path / "photo.jpg", exif=exif, quality=95)
    monkeypatch.chdir(tmp_path)
    exec(compile(snippet(CONTRACT), "snippet", "exec"), {})
    label, value = capsys.readouterr().out.rsplit(maxsplit=1)

    classifier = load_classifier(tmp_path / "model.onnx")
    upright = open_photo(tmp_path / "photo.jpg")
    assert upright.size == (size[1], size[0])
    scores = classifier.scores(classifier.contract.pixels(upright)[None])[0]
    assert label == classifier.labels[scores.argmax()]
    assert float(value) == pytest.approx(float(scores.max()), abs=1e-6)
