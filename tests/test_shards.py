"""Tar shards: nothing private in them, nothing lost, read from anywhere, and no hostile file gets through."""

import hashlib
import io
import json
import shutil
import sys
import tarfile
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from needs import data_folder
from PIL import Image, PngImagePlugin
from toy import COLOURS, write_photos

from swiftlet.data import memory, read_ahead, shard_place
from swiftlet.data.clean import Cleaned
from swiftlet.data.contract import InputContract
from swiftlet.data.decode import open_photo
from swiftlet.data.listing import Files
from swiftlet.data.photos import load_labelled, load_photos
from swiftlet.data.read_ahead import ReadAhead, in_batches, pixels_of
from swiftlet.data.shard_index import INDEX, TABLE
from swiftlet.data.shard_reader import open_shards
from swiftlet.data.shard_tar import Writer, list_tars, members
from swiftlet.data.shards import MANIFEST, Made, make_shards
from swiftlet.data.strip import stripped
from swiftlet.errors import BadInput, BadPhotos, MissingExtra
from swiftlet.training import train

SECRET = b"52.5163 N 13.3777 E"
CLASSES = tuple(sorted(COLOURS))
ROOT = Path(__file__).parent.parent


# What is stored of a picture


def exif(orientation: int | None = None) -> bytes:
    tags = Image.Exif()
    tags[0x010E] = SECRET.decode()
    tags.get_ifd(0x8825)[1] = "N"
    if orientation:
        tags[0x0112] = orientation
    return tags.tobytes()


def picture(mode: str) -> Image.Image:
    pixels = np.random.default_rng(0).integers(0, 256, (9, 11, 4), np.uint8).repeat(5, 0).repeat(5, 1)
    if mode == "I;16":
        return Image.fromarray(pixels[..., 0].astype(np.uint16) * 257)
    if mode == "P":
        image = Image.fromarray(pixels[..., :3]).quantize(16)
        image.info["transparency"] = 3
        return image
    return Image.fromarray(pixels, "RGBA" if mode != "CMYK" else mode).convert(mode)


TEXT = PngImagePlugin.PngInfo()
TEXT.add_text("place", SECRET.decode())
KINDS: dict[str, tuple[str, dict[str, Any]]] = {
    "baseline": ("RGB", {"format": "JPEG"}),
    "progressive": ("RGB", {"format": "JPEG", "progressive": True, "subsampling": 0}),
    "restarts": ("RGB", {"format": "JPEG", "restart_marker_blocks": 1}),
    "as-rgb": ("RGB", {"format": "JPEG", "keep_rgb": True}),  # Adobe's segment alone tells it from YCbCr
    "grey-jpeg": ("L", {"format": "JPEG"}),
    "cmyk": ("CMYK", {"format": "JPEG"}),
    "png": ("RGB", {"format": "PNG", "pnginfo": TEXT}),
    "alpha": ("RGBA", {"format": "PNG", "pnginfo": TEXT}),
    "palette": ("P", {"format": "PNG", "pnginfo": TEXT}),
    "deep": ("I;16", {"format": "PNG", "pnginfo": TEXT}),
    "webp": ("RGB", {"format": "WEBP"}),
    "webp-alpha": ("RGBA", {"format": "WEBP"}),
    "lossless": ("RGBA", {"format": "WEBP", "lossless": True}),
}


def saved(kind: str, orientation: int | None = None) -> bytes:
    """A picture of one of KINDS with everything in it that a file can tell about its owner."""
    mode, options = KINDS[kind]
    stream = io.BytesIO()
    private = {"exif": exif(orientation), "icc_profile": SECRET * 9, "xmp": SECRET, "comment": SECRET}
    picture(mode).save(stream, **private, **options)
    return stream.getvalue()


@pytest.mark.parametrize("kind", KINDS)
def test_metadata_go_and_pixels_stay(kind: str) -> None:
    data = saved(kind)
    bare = stripped(data + SECRET * 3)  # and what stands behind the picture
    assert SECRET in data and bare is not None and SECRET not in bare and b"Exif" not in bare
    assert open_photo(bare).tobytes() == open_photo(data).tobytes()
    assert stripped(bare) == bare
    with Image.open(io.BytesIO(bare)) as image:
        assert not image.getexif() and "icc_profile" not in image.info and "xmp" not in image.info


def test_a_thumbnail_in_the_jfif_segment_goes() -> None:
    data = saved("baseline")
    at = data.index(b"JFIF\0")
    body = data[at : at + 12] + b"\x02\x02" + SECRET[:12]  # 2 x 2 pixels of an uncropped picture
    thumb = b"\xff\xd8\xff\xe0" + (len(body) + 2).to_bytes(2) + body + data[at + 14 :]
    bare = stripped(thumb)
    assert bare is not None and SECRET[:12] in thumb and SECRET[:12] not in bare
    assert open_photo(bare).tobytes() == open_photo(data).tobytes()


@settings(deadline=None)
@given(st.sampled_from(sorted(KINDS)), st.data())
def test_stripping_survives_any_damage(kind: str, draw: st.DataObject) -> None:
    data = bytearray(saved(kind))
    for _ in range(draw.draw(st.integers(1, 4))):
        data[draw.draw(st.integers(0, len(data) - 1))] = draw.draw(st.integers(0, 255))
    bare = stripped(bytes(data[: draw.draw(st.integers(0, len(data)))]))
    assert bare is None or stripped(bare) == bare


def test_photos_of_phones_are_stored_without_their_place() -> None:
    files = sorted(data_folder("exif_gps").glob("*.jpg"))
    cleaned = Cleaned(Files(files), None)
    for index, file in enumerate(files):
        with Image.open(file) as image:
            assert image.getexif().get_ifd(0x8825)
        data, _, encoded = cleaned.stored(index)
        with Image.open(io.BytesIO(data)) as image:
            assert not image.getexif() and {name.partition("_")[0] for name in image.info} <= {"jfif"}
        assert not encoded and open_photo(data).tobytes() == open_photo(file).tobytes()
    assert len(files) == 11


def test_only_what_must_be_is_encoded_anew(tmp_path: Path) -> None:
    animated = io.BytesIO()
    frames = [picture("RGB"), picture("RGB").rotate(180)]
    frames[0].save(animated, "WEBP", save_all=True, append_images=frames[1:], xmp=SECRET, lossless=True)
    cases = {
        "upright.jpg": (saved("baseline", 1), None, False),
        "turned.jpg": (saved("baseline", 6), None, True),
        "turned.png": (saved("png", 3), None, True),
        "animated.webp": (animated.getvalue(), None, True),
        "small.jpg": (saved("baseline"), 45, False),
        "large.jpg": (saved("baseline"), 20, True),
    }
    for name, (data, side, anew) in cases.items():
        (tmp_path / name).write_bytes(data)
        stored, image, encoded = Cleaned(Files([tmp_path / name]), side).stored(0)
        upright = open_photo(data)
        assert encoded == anew and SECRET not in stored and open_photo(stored).tobytes() == image.tobytes(), name
        if side == 20:
            assert image.size == (24, 20)
        else:
            apart = np.abs(np.asarray(image).astype(int) - np.asarray(upright))
            assert image.size == upright.size and apart.mean() <= (0 if not anew or name.endswith("png") else 6), name


# What a set of shards is


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """120 photos of four classes; among them one on its side, one with a place in it, and two bad ones."""
    folder = write_photos(tmp_path_factory.mktemp("photos") / "colours")
    (folder / "red" / "000.png").unlink()
    (folder / "red" / "turned.jpg").write_bytes(saved("baseline", 6))
    (folder / "blue" / "000.png").write_bytes(saved("png"))
    (folder / "green" / "broken.jpg").write_bytes(saved("baseline")[:300])
    (folder / "green" / "link.jpg").symlink_to(folder / "red" / "turned.jpg")
    return folder


@pytest.fixture(scope="module")
def shards(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Made]:
    out = tmp_path_factory.mktemp("shards") / "out"
    return out, make_shards(photos, out, shard_mb=0.06)


def digests(folder: Path) -> dict[str, str]:
    return {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in folder.iterdir()}


def test_the_shards_hold_every_photo_once_and_nothing_of_its_owner(photos, shards):
    out, made = shards
    index, stored = open_shards(out)
    assert made.pictures == {"train": 80, "val": 20, "test": 20} and made.shards == len(index.shards) >= 4
    assert {item.key: item.reason.split(":")[0] for item in made.set_aside} == {
        "green/broken.jpg": "cannot be decoded",
        "green/link.jpg": "symbolic link",
    }
    lines = [json.loads(line) for line in (out / MANIFEST).read_text().splitlines()]
    assert [line["photo"] for line in lines if "set_aside" in line] == ["green/broken.jpg", "green/link.jpg"]
    kept = lines[:120]
    assert [line["photo"] for line in kept if line["encoded"]] == ["red/turned.jpg"] and made.encoded == 1
    assert len({line["photo"] for line in kept}) == 120
    assert [line["picture"] for line in kept] == list(range(120))
    for number, line in enumerate(kept):
        assert CLASSES[line["label"]] == line["photo"].split("/")[0] == CLASSES[index.rows["label"][number]]
        assert line["split"] == index.splits[number]
        if not line["encoded"]:
            assert stored.image(number).tobytes() == open_photo(photos / line["photo"]).tobytes()
    for file in out.iterdir():
        assert SECRET not in file.read_bytes()
        assert file.name == MANIFEST or b"turned" not in file.read_bytes()  # no names of files either
        assert file.stat().st_size < 60_000 + 10_240


@pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")  # webdataset leaves the shards to the collector
def test_tarfile_and_webdataset_read_them(shards):
    import webdataset as wds

    out, _ = shards
    index, stored = open_shards(out)
    number = 0
    for shard in index.shards:
        assert hashlib.sha256((out / shard.name).read_bytes()).hexdigest() == shard.sha256
        with tarfile.open(out / shard.name) as tar:
            for member in tar:
                assert (member.mtime, member.uid, member.gid, member.uname, member.mode) == (0, 0, 0, "", 0o644)
                assert member.isreg()
        for sample in wds.WebDataset(str(out / shard.name), shardshuffle=False):
            (kind,) = {"jpg", "png"} & sample.keys()
            assert sample["__key__"] == f"{number:09}" and sample[kind] == stored.data(number)
            assert int(sample["cls"]) == index.rows["label"][number]
            number += 1
    assert number == 120


def test_the_same_photos_make_the_same_bytes_whatever_their_names(photos, shards, tmp_path):
    out, _ = shards
    shutil.copytree(photos, tmp_path / "photos", symlinks=True)
    for file in list((tmp_path / "photos").rglob("*.png")):
        file.rename(file.with_name(f"x{hashlib.sha256(file.name.encode()).hexdigest()}.png"))
    make_shards(tmp_path / "photos", tmp_path / "again", shard_mb=0.06, threads=1)
    ours, others = digests(out), digests(tmp_path / "again")
    del ours[MANIFEST], others[MANIFEST]
    assert len(ours) > 4
    names = json.loads((out / INDEX).read_text())["name"], json.loads((tmp_path / "again" / INDEX).read_text())["name"]
    assert names == ("colours", "photos") and ours.pop(INDEX) != others.pop(INDEX)
    assert ours == others


def test_the_splits_and_the_audit_are_kept(shards, tmp_path):
    out, made = shards
    data = load_photos(out)
    assert (data.name, data.classes, len(data.train), len(data.val), len(data.test)) == ("colours", CLASSES, 80, 20, 20)
    assert data.audit == made.audit and data.audit.digest == load_photos(out, seed=5).audit.digest
    assert data.audit.found == data.audit.used == 120 and data.audit.counts["val"] == made.audit.counts["val"]
    assert data.audit.notes == ("2 files were set aside when the shards were made",)
    names, split, audit = load_labelled(out, ("yellow", "red", "blue", "green"))
    assert names[split.labels[0]] == CLASSES[data.test.open("x", tmp_path / "ledger").labels[0]]
    assert len(split) == audit.used == 20
    with pytest.raises(BadPhotos, match="'yellow' is not one of the file's classes"):
        load_labelled(out, ("red", "blue", "green"))
    again = make_shards(out, tmp_path / "again", shard_mb=1)  # shards are photos too
    assert again.pictures == made.pictures and again.encoded == 0
    assert [s.split for s in open_shards(tmp_path / "again")[0].shards] == ["train", "val", "test"]


def test_what_is_half_written_is_no_set_and_is_made_again(photos, shards, tmp_path, monkeypatch):
    out, _ = shards

    def killed(path: Path, content: bytes) -> None:
        if path.name == TABLE:
            raise KeyboardInterrupt
        path.write_bytes(content)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr("swiftlet.data.shards.write_atomically", killed)
        make_shards(photos, tmp_path, shard_mb=0.01)
    assert len(list(tmp_path.glob("*.tar"))) > 10 and (tmp_path / "unfinished").exists()
    with pytest.raises(BadPhotos, match=r"holds no shards\.json"):
        open_shards(tmp_path)
    make_shards(photos, tmp_path, shard_mb=0.06)
    assert digests(tmp_path) == digests(out)
    with pytest.raises(BadInput, match="holds shards already"):
        make_shards(photos, tmp_path)


def test_calls_that_cannot_be(photos, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "train-000000.tar").touch()  # called like ours
    with pytest.raises(BadInput, match=r"holds 'train-000000\.tar'"):
        make_shards(photos, tmp_path / "mine")
    assert (tmp_path / "mine" / "train-000000.tar").exists()
    for wrong in ({"shard_mb": 0}, {"shard_mb": 2001}, {"side": 0}):
        with pytest.raises(BadInput, match=next(iter(wrong))):
            make_shards(photos, tmp_path / "out", **wrong)
    assert not (tmp_path / "out").exists()


# Reading


class Server(ThreadingHTTPServer):
    """A folder over HTTP with range requests; `fails`: how many requests are refused first."""

    def __init__(self, folder: Path, *, ranges: bool = True) -> None:
        self.folder, self.ranges, self.asked, self.fails = folder, ranges, [], 0
        super().__init__(("127.0.0.1", 0), Handler)


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        span = self.headers.get("Range", "")
        self.server.asked.append((self.path, span))
        file = self.server.folder / self.path.lstrip("/")
        if self.server.fails:
            self.server.fails -= 1
            self.send_error(503)
        elif not file.is_file():
            self.send_error(404)
        else:
            data = file.read_bytes()
            if self.server.ranges and span:
                first, last = (int(end) for end in span.removeprefix("bytes=").split("-"))
                data = data[first : last + 1]
            self.send_response(206 if self.server.ranges and span else 200)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def serve() -> Iterator[Callable[..., tuple[Server, str]]]:
    running = []

    def start(folder: Path, **options: bool) -> tuple[Server, str]:
        server = Server(folder, **options)
        running.append(server)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        return server, f"http://127.0.0.1:{server.server_port}"

    yield start
    for server in running:
        server.shutdown()
        server.server_close()


@pytest.mark.parametrize("protocol", ["file", "memory", "http"])
def test_any_address_reads_like_the_folder(protocol, shards, serve):
    out, _ = shards
    server = None
    if protocol == "http":
        server, address = serve(out)
    elif protocol == "file":
        address = f"file://{out}"
    else:
        import fsspec

        address = "memory://bucket/shards/"
        for file in out.iterdir():
            fsspec.filesystem("memory").pipe_file(f"/bucket/shards/{file.name}", file.read_bytes())
    here, there = load_photos(out), load_photos(address)
    assert here.audit == there.audit and here.train.keys == there.train.keys
    if server:
        server.asked.clear()
    contract = InputContract(side=16)
    assert np.array_equal(here.train.pixels(contract), there.train.pixels(contract, threads=8))
    if server:  # one range request each, of the picture alone
        rows = open_shards(out)[0].rows[:80]
        spans = {f"bytes={row['offset']}-{row['offset'] + row['length'] - 1}" for row in rows}
        assert len(server.asked) == 80 and {span for _, span in server.asked} == spans


def test_a_network_that_fails_now_and_then(shards, serve, monkeypatch):
    monkeypatch.setattr(shard_place, "WAITS", (0.0, 0.0))
    server, address = serve(shards[0])
    data = load_photos(address)
    server.fails = 2
    assert data.train.image(3).size
    server.fails = 3
    with pytest.raises(BadPhotos, match=r"000000003 could be read at the start.*tried 3 times.*503"):
        data.train.image(3)
    with pytest.raises(BadPhotos, match="no such file"):
        load_photos(f"{address}/elsewhere")
    _, blunt = serve(shards[0], ranges=False)
    with pytest.raises(BadPhotos, match="answers no range requests"):
        load_photos(blunt).train.image(0)


def test_without_fsspec_an_address_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "fsspec.core", None)
    with pytest.raises(MissingExtra, match=r"swiftlet\[shards\]"):
        load_photos("s3://bucket/shards")


def test_an_unknown_protocol(shards):
    with pytest.raises(BadPhotos, match="nonsense"):
        load_photos("nonsense://bucket")


def damaged(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    index = json.loads((folder / INDEX).read_text())
    change(index)
    (folder / INDEX).write_text(json.dumps(index))


DAMAGES: dict[str, tuple[Callable[[dict[str, Any]], object], str]] = {
    "version": (lambda i: i.update(version=2), "has version 2"),
    "format": (lambda i: i.update(format="other"), "is not the index"),
    "path": (lambda i: i["shards"][0].update(name="../train-000000.tar"), "a shard called"),
    "split": (lambda i: i["shards"][0].update(split="test"), "a shard called"),
    "twice": (lambda i: i["shards"].append(i["shards"][0]), "named twice"),
    "count": (lambda i: i["shards"][0].update(pictures=10**12), "does not hold"),
    "negative": (lambda i: i["shards"][0].update(pictures=-1), "the number of pictures"),
    "size": (lambda i: i["shards"][0].update(bytes=2000), "cannot hold"),
    "huge": (lambda i: i["table"].update(bytes=10**15), "table"),
    "table": (lambda i: i["table"].update(sha256="0" * 64), "is not the file"),
    "classes": (lambda i: i.update(classes=["a"]), "cannot hold"),
    "class": (lambda i: i.update(classes=["a", "a"]), "named twice"),
    "audit": (lambda i: i["audit"].pop("used"), "used"),
    "extra": (lambda i: i["shards"][0].update(mode=1), "mode"),
    "empty": (lambda i: i.update(shards=[]), "a split without"),
}


@pytest.mark.parametrize("name", DAMAGES)
def test_a_damaged_index_is_one_typed_error(name, shards, tmp_path):
    change, fault = DAMAGES[name]
    shutil.copytree(shards[0], tmp_path / "out")
    damaged(tmp_path / "out", change)
    with pytest.raises(BadPhotos, match=fault):
        load_photos(tmp_path / "out")


def test_every_bit_of_a_picture_counts(shards, tmp_path):
    shutil.copytree(shards[0], tmp_path / "out")
    index, _ = open_shards(tmp_path / "out")
    file = tmp_path / "out" / index.shards[0].name
    data = bytearray(file.read_bytes())
    data[index.rows["offset"][1] + 40] ^= 1
    file.write_bytes(data)
    train_split = load_photos(tmp_path / "out").train
    assert train_split.image(0).size
    with pytest.raises(BadPhotos, match="is not the picture that the index describes"):
        train_split.image(1)
    file.write_bytes(data[:2000])
    with pytest.raises(BadPhotos, match="cut off"):
        train_split.image(10)


# Tar files of others


def tar(*parts: tuple[str, bytes] | tarfile.TarInfo, form: int = tarfile.USTAR_FORMAT) -> io.BytesIO:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=form) as file:
        for part in parts:
            if isinstance(part, tarfile.TarInfo):
                file.addfile(part, io.BytesIO(bytes(part.size)))
            else:
                about = tarfile.TarInfo(part[0])
                about.size = len(part[1])
                file.addfile(about, io.BytesIO(part[1]))
    return stream


def about(name: str = "a.jpg", **fields: Any) -> tarfile.TarInfo:
    found = tarfile.TarInfo(name)
    for field, value in fields.items():
        setattr(found, field, value)
    return found


def sized(size: int) -> io.BytesIO:
    header = about(size=size).tobuf(tarfile.GNU_FORMAT)
    return io.BytesIO(header + bytes(2048))


HOSTILE = {
    "symlink": tar(about(type=tarfile.SYMTYPE, linkname="/etc/passwd")),
    "hard link": tar(about(type=tarfile.LNKTYPE, linkname="b.jpg")),
    "device": tar(about(type=tarfile.CHRTYPE)),
    "pipe": tar(about(type=tarfile.FIFOTYPE)),
    "sparse": tar(about(type=tarfile.GNUTYPE_SPARSE, size=512)),
    "sparse in pax": tar(about(pax_headers={"GNU.sparse.major": "1"}), form=tarfile.PAX_FORMAT),
    "size in pax": tar(about(pax_headers={"size": "99"}), form=tarfile.PAX_FORMAT),
    "link in pax": tar(about(pax_headers={"linkpath": "b"}), form=tarfile.PAX_FORMAT),
    "path in pax": tar(about(pax_headers={"path": "../a.jpg"}), form=tarfile.PAX_FORMAT),
    "huge pax": tar(about(pax_headers={"comment": "a" * 70_000}), form=tarfile.PAX_FORMAT),
    "long name": tar(("a" * 300 + ".jpg", b""), form=tarfile.GNU_FORMAT),
    "huge": sized(10**18),
    "negative": sized(-1024),
    "more than there is": sized(4096),
    "twice": tar(("a.jpg", b"1"), ("./a.jpg", b"2")),
    "no end": io.BytesIO(tar(("a.jpg", b"1")).getvalue()[:1024]),
    "cut": io.BytesIO(tar(("a.jpg", bytes(600))).getvalue()[:900]),
    "two": io.BytesIO(tar(("a.jpg", b"1")).getvalue() + tar(("b.jpg", b"1")).getvalue()),
    "no tar": io.BytesIO(saved("baseline")),
    "empty": io.BytesIO(),
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_a_hostile_tar_is_one_typed_error(kind: str) -> None:
    with pytest.raises(BadPhotos, match=r"x\.tar, byte \d+"):
        list(members(HOSTILE[kind], "x.tar"))


def test_hostile_names_never_get_through() -> None:
    fine = ["a.jpg", "./a.jpg", "a/b.jpg", "ä.jpg", "a..b.jpg", "...jpg"]
    parts = ["..", ".", "", "a\\b", "C:", "a\nb", "a\x1bb", "a\x7f", "\udcff", "n" * 256]
    hostile = ["/etc/passwd", *parts, *(f"a/{part}/b.jpg" for part in parts if part)]
    hostile += [f"{part}/b.jpg" for part in parts if part != "."] + ["/".join("a" * 17)]
    hostile += [f"{'../' * depth}etc/{i}.jpg" for depth in range(1, 9) for i in range(60)]
    assert len(hostile) > 500
    for name in fine + [name for name in hostile if name]:
        stream = tar((name, b"1"), form=tarfile.PAX_FORMAT)
        if name in fine:
            assert [member.name for member in members(stream, "x.tar")] == [name.removeprefix("./")]
        else:
            with pytest.raises(BadPhotos, match=r"x\.tar"):
                list(members(stream, "x.tar"))


@settings(deadline=None)
@given(st.data())
def test_a_damaged_tar_gives_members_inside_it_or_the_typed_error(draw: st.DataObject) -> None:
    whole = tar(("a.jpg", bytes(700)), ("a.cls", b"1"), about("b.jpg", mtime=1.5), form=tarfile.PAX_FORMAT)
    data = bytearray(whole.getvalue()[:4608])
    for _ in range(draw.draw(st.integers(1, 3))):
        data[draw.draw(st.integers(0, len(data) - 1))] = draw.draw(st.sampled_from([0, 32, 46, 47, 48, 55, 128, 255]))
    try:
        found = list(members(io.BytesIO(bytes(data)), "x.tar"))
    except BadPhotos:
        return
    assert all(0 <= member.offset <= member.offset + member.length <= len(data) for member in found)


def test_what_the_writer_writes_is_what_tarfile_would() -> None:
    writer = Writer()
    at = writer.add("000000000.jpg", b"x" * 700)
    writer.add("000000000.cls", b"3")
    theirs = tar(("000000000.jpg", b"x" * 700), ("000000000.cls", b"3")).getvalue()
    assert theirs.startswith(writer.close()) and not any(theirs[len(writer.close()) :])
    assert writer.close()[at : at + 700] == b"x" * 700


def test_shards_that_webdataset_wrote_are_photos(photos, tmp_path):
    import webdataset as wds

    (tmp_path / "theirs").mkdir()
    with wds.TarWriter(str(tmp_path / "theirs" / "set-000.tar")) as writer:
        for label, name in enumerate(CLASSES):
            for file in sorted((photos / name).glob("0*.png")):
                writer.write({"__key__": f"{name}/{file.stem}", "png": file.read_bytes(), "cls": 2 * label})
        writer.write({"__key__": "no/label", "png": file.read_bytes()})
        writer.write({"__key__": "no/picture", "cls": 3})
        writer.write({"__key__": "wrong/label", "png": file.read_bytes(), "cls": b"three"})
    listing = list_tars([tmp_path / "theirs" / "set-000.tar"])
    assert listing.classes == ("0", "2", "4", "6") and listing.keys[0] == "set-000.tar/blue/000"
    assert {item.key: item.reason for item in listing.set_aside} == {
        "set-000.tar/no/label": "no label (.cls) of that name",
        "set-000.tar/no/picture": "no picture of that name",
        "set-000.tar/wrong/label": "its label is b'three', not a number from 0 to 1,000,000",
    }
    assert load_photos(tmp_path / "theirs").audit.used == 119
    made = make_shards(tmp_path / "theirs", tmp_path / "ours")
    assert sum(made.pictures.values()) == 119 and len(made.set_aside) == 3


def test_tar_files_named_for_splits_keep_them(shards, tmp_path):
    for file in shards[0].glob("*.tar"):
        shutil.copy(file, tmp_path / file.name)  # without the index
    data = load_photos(tmp_path)
    assert (len(data.train), len(data.val), len(data.test)) == (80, 20, 20)
    shutil.copy(tmp_path / "val-000000.tar", tmp_path / "more.tar")
    with pytest.raises(BadPhotos, match="and others are not"):
        load_photos(tmp_path)


# Training on them


def test_rows_on_demand_are_those_in_memory(shards, monkeypatch):
    split, contract = load_photos(shards[0]).train, InputContract(side=12)
    whole = split.pixels(contract, quick=True)
    assert isinstance(pixels_of(split, contract, quick=True), np.ndarray)
    monkeypatch.setattr(memory, "available_memory", lambda: 1000)
    ahead = pixels_of(split, contract, quick=True)
    assert isinstance(ahead, ReadAhead) and ahead.shape == whole.shape and len(ahead) == 80
    ahead.expect(np.array([5, 3, 79]))
    ahead.expect(np.array([3, 9]))
    assert ahead._coming.keys() == {3, 9}  # nothing is kept that nobody wants
    rows = np.array([9, 3, 3, 0])
    assert np.array_equal(ahead[rows], whole[rows]) and ahead._coming == {}
    assert np.array_equal(ahead[70:99], whole[70:99])
    monkeypatch.setattr(read_ahead, "BATCH", 32)
    pieces = list(in_batches(ahead, slice(3, 70)))
    assert [piece.stop - piece.start for piece, _ in pieces] == [32, 32, 3]
    assert np.array_equal(np.concatenate([pixels for _, pixels in pieces]), whole[3:70])
    ahead.close()


SMALL: dict[str, Any] = {
    "model": "mobilenet_v1",
    "arguments": {"width": 0.0625, "stem_stride": 1},
    "side": 16,
    "epochs": 3,
    "changes": {"batch": 16},
}


def no_memory(*_: object) -> None:
    raise BadPhotos("there is none")


def test_training_on_shards_with_and_without_memory_ends_in_the_same_bytes(shards, serve, tmp_path, monkeypatch):
    out, _ = shards
    held = train(out, **SMALL, out=tmp_path / "held")
    monkeypatch.setattr(read_ahead, "check_memory", no_memory)
    _, address = serve(out)
    streamed = train(address, **SMALL, out=tmp_path / "streamed")
    assert held.n == streamed.n == 20 and held.accuracy == streamed.accuracy
    for name in ("model.onnx", "model.safetensors", "metrics.jsonl"):
        assert (tmp_path / "held" / name).read_bytes() == (tmp_path / "streamed" / name).read_bytes(), name


def test_a_run_without_memory_goes_on_where_it_was_stopped(shards, tmp_path, monkeypatch):
    out, _ = shards
    monkeypatch.setattr(read_ahead, "check_memory", no_memory)
    read, started = ReadAhead.__getitem__, []

    def watched(self: ReadAhead, asked: Any) -> Any:
        if not isinstance(asked, slice):
            started.append(set(asked.tolist()) <= self._coming.keys())
        return read(self, asked)

    with monkeypatch.context() as patch:
        patch.setattr(ReadAhead, "__getitem__", watched)
        steps = train(out, **SMALL, out=tmp_path / "whole").steps
    assert started[:steps] == [False] + [True] * (steps - 1)  # each batch but the first was read ahead

    def stop(what: str, done: int, total: int) -> None:
        if what.startswith("training ") and done == 7:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(out, **SMALL, out=tmp_path / "stopped", progress=stop)
    train(out, **SMALL, out=tmp_path / "stopped")
    for name in ("model.safetensors", "metrics.jsonl"):
        assert (tmp_path / "whole" / name).read_bytes() == (tmp_path / "stopped" / name).read_bytes(), name


def test_the_command(photos, tmp_path, capsys):
    from swiftlet.cli.shards import shards as verb

    assert verb(str(photos), tmp_path / "out", side=16, json_=True) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["pictures"] == {"train": 80, "val": 20, "test": 20} and len(found["set_aside"]) == 2
    assert verb(str(photos), tmp_path / "more") == 0
    told = capsys.readouterr().out
    assert "1 encoded anew" in told and f"next      swiftlet train {tmp_path / 'more'}" in told
    assert "set aside green/link.jpg: symbolic link" in told
    assert load_photos(tmp_path / "out").train.image(0).size == (16, 19)


def test_the_page_quotes_the_ledger() -> None:
    page = (ROOT / "docs" / "scale.md").read_text()
    figures = json.loads((ROOT / "benchmarks" / "results" / "scale.json").read_text())["figures"]
    (small, large), epoch, host = figures["resume"], figures["epoch"], figures["one_host"]
    assert (epoch["given"], epoch["given_twice"], epoch["left_for_other_epochs"]) == (99_999_744, 0, 256)
    assert small["position"] == 10**6 and small["pictures"] == 10**7 and small["ms"] < 2000
    read = [f"{host['gb_read_after_epochs'][epoch]:g} GB" for epoch in ("1", "3", "10")]
    quoted = [f"{small['ms']:.0f} ms", f"{large['ms']:.0f} ms", *read, f"{host['gb_of_its_own_part']} GB"]
    quoted += [f"{host['shards_in_a_step']:g} shards", f"{figures['memory']['in_the_split']} bytes"]
    for text in quoted:
        assert text in page, text
