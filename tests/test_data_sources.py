import json
import os
import zipfile
from pathlib import Path

import numpy as np
import pytest
from needs import data_folder
from PIL import Image

from swiftlet.data import memory
from swiftlet.data.contract import InputContract
from swiftlet.data.photos import Photos, SealedSplit, Split, load_labelled, load_photos
from swiftlet.errors import BadFile, BadImage, BadInput, BadPhotos


def picture(seed: int) -> Image.Image:
    """Smooth and unlike every other seed's."""
    small = np.random.default_rng(seed).integers(0, 256, (5, 5, 3), np.uint8)
    return Image.fromarray(small).resize((40, 32), Image.Resampling.BICUBIC)


def make(root: Path, **counts: int) -> Path:
    """PNG photos in class folders; "train__cat=3" makes train/cat/000.png to 002.png."""
    for number, (name, count) in enumerate(counts.items()):
        folder = root / name.replace("__", "/")
        folder.mkdir(parents=True)
        for index in range(count):
            picture(1000 * number + index).save(folder / f"{index:03}.png")
    return root


def keys(photos: Photos, ledger: Path) -> dict[str, tuple[str, ...]]:
    test = photos.test.open("digest", ledger / "ledger.json")
    return {"train": photos.train.keys, "val": photos.val.keys, "test": test.keys}


def spoil(root: Path) -> int:
    """Adds bad files of every kind to a folder of classes cat and dog; how many are to be set aside."""
    whole = (root / "cat/000.png").read_bytes()
    (root / "cat/!truncated.png").write_bytes(whole[: len(whole) // 2])
    (root / "cat/empty.jpg").touch()
    (root / "dog/text.jpg").write_text("not a photo")
    (root / "dog/lie.jpg").write_bytes(whole)
    (root / "dog/notes.txt").write_text("")
    (root / "dog/a\\..\\..\\up.png").write_bytes(b"\x89PNG")
    (root / "dog/link.png").symlink_to(root / "cat/000.png")
    (root / "bird").symlink_to(root / "cat")
    (root / "loose.png").write_bytes(whole)
    Path(os.fsdecode(os.fsencode(root / "dog") + b"/\xff.png")).write_bytes(whole)
    for litter in ("Thumbs.db", ".DS_Store", "._000.png"):
        (root / "cat" / litter).write_bytes(b"")
    (root / "__MACOSX").mkdir()
    return 10


def test_bad_files_are_set_aside_with_a_reason_and_change_nothing_else(tmp_path: Path) -> None:
    source = make(tmp_path / "photos", cat=20, dog=20)
    clean = load_photos(source)
    clean_keys = keys(clean, tmp_path)
    bad = spoil(source)
    photos = load_photos(source)
    assert keys(photos, tmp_path) == clean_keys
    assert photos.classes == clean.classes == ("cat", "dog") and photos.audit.digest == clean.audit.digest
    assert (photos.audit.found, photos.audit.used, len(photos.audit.set_aside)) == (40 + bad, 40, bad)
    reasons = {item.key: item.reason for item in photos.audit.set_aside}
    assert "symbolic link" in reasons["bird"] and "symbolic link" in reasons["dog/link.png"]
    assert reasons["loose.png"] == "in no class folder" and reasons["dog/\\xff.png"] == "its name is not Unicode"
    assert "rename it" in reasons["dog/lie.jpg"] and reasons["cat/empty.jpg"] == "empty file"
    assert reasons["dog/notes.txt"] == "not a JPEG, PNG or WebP file" and "cat/!truncated.png" in reasons
    assert json.loads(json.dumps(photos.audit.to_json()))["counts"]["train"] == {"cat": 14, "dog": 14}


def test_splits_are_disjoint_complete_stratified_and_follow_content_and_seed(tmp_path: Path) -> None:
    source = make(tmp_path / "photos", cat=40, dog=20)
    photos = load_photos(source)
    parts = keys(photos, tmp_path)
    assert sorted(sum(parts.values(), ())) == sorted(p.relative_to(source).as_posix() for p in source.rglob("*.png"))
    assert photos.audit.counts == {
        "train": {"cat": 28, "dog": 14},
        "val": {"cat": 6, "dog": 3},
        "test": {"cat": 6, "dog": 3},
    }
    assert photos.test.label_counts == (6, 3) and len(photos.test) == 9
    other = load_photos(source, seed=1)
    assert keys(other, tmp_path) != parts and other.audit.digest != photos.audit.digest
    for file in sorted(source.rglob("*.png")):  # new names in another order, one level deeper
        (file.parent / "more").mkdir(exist_ok=True)
        file.rename(file.parent / "more" / f"{999 - int(file.stem)}.png")
    renamed = load_photos(source)
    assert renamed.audit.digest == photos.audit.digest
    back = {f"{Path(key).parts[0]}/{999 - int(Path(key).stem):03}.png" for key in renamed.train.keys}
    assert back == set(photos.train.keys)


def test_copies_stay_on_one_side_and_two_labels_are_told(tmp_path: Path) -> None:
    source = make(tmp_path / "photos", cat=12, dog=12)
    for index in range(12):
        photo = Image.open(source / f"cat/{index:03}.png").convert("RGB")
        photo.save(source / f"cat/{index:03}-email.jpg", quality=60)
        photo.resize((20, 16)).save(source / f"cat/{index:03}-small.webp", lossless=True)
        photo.point(lambda value: min(255, value * 11 // 10)).save(source / f"cat/{index:03}-bright.png")
    (source / "dog/same.png").write_bytes((source / "cat/004.png").read_bytes())
    photos = load_photos(source)
    home: dict[str, set[str]] = {}
    for split, names in keys(photos, tmp_path).items():
        for name in names:
            home.setdefault(name[:7], set()).add(split)
    assert all(len(splits) == 1 for splits in home.values())
    assert photos.audit.duplicate_groups == 12 and photos.audit.duplicates == ()
    assert any("more than one label" in note and "dog/same.png (dog)" in note for note in photos.audit.notes)
    assert any("largest of 5" in note for note in photos.audit.notes)


def test_a_fixed_scene_is_spread_and_told(tmp_path: Path) -> None:
    source = make(tmp_path / "photos", cat=20)
    (source / "belt").mkdir()
    for index in range(20):
        scene = picture(77)
        scene.putpixel((index, 5), (255, 0, index))
        scene.save(source / f"belt/{index}.png")
    photos = load_photos(source)
    assert photos.test.label_counts == (3, 3) and any("fixed scene" in note for note in photos.audit.notes)


def test_splits_of_the_user_are_kept_and_what_they_share_is_told(tmp_path: Path) -> None:
    source = make(tmp_path / "photos", train__cat=6, train__dog=6, valid__cat=2, valid__dog=2, Test__cat=2, Test__dog=2)
    (source / "Test/cat/copy.png").write_bytes((source / "train/cat/003.png").read_bytes())
    (source / "extra").mkdir()
    photos = load_photos(source)
    assert (len(photos.train), len(photos.val), len(photos.test)) == (12, 4, 5)
    (pair,) = photos.audit.duplicates
    assert (pair.a, pair.b, pair.split_a, pair.split_b) == ("train/cat/003.png", "Test/cat/copy.png", "train", "test")
    assert photos.audit.set_aside[0].reason == "neither train, val nor test"


def test_missing_splits_are_dealt_from_train(tmp_path: Path) -> None:
    two = make(tmp_path / "a", train__cat=12, train__dog=12, test__cat=3)
    photos = load_photos(two)
    assert (len(photos.train), len(photos.val), photos.test.label_counts) == (20, 4, (3, 0))
    assert "no test photos of class 'dog'" in photos.audit.notes
    (two / "test").rename(two / "val")
    photos = load_photos(two)
    assert all(key.startswith("val/") for key in keys(photos, tmp_path)["test"])
    assert (len(photos.val), len(photos.test)) == (4, 3) and "sealed test" in photos.audit.notes[0]
    assert all(key.startswith("train/") for key in photos.train.keys + photos.val.keys)
    only = make(tmp_path / "b", train__cat=8, train__dog=8)
    assert len(load_photos(only).test) == 4


def test_a_class_may_be_called_train(tmp_path: Path) -> None:
    assert load_photos(make(tmp_path / "photos", train=5, plane=5)).classes == ("plane", "train")


@pytest.mark.parametrize(
    ("counts", "message"),
    [
        ({"cat": 9}, "one class only, 'cat'"),
        ({"cat": 9, "dog": 4}, "class 'dog' has 4 photos that can be used and needs 5"),
        ({"cat": 9, "dog": 0}, "class 'dog' has 0 photos"),
        ({"train__cat": 9, "train__dog": 1, "test__cat": 1}, "class 'dog' has 1 photos .* needs 2"),
        ({"train__cat": 9, "train__dog": 9, "test__cow": 1}, r"class 'cow' is not one of train's classes \(cat, dog\)"),
        ({"train__cat": 9, "train__dog": 9, "test__cat": 0}, "the test split holds no photo"),
        ({"val__cat": 9, "test__cat": 9}, "no train photos"),
        ({"train__a": 2, "val__a": 2, "valid__a": 2}, "both 'val' and 'valid'"),
        ({"cat": 0, "dog": 0}, "no photo that can be used"),
    ],
)
def test_folders_that_cannot_work_say_why(tmp_path: Path, counts: dict[str, int], message: str) -> None:
    with pytest.raises(BadPhotos, match=message):
        load_photos(make(tmp_path / "photos", **counts))


def test_sources_that_are_not_there_say_why(tmp_path: Path) -> None:
    with pytest.raises(BadPhotos, match="no such folder"):
        load_photos(tmp_path / "absent")
    with pytest.raises(BadPhotos, match="holds no class folder"):
        load_photos(tmp_path)
    (tmp_path / "photos.zip").touch()
    with pytest.raises(BadPhotos, match="unpack"):
        load_photos(tmp_path / "photos.zip")
    source = make(tmp_path / "same", cat=6, dog=6)
    for file in (source / "dog").iterdir():
        file.write_bytes((source / "dog/000.png").read_bytes())
    with pytest.raises(BadPhotos, match="6 photos show only 1 different pictures; 3 are needed"):
        load_photos(source)


def test_pixels_are_those_of_the_contract(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    train = load_photos(make(tmp_path / "photos", cat=7, dog=7)).train
    contract, calls = InputContract(side=16), []
    pixels = train.pixels(contract, progress=lambda *call: calls.append(call))
    assert all(np.array_equal(pixels[index], contract.pixels(train.image(index))) for index in range(len(train)))
    assert calls[-1] == ("pixels", len(train), len(train))
    some = train.subset([3, 1])
    assert some.keys == (train.keys[3], train.keys[1]) and some.labels.tolist() == train.labels[[3, 1]].tolist()
    assert np.array_equal(some.pixels(contract), pixels[[3, 1]])
    with pytest.raises(BadInput, match="threads=0"):
        train.pixels(contract, threads=0)
    monkeypatch.setattr(memory, "available_memory", lambda: 1000)
    with pytest.raises(BadPhotos, match=r"10 pictures of side 16 need .* GB .* smaller input side"):
        train.pixels(contract)
    (tmp_path / "photos" / train.keys[0]).unlink()
    with pytest.raises(BadPhotos, match="now cannot"):
        train.image(0)


def test_the_test_split_opens_for_one_file_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ledger = tmp_path / "test.json"
    sealed: SealedSplit = load_photos(None).test
    assert not any(isinstance(getattr(sealed, name), Split) for name in dir(sealed) if not name.startswith("_"))
    with monkeypatch.context() as patch, pytest.raises(OSError, match="disk full"):
        patch.setattr(os, "fsync", lambda _: (_ for _ in ()).throw(OSError("disk full")))
        sealed.open("abc", ledger)  # no record, no photos
    assert list(tmp_path.iterdir()) == []
    first = sealed.open("abc", ledger)
    assert len(first) == len(sealed) and json.loads(ledger.read_text())["file"] == "abc"
    assert sealed.open("abc", ledger).keys == first.keys
    with pytest.raises(BadInput, match="opened for file abc already"):
        sealed.open("def", ledger)
    ledger.write_text("[]")
    with pytest.raises(BadFile, match="not the record"):
        sealed.open("abc", ledger)


def test_the_built_in_digits_are_those_of_scikit_learn() -> None:
    from sklearn.datasets import load_digits

    digits = load_digits()
    with np.load(Path(memory.__file__).with_name("digits.npz")) as own:
        assert np.array_equal(own["x"], np.rint(digits.images * 255 / 16)) and np.array_equal(own["y"], digits.target)
    photos = load_photos(None)
    assert photos.name == "digits" and photos.classes == tuple("0123456789") and photos.audit.used == 1797
    assert (len(photos.train), len(photos.val), len(photos.test)) == (1259, 269, 269)
    assert photos.audit.duplicate_groups == 0 and photos.audit.median_short_side == 8


def arrays(count: int = 30, *shape: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    return rng.integers(0, 256, (count, *(shape or (9, 7, 3))), np.uint8), np.arange(count) % 3


@pytest.mark.parametrize("shape", [(9, 7), (9, 7, 1), (9, 7, 3)])
def test_npz_pictures_of_every_shape(tmp_path: Path, shape: tuple[int, ...]) -> None:
    x, y = arrays(30, *shape)
    np.savez(tmp_path / "a.npz", images=x, labels=y[:, None].astype(np.uint8), classes=["a", "b", "c"])
    photos = load_photos(tmp_path / "a.npz")
    assert photos.classes == ("a", "b", "c") and photos.audit.used == 30
    index = int(photos.train.keys[0][len("images[") : -1])
    expected = x[index] if shape[-1] == 3 else np.repeat(x[index].reshape(9, 7, 1), 3, axis=2)
    assert np.array_equal(np.asarray(photos.train.image(0)), expected) and photos.train.labels[0] == y[index]


def test_npz_splits_are_kept_and_other_arrays_told(tmp_path: Path) -> None:
    x, y = arrays()
    np.savez(tmp_path / "a.npz", x_train=x, y_train=y + 5, x_test=x[:9] // 2, y_test=y[:9] + 5, extra=y)
    photos = load_photos(tmp_path / "a.npz")
    assert photos.classes == ("5", "6", "7") and len(photos.test) == 9 and len(photos.val) == 6
    assert any("not used: extra" in note for note in photos.audit.notes)
    names, split, audit = load_labelled(tmp_path / "a.npz", ("7", "6", "5"))
    assert names == ("7", "6", "5") and split.labels.tolist() == [2, 1, 0] * 3 and audit.used == 9
    assert load_labelled(tmp_path / "a.npz")[1].labels.tolist() == [0, 1, 2] * 3


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"x": np.zeros((4, 9, 7), np.float32)}, "x is float32; swiftlet takes uint8"),
        ({"x": np.zeros((4, 9, 7, 4), np.uint8)}, "x has shape"),
        ({"x": np.zeros((4, 0, 7), np.uint8)}, "x has shape"),
        ({"x": np.array([None] * 4)}, "holds Python objects"),
        ({"y": np.zeros(4, np.float32)}, "y is float32"),
        ({"y": np.arange(3)}, "x has 4 pictures but y has 3 labels"),
        ({"y": np.array([0, 1, 0, 2]), "classes": np.array(["a", "b"])}, "labels run from 0 to 2"),
        ({"classes": np.array(["a", "a"])}, "different texts"),
        ({"x_train": np.zeros((4, 9, 7), np.uint8)}, "x_train but no y_train"),
        ({"x_train": np.zeros((4, 9, 7), np.uint8), "y_train": np.arange(4)}, "contradict"),
    ],
)
def test_bad_npz_says_why(tmp_path: Path, change: dict[str, np.ndarray], message: str) -> None:
    whole = {"x": np.zeros((4, 9, 7), np.uint8), "y": np.arange(4) % 2}
    np.savez(tmp_path / "a.npz", **(whole | change))
    with pytest.raises(BadPhotos, match=message):
        load_photos(tmp_path / "a.npz")


def test_hostile_npz_is_refused_before_memory_is_taken(tmp_path: Path) -> None:
    file = tmp_path / "a.npz"
    header = np.lib.format.header_data_from_array_1_0(np.zeros((1, 1, 1), np.uint8)) | {"shape": (10**6, 1000, 1000)}
    with zipfile.ZipFile(file, "w") as archive, archive.open("x.npy", "w") as member:
        np.lib.format.write_array_header_1_0(member, header)
    with pytest.raises(BadPhotos, match="declares shape"):
        load_photos(file)
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("x.npy", bytes(10**6))
        archive.filelist[0].file_size = 4_100_000_000
    with pytest.raises(BadPhotos, match="unpacks to 4,100,000,000 bytes"):
        load_photos(file)
    for content in (b"", b"PK\x03\x04 no zip"):
        file.write_bytes(content)
        with pytest.raises(BadPhotos, match=r"cannot be read as \.npz"):
            load_photos(file)


def test_labelled_photos_take_the_order_of_the_file(tmp_path: Path) -> None:
    source = make(tmp_path / "photos", train__cat=3, train__dog=3, test__cat=2, test__dog=1)
    classes, split, audit = load_labelled(source, ("dog", "cow", "cat"))
    assert classes == ("dog", "cow", "cat") and split.labels.tolist() == [2, 2, 0]
    assert audit.counts["test"] == {"dog": 1, "cow": 0, "cat": 2} and "only the test photos" in audit.notes[0]
    with pytest.raises(BadPhotos, match=r"class 'cat' is not one of the file's classes \(dog, cow\)"):
        load_labelled(source, ("dog", "cow"))
    assert load_labelled(source / "train")[1].labels.tolist() == [0, 0, 0, 1, 1, 1]
    (source / "val").mkdir()
    assert load_labelled(make(tmp_path / "one", cat=1))[0] == ("cat",)


def test_clothing10() -> None:
    photos = load_photos(data_folder("clothing10"))
    assert (len(photos.train), len(photos.val), len(photos.test)) == (3068, 341, 372)
    assert photos.audit.set_aside == () and photos.audit.median_short_side == 160
    assert photos.audit.duplicates == ()  # its one pair of twins, shorts and skirt, is in train
    assert photos.audit.duplicate_groups == 1


def test_photos_of_phones_lose_their_place() -> None:
    from swiftlet.data.decode import open_photo

    files = sorted(data_folder("exif_gps").glob("*.jpg"))
    for file in files:
        with Image.open(file) as stored:
            assert stored.getexif().get_ifd(0x8825)
        try:
            assert not open_photo(file).getexif()
        except BadImage as reason:
            pytest.fail(f"{file.name}: {reason}")
    assert files
