import io
import struct
import threading
import time
import tracemalloc
import warnings
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps

from swiftlet.data.contract import InputContract
from swiftlet.data.decode import open_photo
from swiftlet.data.listing import Files, Rows
from swiftlet.data.split import QUICK, Split
from swiftlet.errors import BadImage

RED, BLUE, WHITE = (255, 0, 0), (0, 0, 255), (255, 255, 255)


def encoded(image: Image.Image, format: str = "PNG", **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format, **options)
    return buffer.getvalue()


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width: int, height: int, depth: int, colour: int, rows: bytes, clear: bytes = b"") -> bytes:
    """A PNG as written by hand: Pillow cannot write most of these kinds."""
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0))
    transparency = chunk(b"tRNS", clear) if clear else b""
    return b"\x89PNG\r\n\x1a\n" + head + transparency + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def deep(*pixels: tuple[int, ...], clear: tuple[int, ...] = ()) -> bytes:
    """One row of 16-bit pixels of 1 (grey), 2 (with alpha), 3 (RGB) or 4 channels."""
    colour = {1: 0, 2: 4, 3: 2, 4: 6}[len(pixels[0])]
    row = b"\0" + b"".join(struct.pack(">H", value) for pixel in pixels for value in pixel)
    return png(len(pixels), 1, 16, colour, row, b"".join(struct.pack(">H", value) for value in clear))


def colours(file: bytes) -> list[tuple[int, int, int]]:
    image = open_photo(file)
    assert image.mode == "RGB" and image.info == {}
    return [tuple(pixel) for pixel in np.asarray(image).reshape(-1, 3).tolist()]


def test_grey_and_black_and_white_become_three_equal_channels() -> None:
    assert colours(encoded(Image.new("L", (1, 1), 77))) == [(77, 77, 77)]
    assert colours(encoded(Image.new("1", (1, 1), 1))) == [WHITE]


def test_16_bit_gives_the_top_byte_in_every_kind() -> None:
    assert colours(deep((0x12FF,), (0xFF00,))) == [(0x12,) * 3, WHITE]
    assert colours(deep((0x12FF, 0x3400, 0x56FF))) == [(0x12, 0x34, 0x56)]
    assert colours(deep((0x12FF, 0xFFFF), (0x12FF, 0))) == [(0x12,) * 3, WHITE]
    assert colours(deep((1000, 2000, 3000, 0xFFFF), (0, 0, 0, 0))) == [(1000 >> 8, 2000 >> 8, 3000 >> 8), WHITE]


def test_transparency_lies_over_white_in_every_kind() -> None:
    assert colours(encoded(Image.new("RGBA", (1, 1), (255, 0, 0, 0)))) == [WHITE]
    assert colours(encoded(Image.new("RGBA", (1, 1), (0, 0, 0, 128)))) == [(127, 127, 127)]
    assert colours(encoded(Image.new("LA", (1, 1), (9, 0)))) == [WHITE]
    assert colours(encoded(Image.new("RGBA", (1, 1), (255, 0, 0, 0)), "WEBP", lossless=True)) == [WHITE]
    palette = Image.new("P", (2, 1))
    palette.putpalette([*RED, *BLUE])
    palette.putpixel((1, 0), 1)
    assert colours(encoded(palette)) == [RED, BLUE]
    assert colours(encoded(palette, transparency=1)) == [RED, WHITE]
    assert colours(encoded(palette, transparency=b"\x00\xff")) == [WHITE, BLUE]
    assert colours(png(2, 1, 8, 0, b"\0\x05\x06", clear=b"\0\x05")) == [WHITE, (6, 6, 6)]
    assert colours(deep((0x1234,), (0x1235,), clear=(0x1234,))) == [WHITE, (0x12,) * 3]
    assert colours(deep((0x1234,) * 3, (0x4321,) * 3, clear=(0x1234,) * 3)) == [WHITE, (0x43,) * 3]


def test_cmyk_jpeg_becomes_rgb() -> None:
    (red, green, blue) = colours(encoded(Image.new("CMYK", (1, 1), (0, 255, 255, 0)), "JPEG", quality=95))[0]
    assert red > 250 and green < 5 and blue < 5


@pytest.mark.parametrize("format", ["PNG", "WEBP"])
def test_an_animation_gives_its_first_frame(format: str) -> None:
    frames = [Image.new("RGB", (4, 4), colour) for colour in (RED, BLUE)]
    assert set(colours(encoded(frames[0], format, save_all=True, append_images=frames[1:], lossless=True))) == {RED}


def test_a_multi_picture_jpeg_as_phones_write_it_is_a_jpeg(tmp_path: Path) -> None:
    file = tmp_path / "phone.jpg"
    both = [Image.new("RGB", (8, 8), colour) for colour in ("white", "black")]
    both[0].save(file, "MPO", save_all=True, append_images=both[1:])
    assert open_photo(file).getpixel((0, 0)) == WHITE


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP"])
def test_every_orientation_gives_the_upright_picture_without_metadata(orientation: int, format: str) -> None:
    rng = np.random.default_rng(0)
    upright = Image.fromarray(rng.integers(0, 256, (3, 5, 3), np.uint8)).resize((48, 80), Image.Resampling.NEAREST)
    undo = {5: Image.Transpose.TRANSPOSE, 6: Image.Transpose.ROTATE_90, 7: Image.Transpose.TRANSVERSE}
    undo |= {2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180, 4: Image.Transpose.FLIP_TOP_BOTTOM}
    undo |= {8: Image.Transpose.ROTATE_270}
    stored = upright.transpose(undo[orientation]) if orientation > 1 else upright
    exif = Image.Exif()
    exif[0x0112] = orientation
    exif.get_ifd(0x8825)[1] = "N"
    options = {"JPEG": {"quality": 95, "subsampling": 0}, "PNG": {}, "WEBP": {"lossless": True}}[format]
    seen = open_photo(encoded(stored, format, exif=exif, **options))
    assert seen.size == upright.size and seen.info == {} and not seen.getexif()
    difference = np.abs(np.asarray(seen).astype(int) - np.asarray(upright))
    assert difference.mean() < (3 if format == "JPEG" else 1e-9)


def photo(width: int, height: int) -> Image.Image:
    """Smooth, as photos are at such sizes."""
    small = np.random.default_rng(0).integers(0, 256, (5, 7, 3), np.uint8)
    return Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC)


@pytest.mark.parametrize(
    ("least", "size"), [(1, (80, 60)), (60, (80, 60)), (61, (160, 120)), (241, (640, 480)), (9999, (640, 480))]
)
def test_a_jpeg_comes_out_as_small_as_it_may(least: int, size: tuple[int, int]) -> None:
    for mode in ("RGB", "L", "CMYK"):
        file = encoded(photo(640, 480).convert(mode), "JPEG", quality=95)
        seen = open_photo(file, least_side=least)
        assert (seen.mode, seen.size) == ("RGB", size)
        difference = np.abs(np.asarray(seen).astype(int) - open_photo(file).resize(size, Image.Resampling.BOX))
        assert difference.mean() < 2
    for format in ("PNG", "WEBP"):
        assert open_photo(encoded(photo(64, 48), format), least_side=least).size == (64, 48)


def test_a_small_one_is_upright_too_and_is_not_repaired() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    file = encoded(photo(640, 480), "JPEG", exif=exif, quality=95)
    seen, whole = open_photo(file, least_side=60), open_photo(file)
    assert seen.size == (60, 80) and whole.size == (480, 640) and seen.info == {}
    assert np.abs(np.asarray(seen).astype(int) - whole.resize((60, 80), Image.Resampling.BOX)).mean() < 2
    with pytest.raises(BadImage):
        open_photo(file[: len(file) // 2], least_side=60)


def test_training_pixels_are_quick_and_close_and_evaluation_keeps_the_contracts(tmp_path: Path) -> None:
    paths = [tmp_path / f"{i}.jpg" for i in range(3)]
    for path in paths:
        photo(800, 600).save(path, quality=95)
    (tmp_path / "small.png").write_bytes(encoded(photo(70, 50)))
    files = Files([*paths, tmp_path / "small.png"])
    split, contract = Split(files, range(4), "abcd", [0] * 4), InputContract(side=40, crop_pct=0.5)
    exact, quick = split.pixels(contract), split.pixels(contract, quick=True)
    assert np.array_equal(exact, np.stack([contract.pixels(open_photo(path)) for path in files.paths]))
    difference = np.abs(quick.astype(int) - exact).mean((1, 2, 3))
    assert (difference[:3] > 0).all() and (difference[:3] < 1.5).all() and difference[3] == 0
    assert split.image(0, least_side=QUICK * 80).size == (400, 300)  # 160 for a crop of 80, which 200 x 150 has not
    rows = Split(Rows([np.asarray(photo(70, 50))]), [0], "a", [0])
    assert np.array_equal(rows.pixels(contract), rows.pixels(contract, quick=True))


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP"])
def test_truncated_files_are_refused_at_every_length(format: str) -> None:
    picture = Image.effect_noise((40, 40), 90).convert("RGB")
    whole = encoded(picture, format)
    end = {"JPEG": 2, "PNG": 20, "WEBP": 2}[format]  # behind these bytes every pixel is there already
    for length in range(0, len(whole) - end, max(1, len(whole) // 60)):
        with pytest.raises(BadImage):
            open_photo(whole[:length])


def test_damaged_files_give_a_picture_or_a_reason_and_nothing_else() -> None:
    rng = np.random.default_rng(1)
    gradient = Image.linear_gradient("L").resize((32, 24)).convert("RGB")
    for whole in (encoded(gradient, format) for format in ("JPEG", "PNG", "WEBP")):
        for _ in range(150):
            damaged = np.frombuffer(whole, np.uint8).copy()
            damaged[rng.integers(0, len(damaged), 3)] = rng.integers(0, 256, 3)
            try:
                assert open_photo(damaged.tobytes(), max_pixels=10**6).mode == "RGB"
            except BadImage as reason:
                assert str(reason)


def test_what_is_refused_says_why(tmp_path: Path) -> None:
    red = encoded(Image.new("RGB", (2, 2), RED))
    files = {
        "text.jpg": (b"hello, I am text", "holds no JPEG, PNG or WebP"),
        "empty.png": (b"", "empty file"),
        "lie.jpg": (red, "named .jpg but holds PNG: rename it"),
        "gif.jpg": (encoded(Image.new("P", (2, 2)), "GIF"), "holds no JPEG, PNG or WebP"),
        "photo.bmp": (encoded(Image.new("RGB", (2, 2)), "BMP"), "not a JPEG, PNG or WebP file"),
        "no_suffix": (red, "not a JPEG, PNG or WebP file"),
    }
    for name, (content, reason) in files.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(BadImage, match=reason):
            open_photo(tmp_path / name)
    (tmp_path / "right.PNG").write_bytes(red)
    assert open_photo(tmp_path / "right.PNG").size == (2, 2)
    (tmp_path / "link.png").symlink_to(tmp_path / "right.PNG")
    (tmp_path / "folder.png").mkdir()
    for name, reason in (("link.png", "symbolic link"), ("folder.png", "regular"), ("absent.png", "No such file")):
        with pytest.raises(BadImage, match=reason):
            open_photo(tmp_path / name)


@pytest.mark.parametrize("side", [8_000, 10_000, 30_000])
def test_a_bomb_is_refused_before_it_is_decoded(side: int) -> None:
    """Below and above the two limits of Pillow itself, which warns first and raises later."""
    bomb = png(side, side, 1, 0, zlib.compress(bytes(1)) + bytes(side * side // 8 // 100))
    tracemalloc.start()
    begin = time.perf_counter()
    with pytest.raises(BadImage, match="more than 50,000,000 pixels"):
        open_photo(bomb)
    assert time.perf_counter() - begin < 1.0 and tracemalloc.get_traced_memory()[1] < 8e6
    tracemalloc.stop()
    with pytest.raises(BadImage, match="2x2: more than 3 pixels"):
        open_photo(encoded(Image.new("RGB", (2, 2))), max_pixels=3)


def test_warnings_of_pillow_are_reasons_and_the_filters_come_back_after_threads(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    barrier = threading.Barrier(4, timeout=10)
    whole = encoded(Image.new("RGB", (2, 2)))

    def warn(image: Image.Image, *, in_place: bool) -> None:
        barrier.wait()  # all four threads are inside at once
        warnings.warn_explicit("odd EXIF", UserWarning, "TiffImagePlugin.py", 1, module="PIL.TiffImagePlugin")
        raise AssertionError("the warning did not raise")

    monkeypatch.setattr(ImageOps, "exif_transpose", warn)

    def reason(_: int) -> str:
        try:
            open_photo(whole)
        except BadImage as error:
            return str(error)
        return "none"

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        before = list(warnings.filters)
        with ThreadPoolExecutor(4) as pool:
            assert set(pool.map(reason, range(4))) == {"cannot be decoded: odd EXIF"}
        assert list(warnings.filters) == before
