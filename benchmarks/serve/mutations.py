"""Pictures that are not what they should be: good ones of every kind, and endless broken ones made of them."""

import io
import random
import struct
import zlib
from collections.abc import Iterator

from PIL import Image

TYPES = {
    "png": "image/png",
    "jpeg": "image/jpeg",
    "gif": "image/gif",
    "bmp": "image/bmp",
    "webp": "image/webp",
    "tiff": "image/tiff",
    "ppm": "image/x-portable-anymap",
}


def good_ones() -> dict[str, bytes]:
    """A picture of every kind and mode that is met in the wild, by name; the part of the name before `-` is the kind."""
    grey = Image.radial_gradient("L").resize((40, 30))
    colour = Image.merge("RGB", (grey, grey.transpose(Image.Transpose.FLIP_LEFT_RIGHT), Image.linear_gradient("L").resize((40, 30))))
    sixteen = Image.frombytes("I;16", (40, 30), b"".join(struct.pack("<H", 54 * place) for place in range(1200)))
    frames = [colour, colour.transpose(Image.Transpose.FLIP_TOP_BOTTOM)]
    return {
        "png-grey": _saved(grey, "PNG"),
        "png-colour": _saved(colour, "PNG"),
        "png-alpha": _saved(colour.convert("RGBA"), "PNG"),
        "png-palette": _saved(colour.quantize(16), "PNG"),
        "png-16-bit": _saved(sixteen, "PNG"),
        "png-animated": _saved(frames[0], "PNG", save_all=True, append_images=frames[1:]),
        "jpeg-grey": _saved(grey, "JPEG"),
        "jpeg-colour": _saved(colour, "JPEG", exif=_rotated()),
        "jpeg-progressive": _saved(colour, "JPEG", progressive=True),
        "jpeg-cmyk": _saved(colour.convert("CMYK"), "JPEG"),
        "gif-still": _saved(colour, "GIF"),
        "gif-animated": _saved(frames[0], "GIF", save_all=True, append_images=frames[1:]),
        "bmp-colour": _saved(colour, "BMP"),
        "webp-lossy": _saved(colour, "WEBP"),
        "webp-lossless": _saved(colour, "WEBP", lossless=True),
        "webp-animated": _saved(frames[0], "WEBP", save_all=True, append_images=frames[1:]),
        "tiff-plain": _saved(colour, "TIFF"),
        "tiff-lzw": _saved(colour, "TIFF", compression="tiff_lzw"),
        "tiff-cmyk": _saved(colour.convert("CMYK"), "TIFF"),
        "tiff-16-bit": _saved(sixteen, "TIFF"),
        "ppm-colour": _saved(colour, "PPM"),
        "ppm-grey": _saved(grey, "PPM"),
    }


def bad_ones() -> dict[str, tuple[bytes, str, int]]:
    """Uploads that are to be refused, by name: the file, the declared type, the status."""
    colour = good_ones()["png-colour"]
    return {
        "nothing": (b"", "image/png", 400),
        "text": (b"this is no picture\n" * 20, "image/png", 415),
        "text declared as text": (b"this is no picture\n", "text/plain", 415),
        "a page": (b"<!doctype html><title>no</title>", "image/jpeg", 415),
        "an SVG": (b'<svg xmlns="http://www.w3.org/2000/svg"/>', "image/svg+xml", 415),
        "a PNG declared as JPEG": (colour, "image/jpeg", 415),
        "half of a PNG": (colour[: len(colour) // 2], "image/png", 422),
        "half of a JPEG": (good_ones()["jpeg-colour"][:700], "image/jpeg", 422),
        "the signature alone": (colour[:8], "image/png", 422),
        "a PNG of no width": (png(0, 10), "image/png", 422),
        "a PNG of no height": (png(10, 0), "image/png", 422),
        "a GIF of no size": (b"GIF89a" + bytes(7) + b";", "image/gif", 422),
        "a BMP of no size": (b"BM" + struct.pack("<IHHIIiiHHIIiiII", 54, 0, 0, 54, 40, 0, 0, 1, 24, 0, 0, 0, 0, 0, 0), "image/bmp", 422),
        "a bomb of 400 million pixels": (png(20_000, 20_000), "image/png", 413),
        "a bomb of 4 quintillion pixels": (png(2**31 - 1, 2**31 - 1), "image/png", 413),
        "a PPM that promises much": (b"P6 30000 30000 255\n" + bytes(100), "image/x-portable-anymap", 413),
        "a PNG with a bad checksum": (colour[:60] + bytes([colour[60] ^ 255]) + colour[61:], "image/png", 422),
    }


def png(width: int, height: int) -> bytes:
    """A PNG whose header promises a size, with one compressed row's worth of zeros in it."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(20_001))) + chunk(b"IEND", b"")


def mutated(count: int, seed: int) -> Iterator[tuple[str, bytes, str]]:
    """So many broken files, the same for the same seed: what was done to which, the file, and its declared type."""
    chance = random.Random(seed)
    seeds = sorted(good_ones().items())
    ways = (_flipped, _cut, _overwritten, _removed, _repeated, _inserted, _crossed, _resized, _noise)
    for number in range(count):
        name, file = seeds[number % len(seeds)]
        way = ways[number // len(seeds) % len(ways)]
        kind = name.split("-")[0]
        declared = TYPES[kind] if chance.random() < 0.9 else chance.choice([*TYPES.values(), "application/octet-stream", "text/plain"])
        yield f"{name}, {way.__name__.strip('_')}", way(file, chance, seeds), declared


_Seeds = list[tuple[str, bytes]]


def _flipped(file: bytes, chance: random.Random, _: _Seeds) -> bytes:
    broken = bytearray(file)
    for _place in range(chance.randint(1, 12)):
        broken[_somewhere(file, chance)] ^= 1 << chance.randrange(8)
    return bytes(broken)


def _cut(file: bytes, chance: random.Random, _: _Seeds) -> bytes:
    return file[: chance.randrange(len(file))]


def _overwritten(file: bytes, chance: random.Random, _: _Seeds) -> bytes:
    place, size = _somewhere(file, chance), chance.choice((1, 2, 4, 8, 64))
    return (file[:place] + chance.choice((b"\0", b"\xff", b"\x7f")) * size + file[place + size :])[: len(file)]


def _removed(file: bytes, chance: random.Random, _: _Seeds) -> bytes:
    place = _somewhere(file, chance)
    return file[:place] + file[place + chance.randint(1, 64) :]


def _repeated(file: bytes, chance: random.Random, _: _Seeds) -> bytes:
    place = _somewhere(file, chance)
    piece = file[place : place + chance.randint(1, 200)]
    return file[:place] + piece * chance.randint(2, 30) + file[place:]


def _inserted(file: bytes, chance: random.Random, _: _Seeds) -> bytes:
    place = _somewhere(file, chance)
    return file[:place] + chance.randbytes(chance.randint(1, 64)) + file[place:]


def _crossed(file: bytes, chance: random.Random, seeds: _Seeds) -> bytes:
    other = chance.choice(seeds)[1]
    return file[: _somewhere(file, chance)] + other[chance.randrange(len(other)) :]


def _resized(file: bytes, chance: random.Random, _: _Seeds) -> bytes:
    """Two or four bytes of the header, where sizes and offsets stand, become other numbers."""
    place = chance.randrange(2, min(64, len(file) - 4))
    number = chance.choice((0, 1, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFF, chance.getrandbits(16), chance.getrandbits(32)))
    packed = struct.pack(chance.choice("<>") + "I", number)[: chance.choice((2, 4))]
    return file[:place] + packed + file[place + len(packed) :]


def _noise(file: bytes, chance: random.Random, _: _Seeds) -> bytes:
    kept = chance.randint(4, 40)
    return file[:kept] + chance.randbytes(len(file) - kept)


def _somewhere(file: bytes, chance: random.Random) -> int:
    """A place in the file; half of the time in its first 100 bytes, where its structure is."""
    return chance.randrange(min(100, len(file)) if chance.random() < 0.5 else len(file))


def _saved(picture: Image.Image, kind: str, **options: object) -> bytes:
    kept = io.BytesIO()
    picture.save(kept, kind, **options)
    return kept.getvalue()


def _rotated() -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = 6
    return exif
