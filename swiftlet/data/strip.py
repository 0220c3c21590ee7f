"""The file of a picture without anything but its pixels: EXIF, GPS, XMP, profiles, comments and thumbnails cut out.

Nothing is decoded or encoded. What stays is what decides pixels by the rule of decode.py:

- JPEG: frames, scans, tables. Of JFIF's and Adobe's own segments (APP0, APP14) the few bytes that decide between YCbCr,
  RGB and CMYK, without the thumbnail. The first picture only: previews and depth maps behind it go.
- PNG: IHDR, PLTE, tRNS, IDAT, IEND. What stands behind IEND goes (some editors left the uncropped picture there).
- WebP: VP8, VP8L, ALPH, and VP8X without the flags of what is gone.

ICC profiles go too. The rule takes colours as sRGB and never looks at them, and they may name a device or an owner.
"""

import re
from collections.abc import Container

SOI, EOI, SOS, APP0, APP14 = 0xD8, 0xD9, 0xDA, 0xE0, 0xEE
# frames (SOF), DHT and DAC among them; DQT, DNL, DRI
TABLES: Container[int] = {*range(0xC0, 0xD0)} - {0xC8} | {SOS, 0xDB, 0xDC, 0xDD}
NEXT_MARKER = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")  # the end of coded data: neither stuffing, restart nor fill
JFIF, ADOBE = 7, 12  # bytes that are kept of their segments: name and version; name, version, flags, colour transform
NO_SCALE = b"\0\0\1\0\1\0\0"  # of JFIF: no unit, pixels are square, a thumbnail of 0 x 0
PNG = b"\x89PNG\r\n\x1a\n"
CHUNKS = (b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND")
WEBP_CHUNKS = (b"VP8 ", b"VP8L", b"ALPH")
HAS_ALPHA = 0x10  # the only flag of VP8X that stays


def stripped(data: bytes) -> bytes | None:
    """`data` of a JPEG, PNG or WebP file without metadata, or None where they cannot be cut out: in an animated WebP,
    or where the structure of the file is not what its format says."""
    if data.startswith(b"\xff\xd8"):
        return _jpeg(data)
    if data.startswith(PNG):
        return _png(data)
    if data.startswith(b"RIFF") and data[8:12] == b"WEBP":
        return _webp(data)
    return None


def _jpeg(data: bytes) -> bytes | None:
    kept, at = [b"\xff\xd8"], 2
    while at + 2 <= len(data) and data[at] == 0xFF:
        marker = data[at + 1]
        if marker == 0xFF:  # fill
            at += 1
            continue
        if marker == EOI:
            return b"".join([*kept, b"\xff\xd9"])
        end = at + 2 + int.from_bytes(data[at + 2 : at + 4])
        body = data[at + 4 : end]
        if end < at + 4 or end > len(data):
            return None
        if marker == APP0 and body.startswith(b"JFIF\0") and len(body) >= JFIF + len(NO_SCALE):
            kept.append(_segment(APP0, body[:JFIF] + NO_SCALE))
        elif marker == APP14 and body.startswith(b"Adobe") and len(body) >= ADOBE:
            kept.append(_segment(APP14, body[:ADOBE]))
        elif marker in TABLES:
            kept.append(data[at:end])
        at = end
        if marker == SOS:
            found = NEXT_MARKER.search(data, at)
            if found is None:
                return None
            kept.append(data[at : found.start()])
            at = found.start()
    return None


def _segment(marker: int, body: bytes) -> bytes:
    return bytes((0xFF, marker)) + (len(body) + 2).to_bytes(2) + body


def _png(data: bytes) -> bytes | None:
    kept, at = [PNG], len(PNG)
    while at + 12 <= len(data):
        kind = data[at + 4 : at + 8]
        end = at + 12 + int.from_bytes(data[at : at + 4])
        if end > len(data):
            return None
        if kind in CHUNKS:
            kept.append(data[at:end])
        if kind == b"IEND":
            return b"".join(kept)
        at = end
    return None


def _webp(data: bytes) -> bytes | None:
    kept, at = [], 12
    stop = 8 + int.from_bytes(data[4:8], "little")
    if stop > len(data):
        return None
    while at + 8 <= stop:
        kind, length = data[at : at + 4], int.from_bytes(data[at + 4 : at + 8], "little")
        end = at + 8 + length + length % 2
        if end > stop or kind in (b"ANIM", b"ANMF"):
            return None
        if kind in WEBP_CHUNKS:
            kept.append(data[at:end])
        elif kind == b"VP8X" and length == 10:
            kept.append(data[at : at + 8] + bytes((data[at + 8] & HAS_ALPHA,)) + data[at + 9 : end])
        at = end
    body = b"WEBP" + b"".join(kept)
    return b"RIFF" + len(body).to_bytes(4, "little") + body
