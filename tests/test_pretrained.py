"""Trained weights: files made from the reference libraries with their real names, the hub's cache, and what is bad."""

import hashlib
import json
import re
import shutil
import struct
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import huggingface_hub
import numpy as np
import onnx
import pytest
import torch
import torchvision_ops  # noqa: F401  (lets torchvision and timm import)
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import nn
from toy import fixed_plan, write_photos
from twins import logits, quietly, randomise

from swiftlet import create_model, save_weights
from swiftlet.budget import Budget
from swiftlet.candidates import RECOMMENDED, candidates_for
from swiftlet.cli import jobs
from swiftlet.data.contract import InputContract
from swiftlet.errors import BadFile, BadInput, MissingExtra
from swiftlet.export.artifact import read_artifact
from swiftlet.fitting import fit
from swiftlet.plan import Plan, make_plan
from swiftlet.recipes.photos import RECIPE as PHOTOS
from swiftlet.zoo.weights import bounded, hub
from swiftlet.zoo.weights.load import LAYOUTS
from swiftlet.zoo.weights.pretrained import describe, is_cached
from swiftlet.zoo.weights.timm_hub import ARCHITECTURES
from swiftlet.zoo.weights.torchvision_files import PUBLISHED

SMALL = "mobilenetv2_035"  # the smallest of timm's that we have
IMAGENET = {"mean": (123.675, 116.28, 103.53), "std": (58.395, 57.12, 57.375)}


def save(model: nn.Module, file: Path) -> None:
    save_file({name: tensor.contiguous() for name, tensor in model.state_dict().items()}, file)


def timm_repository(folder: Path, architecture: str) -> nn.Module:
    """Fill a folder as timm fills a repository of the hub, with random weights; the network that is in it."""
    import timm
    from timm.models._hub import save_config_for_hf

    folder.mkdir(parents=True)
    model = randomise(quietly(lambda: timm.create_model(architecture, pretrained=False)))
    save(model, folder / "model.safetensors")
    save_config_for_hf(model, str(folder / "config.json"))
    return model.eval()


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("timm") / SMALL
    timm_repository(folder, SMALL)
    return folder


@pytest.fixture
def copy(small: Path, tmp_path: Path) -> Path:
    """A copy of the small repository, for tests that damage it."""
    return Path(shutil.copytree(small, tmp_path / "copy"))


def edit(config: Path, **changes: Any) -> None:
    config.write_text(json.dumps(json.loads(config.read_text()) | changes))


@pytest.mark.parametrize(
    "architecture", [pytest.param(name, marks=[pytest.mark.slow] * (name == "vgg16")) for name in ARCHITECTURES]
)
def test_every_architecture_of_timms_that_is_listed_is_ours(architecture: str, tmp_path: Path) -> None:
    theirs = timm_repository(tmp_path / architecture, architecture)
    ours = create_model(ARCHITECTURES[architecture][0], pretrained=tmp_path / architecture).eval()
    images = torch.randn(1, 3, 107, 107, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        expected = logits(theirs(images))
        torch.testing.assert_close(ours(images), expected, rtol=1e-5, atol=1e-5 * expected.abs().max().item())
    given = theirs.pretrained_cfg
    contract = ours.pretrained.contract
    assert (contract.side, contract.resize) == (given["input_size"][1], given["interpolation"])
    assert contract.crop_pct == given["crop_pct"]
    np.testing.assert_allclose(contract.mean, [255 * m for m in given["mean"]])
    np.testing.assert_allclose(contract.std, [255 * s for s in given["std"]])


def test_no_network_that_has_public_weights_is_forgotten() -> None:
    assert LAYOUTS["timm"].keys() == {network for network, _ in ARCHITECTURES.values()}
    assert LAYOUTS["torchvision"].keys() == {network for _, network, *_ in PUBLISHED.values()}


def test_what_is_recommended_is_what_timm_publishes() -> None:
    import timm

    published = set(quietly(lambda: timm.list_models(pretrained=True)))  # type: ignore[arg-type, return-value]
    for source in RECOMMENDED:
        assert source.removeprefix("timm/") in published
        assert source.removeprefix("timm/").partition(".")[0] in ARCHITECTURES


def test_the_contract_is_timms_own_transform(small: Path) -> None:
    from timm.data import create_transform, resolve_data_config

    given = json.loads((small / "config.json").read_text())["pretrained_cfg"]
    theirs = create_transform(**resolve_data_config({}, pretrained_cfg=given))
    photo = Image.radial_gradient("L").resize((300, 400)).convert("RGB")
    contract = describe(small).contract
    ours = contract.normalise(contract.pixels(photo)[None])[0]
    assert np.abs(ours - theirs(photo).numpy()).max() < 0.06  # 3 of 255: one resize of a box, or a resize and a crop


@pytest.mark.parametrize("name", PUBLISHED)
def test_torchvisions_facts(name: str) -> None:
    import torchvision

    network, tag = name.split(".")
    theirs = torchvision.models.get_model_weights(network)[tag]
    stem, *_ = PUBLISHED[name]
    assert theirs.url.rpartition("/")[2] == f"{stem}.pth"
    preset, contract = theirs.transforms(), describe(f"torchvision/{name}").contract
    assert preset.crop_size == [contract.side] and preset.interpolation.value == contract.resize
    assert contract.side / preset.resize_size[0] == contract.crop_pct
    if network not in ("googlenet", "inception_v3"):
        np.testing.assert_allclose(contract.mean, [255 * m for m in preset.mean])
        np.testing.assert_allclose(contract.std, [255 * s for s in preset.std])


HEAVY = ("alexnet", "vgg16")


@pytest.mark.parametrize(
    "name",
    [pytest.param(n, marks=[pytest.mark.slow] * n.startswith(HEAVY)) for n in PUBLISHED if n.endswith("_V1")],
)
def test_torchvisions_names_load_the_file_that_the_user_made(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each sees the same pixels its own way: Inception networks of torchvision's rescale them inside."""
    import torchvision

    network = name.partition(".")[0]
    rescales = {"transform_input": True} if network in ("googlenet", "inception_v3") else {}
    theirs = randomise(quietly(lambda: getattr(torchvision.models, network)(weights=None, **rescales))).eval()
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    stem, ours_name, _, side, _ = PUBLISHED[name]
    (tmp_path / "checkpoints").mkdir()
    with pytest.raises(BadFile, match=rf"{stem}\.safetensors: is missing.*weights_only=True"):
        create_model(ours_name, pretrained=f"torchvision/{name}")
    save(theirs, tmp_path / "checkpoints" / f"{stem}.safetensors")
    ours = create_model(ours_name, pretrained=f"torchvision/{name}").eval()
    assert ours.pretrained.licence == "BSD-3-Clause"
    pixels = np.random.default_rng(0).integers(0, 256, (1, side, side, 3), np.uint8)
    mean, std = (np.array(IMAGENET[k], np.float32) for k in ("mean", "std"))
    normalised = torch.from_numpy(((pixels - mean) / std).transpose(0, 3, 1, 2).astype(np.float32))
    with torch.inference_mode():
        expected = logits(theirs(normalised))
        mine = ours(torch.from_numpy(ours.pretrained.contract.normalise(pixels)))
    torch.testing.assert_close(mine, expected, rtol=1e-3, atol=1e-4 * expected.abs().max().item())
    same = create_model(ours_name, pretrained=tmp_path / "checkpoints" / f"{stem}.safetensors")  # by its name
    assert same.pretrained.digest == ours.pretrained.digest


REPOSITORY = f"timm/{SMALL}.untrained"
CARD = "---\ntags:\n- timm\nlicense: apache-2.0\n---\n# A card\n"


def cache_repository(cache: Path, repository: str, files: dict[str, bytes]) -> None:
    """Lay files into a cache folder as huggingface_hub does: a link each from a snapshot to a blob named by etag."""
    home, commit = cache / f"models--{repository.replace('/', '--')}", "c" * 40
    for folder in (home / "blobs", home / "refs", home / "snapshots" / commit):
        folder.mkdir(parents=True, exist_ok=True)
    (home / "refs" / "main").write_text(commit)
    for name, content in files.items():
        large = name.endswith(".safetensors")
        etag = (hashlib.sha256 if large else hashlib.sha1)(content).hexdigest()
        (home / "blobs" / etag).write_bytes(content)
        (home / "snapshots" / commit / name).symlink_to(f"../../blobs/{etag}")


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache, and a hub that must not be asked."""

    def asked(*_: object, **__: object) -> None:
        pytest.fail("the hub was asked")

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", asked)
    return tmp_path / "hub"


def files_of(folder: Path) -> dict[str, bytes]:
    return {name: (folder / name).read_bytes() for name in ("config.json", "model.safetensors")}


def test_what_is_cached_is_loaded_without_asking_anybody(small: Path, cache: Path) -> None:
    assert not is_cached(REPOSITORY)
    files = files_of(small)
    cache_repository(cache, REPOSITORY, files)
    assert is_cached(REPOSITORY)
    model = create_model("mobilenet_v2", pretrained=REPOSITORY)
    assert model.pretrained.source == REPOSITORY
    assert model.pretrained.digest == hashlib.sha256(files["model.safetensors"]).hexdigest()
    assert model.pretrained.licence == "apache-2.0"  # timm wrote it into config.json
    assert torch.equal(model.state_dict()["classifier.bias"], load_file(small / "model.safetensors")["classifier.bias"])


def test_the_licence_is_in_the_config_or_on_the_card_or_unknown(copy: Path, cache: Path) -> None:
    config = json.loads((copy / "config.json").read_text())
    del config["pretrained_cfg"]["license"]
    (copy / "config.json").write_text(json.dumps(config))
    cache_repository(cache, REPOSITORY, files_of(copy))
    assert describe(REPOSITORY).licence == f"unknown: see https://huggingface.co/{REPOSITORY}"
    cache_repository(cache, REPOSITORY, {"README.md": CARD.encode()})
    assert describe(REPOSITORY).licence == "apache-2.0"


def test_a_cached_file_that_was_tampered_with_is_refused(small: Path, cache: Path) -> None:
    cache_repository(cache, REPOSITORY, files_of(small))
    (blob,) = (b for b in cache.glob("*/blobs/*") if len(b.name) == 64)
    content = bytearray(blob.read_bytes())
    content[-1] ^= 1
    blob.write_bytes(content)
    with pytest.raises(BadFile, match=f"model.safetensors: its SHA-256 is .* it should be {blob.name}"):
        create_model("mobilenet_v2", pretrained=REPOSITORY)


def test_a_blob_may_be_a_link_into_a_store_that_goes_by_another_hash(small: Path, cache: Path) -> None:
    cache_repository(cache, REPOSITORY, files_of(small))
    (blob,) = (b for b in cache.glob("*/blobs/*") if len(b.name) == 64)
    store = cache / "store" / ("f" * 64)
    store.parent.mkdir()
    blob.rename(store)
    blob.symlink_to(store)
    assert create_model("mobilenet_v2", pretrained=REPOSITORY).pretrained.digest == blob.name


class _Hub(BaseHTTPRequestHandler):
    """Two requests are all that huggingface_hub makes for a file: HEAD for its etag and size, GET for its content."""

    files: ClassVar[dict[str, bytes]] = {}
    asked: ClassVar[list[str]] = []

    def do_HEAD(self) -> None:
        name = self.path.rpartition("/")[2]
        self.asked.append(f"{self.command} {name}")
        content = self.files.get(name)
        self.send_response(404 if content is None else 200)
        if content is None:
            self.send_header("X-Error-Code", "EntryNotFound")
        self.send_header("X-Repo-Commit", "d" * 40)
        self.send_header("ETag", f'"{hashlib.sha256(content or b"").hexdigest()}"')
        self.send_header("Content-Length", str(len(content or b"")))
        self.end_headers()

    def do_GET(self) -> None:
        self.do_HEAD()
        self.wfile.write(self.files.get(self.path.rpartition("/")[2], b""))

    def log_message(self, *_: object) -> None: ...


@pytest.fixture
def online(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """A hub on this machine and an empty cache; the requests that it was sent."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Hub)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    address = f"http://127.0.0.1:{server.server_port}"
    monkeypatch.setattr(
        huggingface_hub.constants, "HUGGINGFACE_CO_URL_TEMPLATE", address + "/{repo_id}/resolve/{revision}/{filename}"
    )
    monkeypatch.setattr(_Hub, "asked", [])
    yield _Hub.asked
    server.shutdown()
    thread.join()
    server.server_close()


def test_the_hub_is_asked_once_and_only_for_what_is_missing(
    small: Path, online: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_Hub, "files", files_of(small) | {"README.md": CARD.encode()})
    known = describe(REPOSITORY)
    assert {request.split()[1] for request in online} == {"config.json", "README.md"}  # a plan needs no more
    assert known.network == "mobilenet_v2" and known.arguments == {"width": 0.35}
    create_model("mobilenet_v2", pretrained=REPOSITORY)
    assert online.count("GET model.safetensors") == 1
    before = len(online)
    create_model("mobilenet_v2", pretrained=REPOSITORY)
    assert len(online) == before


def test_a_repository_without_safetensors_names_the_file(
    small: Path, online: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_Hub, "files", {"config.json": (small / "config.json").read_bytes(), "pytorch_model.bin": b"x"})
    with pytest.raises(BadFile, match=r"model\.safetensors is missing in https://huggingface.co/timm/"):
        create_model("mobilenet_v2", pretrained=REPOSITORY)


def test_offline_the_error_names_the_file_that_is_missing(
    small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    folder = re.escape(str(tmp_path / f"models--timm--{SMALL}.untrained"))
    with pytest.raises(BadFile, match=rf"config\.json of {REPOSITORY} is missing in {folder}"):
        create_model("mobilenet_v2", pretrained=REPOSITORY)
    cache_repository(tmp_path, REPOSITORY, {"config.json": (small / "config.json").read_bytes()})
    with pytest.raises(BadFile, match=rf"model\.safetensors of {REPOSITORY} is missing in {folder}"):
        create_model("mobilenet_v2", pretrained=REPOSITORY)


def test_without_the_extra_there_is_no_cache_and_its_name_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    assert not is_cached(REPOSITORY)
    with pytest.raises(MissingExtra, match=r"pip install 'swiftlet\[hub\]'"):
        describe(REPOSITORY)


def test_other_classes_leave_the_classifier_random_and_load_the_rest(small: Path) -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        model = create_model("mobilenet_v2", pretrained=small, num_classes=7, dropout=0.0)
        torch.manual_seed(5)
        random = create_model("mobilenet_v2", width=0.35, num_classes=7, dropout=0.0)
    theirs = load_file(small / "model.safetensors")
    assert torch.equal(model.classifier.weight, random.classifier.weight)
    assert torch.equal(model.stem[0].weight, theirs["conv_stem.weight"])
    assert torch.equal(model.head[1].running_var, theirs["bn2.running_var"])
    assert model.architecture.arguments == {"width": 0.35, "num_classes": 7, "dropout": 0.0}


CONTRACT = InputContract(side=96, mean=(127.5,) * 3, std=(60.0, 61.0, 62.0), resize="bicubic", crop_pct=0.9)


def own_file(file: Path, **arguments: Any) -> nn.Module:
    """A network of ours with random weights and statistics, saved by save_weights."""
    model = randomise(create_model("mobilenet_v2", width=0.1, **arguments))
    save_weights(model, file, contract=CONTRACT, licence="CC0-1.0")
    return model


def test_our_own_file_comes_back_equal(tmp_path: Path) -> None:
    model = own_file(tmp_path / "ours.safetensors", num_classes=4, padding="tensorflow")
    again = create_model("mobilenet_v2", pretrained=tmp_path / "ours.safetensors")
    assert again.architecture == model.architecture
    assert all(torch.equal(a, b) for a, b in zip(model.state_dict().values(), again.state_dict().values(), strict=True))
    read = again.pretrained
    assert (read.contract, read.licence, read.layout) == (CONTRACT, "CC0-1.0", "swiftlet")
    fewer = create_model("mobilenet_v2", pretrained=tmp_path / "ours.safetensors", num_classes=3)
    assert torch.equal(fewer.stem[0].weight, model.stem[0].weight) and fewer.classifier.out_features == 3
    with pytest.raises(BadInput, match="create_model built"):
        save_weights(nn.Linear(2, 2), tmp_path / "x.safetensors", contract=CONTRACT, licence="")


def header(file: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Change what our own file says of itself."""
    content = file.read_bytes()
    (size,) = struct.unpack("<Q", content[:8])
    whole = json.loads(content[8 : 8 + size])
    facts = json.loads(whole["__metadata__"]["swiftlet"])
    change(facts)
    whole["__metadata__"]["swiftlet"] = json.dumps(facts)
    text = json.dumps(whole).encode()
    file.write_bytes(struct.pack("<Q", len(text)) + text + content[8 + size :])


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda facts: facts.pop("licence"), "malformed .*licence"),
        (lambda facts: facts.update(more=1), "malformed .*more"),
        (lambda facts: facts.update(network="resnet9000"), "the zoo has no network"),
        (lambda facts: facts.update(network=["x"]), "malformed"),
        (lambda facts: facts.update(num_classes="7"), "malformed"),
        (lambda facts: facts["arguments"].update(witdh=2), "cannot be built: .* no argument 'witdh'"),
        (lambda facts: facts["arguments"].update(width=30), "asks for a network of .* values and holds"),
        (lambda facts: facts["arguments"].update(width=1e200), "cannot be built"),
        (lambda facts: facts["contract"].update(side=0), "input contract: side"),
    ],
)
def test_a_header_that_lies_is_refused_before_memory_is_taken(
    change: Callable[[dict[str, Any]], object], says: str, tmp_path: Path
) -> None:
    file = tmp_path / "ours.safetensors"
    own_file(file, num_classes=4)
    header(file, lambda facts: None)
    create_model("mobilenet_v2", pretrained=file)
    header(file, change)
    with pytest.raises((BadFile, BadInput), match=says):
        create_model(describe(file).network, pretrained=file)


def test_files_that_are_missing_malformed_or_no_safetensors(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(says: str, source: Path = copy, kind: type[Exception] = BadFile, **arguments: object) -> None:
        with pytest.raises(kind, match=says):
            create_model("mobilenet_v2", pretrained=source, **arguments)

    weights, config = copy / "model.safetensors", copy / "config.json"
    content, facts = weights.read_bytes(), config.read_text()
    refused("nowhere.safetensors: is missing", copy / "nowhere.safetensors")
    refused("is a pickle.*torch.load.*weights_only=True", copy / "pytorch_model.bin")
    weights.rename(copy / "other.safetensors")
    refused(r"model\.safetensors: is missing")
    (copy / "other.safetensors").rename(weights)
    refused(r"width=1.0 contradicts .* trained with 0.35", kind=BadInput, width=1.0)
    refused("stem_stride=1 contradicts", kind=BadInput, stem_stride=1)
    refused("no argument 'widht'", kind=BadInput, widht=1)
    with pytest.raises(BadInput, match="holds weights of mobilenet_v2, not of mobilenet_v1"):
        create_model("mobilenet_v1", pretrained=copy)

    edit(config, sha256=hashlib.sha256(content).hexdigest())
    create_model("mobilenet_v2", pretrained=copy)
    edit(config, sha256="0" * 64)
    refused("its SHA-256 is .* it should be 0000")
    edit(config, sha256=7)
    refused("'sha256' must be")
    for text, says in (
        ("{", "config.json: is not JSON"),
        ("[1]", "holds no JSON object"),
        ("[" * 100_000, "config.json: is not JSON"),
        (" " * 1_000_001, "holds more than 1,000,000"),
        ("{}", "does not name its 'architecture'"),
        ('{"architecture": "mobilenetv2_035"}', "'pretrained_cfg' is not what timm writes"),
        ('{"architecture": "mobilenetv2_035", "pretrained_cfg": 1}', "'pretrained_cfg' is not what timm writes"),
        (facts.replace('"bicubic"', '"lanczos"'), "'pretrained_cfg' .*resize must be"),
        (facts.replace('"center"', '"squash"'), "not a square RGB crop"),
        (facts.replace("0.225", "0"), "'pretrained_cfg' .*std must be"),
        (facts.replace(SMALL, "mobilenetv2_100"), "another width"),
    ):
        config.write_text(text)
        refused(says)
    config.write_text(facts.replace(SMALL, "resnet9000"))
    refused("no network for timm's 'resnet9000'; it has .*mobilenetv2_035", kind=BadInput)
    config.unlink()
    refused(r"config\.json: is missing")
    config.write_text(facts)

    weights.write_bytes(content[:-1])
    refused("model.safetensors: is not a whole safetensors file")
    weights.write_bytes(struct.pack("<Q", 2**62) + content[8:])
    refused("model.safetensors: is not a whole safetensors file")
    torch.save({"a": torch.zeros(1)}, weights)  # a pickle under another name
    refused("model.safetensors: is not a whole safetensors file")
    weights.write_bytes(content)
    monkeypatch.setattr(bounded, "MAX_BYTES", 1000)
    refused("is larger than 1e-06 GB")


def test_names_that_are_nothing() -> None:
    with pytest.raises(BadInput, match=r"did you mean 'torchvision/mobilenet_v2\.IMAGENET1K_V2'"):
        describe("torchvision/mobilenet_v2.IMAGENET1K_V3")
    with pytest.raises(BadFile, match="nothing: is missing"):
        describe("nothing")
    with pytest.raises(BadFile, match="neither a file, a folder nor the name of a repository"):
        hub.cached("a--b/..c", "config.json")


def test_which_weights_are_candidates(small: Path, cache: Path) -> None:
    """Without a word those recommended that are cached; named ones alone; at sides that a trained network can use."""
    random = candidates_for(160)
    assert not any(c.pretrained for c in random)
    config = json.loads((small / "config.json").read_text())
    for i, source in enumerate(RECOMMENDED):
        config["architecture"] = source.removeprefix("timm/").partition(".")[0]
        cache_repository(cache, source, {"config.json": json.dumps(config).encode()})
        if i < 2:  # of the others, only the configuration
            cache_repository(cache, source, {"model.safetensors": b"not read yet"})
    found = [c for c in candidates_for(160) if c.pretrained]
    assert {c.pretrained.source for c in found if c.pretrained} == set(RECOMMENDED[:2])
    assert {c.side for c in found} == {64, 96, 128, 160}
    auto = candidates_for(160, "auto")
    assert {c.pretrained.source for c in auto if c.pretrained} == set(RECOMMENDED) and auto[: len(random)] == random
    assert len({c.name for c in auto}) == len(auto)
    named = candidates_for(28, str(small))
    assert [(c.network, c.width, c.side) for c in named] == [("mobilenet_v2", 0.35, 64)]
    assert named[0].contract == InputContract(side=64, resize="bicubic", **IMAGENET)  # the whole photo


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small file of ours with a licence, and pixels that lie on no int8 grid."""
    file = tmp_path_factory.mktemp("own") / "trained.safetensors"
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = create_model("mobilenet_v2", width=0.1, num_classes=11)
    contract = InputContract(side=224, resize="bicubic", crop_pct=0.875, **IMAGENET)
    save_weights(model, file, contract=contract, licence="CC0-1.0")
    return file


def plan_of(file: Path) -> Plan:
    (candidate,) = candidates_for(24, str(file))
    toy, rungs = fixed_plan(), ({candidate.name: 10},)
    planned = replace(toy.planned[0], candidate=candidate)
    return replace(
        toy, planned=(planned,), sketch=candidate.name, sketch_steps=2, shortlist=(candidate.name,), rungs=rungs
    )


def test_training_starts_from_the_weights(trained: Path) -> None:
    (candidate,) = candidates_for(24, str(trained))
    theirs = load_file(trained)
    for name, tensor in candidate.start(4, 0).state_dict().items():
        assert name.startswith("classifier") or torch.equal(tensor, theirs[name]), name
    once, again = (candidate.start(4, seed=3).state_dict()["classifier.weight"] for _ in range(2))
    assert torch.equal(once, again)


def test_a_plan_with_weights_survives_json_and_a_damaged_one_is_refused(trained: Path) -> None:
    plan = plan_of(trained)
    data = json.loads(json.dumps(plan.to_json()))
    assert Plan.from_json(data) == plan
    weights = data["planned"][0]["candidate"]["pretrained"]
    for damaged in (
        weights | {"licence": 3},
        weights | {"layout": "x"},
        weights | {"contract": {}},
        {"source": "x"},
        7,
    ):
        data["planned"][0]["candidate"]["pretrained"] = damaged
        with pytest.raises(BadFile):
            Plan.from_json(data)


def test_a_plan_puts_the_trained_one_of_two_equal_networks_first(trained: Path) -> None:
    (candidate,) = candidates_for(24, str(trained))
    candidates = (replace(candidate, pretrained=None), candidate)
    plan = make_plan(candidates, Budget(runtime="null"), num_classes=4, photos=100, recipe=PHOTOS, minutes=1)
    assert plan.shortlist[0] == plan.sketch == candidate.name == "mobilenet_v2-0.1-64px-pretrained"
    assert set(plan.find(candidate.name).costs) == {"float32", "int8"}


def test_fit_from_a_local_file(trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    photos, out, file = write_photos(tmp_path / "photos", per_class=8), tmp_path / "run", tmp_path / "mine.safetensors"
    shutil.copy(trained, file)
    budget = Budget(latency_ms=50, runtime="onnxruntime")
    result = fit(photos, budget, minutes=5, out=out, plan=plan_of(file))
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    assert result.weights == {"source": str(file), "licence": "CC0-1.0", "sha256": digest}
    assert json.loads((out / "model.json").read_text())["weights"] == result.weights
    artifact = read_artifact(onnx.load(result.file))
    assert artifact is not None and artifact.weights == result.weights
    assert artifact.contract == InputContract(side=64, resize="bicubic", **IMAGENET)
    assert {row["precision"] for row in result.tried if row["accuracy"] is not None} == {"float32", "int8"}
    page = (out / "report.html").read_text()
    assert "licence CC0-1.0" in page and "Image.Resampling.BICUBIC" in page and "photos_finetuning" in page
    jobs.show_result(asdict(result))
    assert f"weights   started from {file}, licence CC0-1.0\n" in capsys.readouterr().out

    for path in out.rglob("*.round1*"):  # as if killed before the first round, and the weights were changed since
        path.unlink()
    (out / "stages" / "result.json").unlink()
    (out / "test-opened.json").unlink()
    changed = create_model("mobilenet_v2", pretrained=file)
    save_weights(changed, file, contract=artifact.contract, licence="CC0-1.0")
    with pytest.raises(BadFile, match="holds other weights than when this run began"):
        fit(photos, budget, minutes=5, out=out, plan=None)
