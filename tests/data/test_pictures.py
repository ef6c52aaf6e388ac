import io
import struct
import threading
import time
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from torchnin.data import DataError, convert_channels, decode_picture
from torchnin.data.pictures import MAX_PIXELS, measure_quietly, quiet_pillow

RAMP = np.tile(np.linspace(0, 255, 32, dtype=np.uint8), (24, 1))
COLOUR = np.stack([RAMP, RAMP[::-1, ::-1], np.full_like(RAMP, 40)], axis=2)


def saved(picture: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    stream = io.BytesIO()
    picture.save(stream, kind, **options)
    return stream.getvalue()


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF", "PPM", "GIF", "WEBP", "JPEG"])
def test_every_format(kind: str, tmp_path: Path) -> None:
    options = {"lossless": True} if kind == "WEBP" else {"quality": 98} if kind == "JPEG" else {}
    path = tmp_path / f"picture.{kind.lower()}"
    path.write_bytes(saved(Image.fromarray(RAMP), kind, **options))
    grey = decode_picture(path, 1)
    assert grey.shape == (1, 24, 32)
    assert grey.dtype == np.uint8
    assert abs(grey[0].astype(int) - RAMP).max() <= (3 if kind == "JPEG" else 0)
    assert (decode_picture(str(path), 3) == decode_picture(path.read_bytes(), 3)).all()
    assert measure_quietly(path)[:2] == (24, 32)


def test_grey_and_colour_become_each_other() -> None:
    colour = Image.fromarray(COLOUR)
    assert (decode_picture(saved(colour), 3) == COLOUR.transpose(2, 0, 1)).all()
    assert (decode_picture(saved(colour), 1)[0] == np.asarray(colour.convert("L"))).all()
    assert (decode_picture(saved(Image.fromarray(RAMP)), 3) == np.stack([RAMP] * 3)).all()


@given(st.integers(0, 255), st.integers(0, 255), st.integers(0, 255))
def test_luma_is_pillows_to_the_bit(red: int, green: int, blue: int) -> None:
    pixel = np.array([red, green, blue], dtype=np.uint8).reshape(3, 1, 1)
    assert convert_channels(pixel, 1)[0, 0, 0] == np.asarray(Image.fromarray(pixel.transpose(1, 2, 0)).convert("L"))[0, 0]


def test_other_channel_counts_are_taken_as_they_are_or_refused() -> None:
    five = np.random.default_rng(0).integers(0, 256, (5, 6, 7), dtype=np.uint8)
    assert (decode_picture(five, 5) == five).all()
    assert (decode_picture(torch.from_numpy(five.transpose(1, 2, 0).copy()), 5) == five).all()
    with pytest.raises(ValueError, match=r"channels: expected 1 .*or 3 .*found 4"):
        decode_picture(RAMP, 4)
    with pytest.raises(ValueError, match="pictures of 2 channels"):
        convert_channels(np.zeros((1, 2, 3, 3), dtype=np.uint8), 3)


def test_alpha_lies_over_white() -> None:
    pixels = np.zeros((4, 4, 4), dtype=np.uint8)
    pixels[:, :2, 3] = 255
    pixels[:, 2, 3] = 128
    found = decode_picture(saved(Image.fromarray(pixels)), 3)
    assert (found[:, :, :2] == 0).all()
    assert (abs(found[:, :, 2].astype(int) - 127) <= 1).all()
    assert (found[:, :, 3] == 255).all()
    grey = np.zeros((4, 4, 2), dtype=np.uint8)
    assert (decode_picture(saved(Image.fromarray(grey)), 1) == 255).all()


def test_palettes_with_and_without_transparency() -> None:
    palette = Image.fromarray(COLOUR).quantize(16)
    assert (decode_picture(saved(palette), 3) == np.asarray(palette.convert("RGB")).transpose(2, 0, 1)).all()
    see_through = int(np.asarray(palette)[0, 0])
    found = decode_picture(saved(palette, transparency=see_through), 3)
    assert (found[:, np.asarray(palette) == see_through] == 255).all()
    grey = Image.fromarray(RAMP).quantize(256)
    assert decode_picture(saved(grey), 1).shape == (1, 24, 32)


def test_transparent_colour_of_plain_modes() -> None:
    assert (decode_picture(saved(Image.new("RGB", (3, 3), (9, 9, 9)), transparency=(9, 9, 9)), 3) == 255).all()
    assert (decode_picture(saved(Image.new("L", (3, 3), 9), transparency=9), 1) == 255).all()


@given(st.integers(0, 65535))
@settings(max_examples=50)
def test_sixteen_bits_are_scaled_not_clipped(value: int) -> None:
    deep = Image.fromarray(np.full((2, 3), value, dtype=np.uint16))
    for kind in ("PNG", "TIFF"):
        found = decode_picture(saved(deep, kind), 1)
        assert (found == round(value / 257)).all()
    assert (decode_picture(Image.fromarray(np.full((2, 3), value, dtype=np.int32)), 1) == round(value / 257)).all()


def test_numbers_beyond_sixteen_bits_and_fractions_are_refused() -> None:
    with pytest.raises(DataError, match=r"0 to 65535.*found 70000"):
        decode_picture(Image.fromarray(np.full((2, 3), 70000, dtype=np.int32)), 1)
    with pytest.raises(DataError, match="floating-point"):
        decode_picture(saved(Image.fromarray(np.zeros((2, 3), dtype=np.float32)), "TIFF"), 1)


def test_the_transparent_colour_of_sixteen_bits_lies_over_white() -> None:
    grey = png_of_sixteen_bits(0, [(0x1234,), (0x8000,)], transparent=(0x1234,))
    assert decode_picture(grey, 1).tolist() == [[[255, 128]]]
    colours = [(0x1234, 0x5678, 0x9ABC), (0x1234, 0x5678, 0x8000)]
    expected = [[[255, 0x12]], [[255, 0x56]], [[255, 0x80]]]
    colour = png_of_sixteen_bits(2, colours, transparent=colours[0])
    assert decode_picture(colour, 3).tolist() == expected
    with Image.open(io.BytesIO(colour)) as picture:
        assert decode_picture(picture, 3).tolist() == expected
        assert picture.info["transparency"] == colours[0]  # it is somebody's own picture


def test_a_nearly_black_transparent_colour_of_sixteen_bits_lies_over_white() -> None:
    colour = png_of_sixteen_bits(2, [(0x34, 0x12, 0), (0xFF00, 0, 0)], transparent=(0x34, 0x12, 0))
    assert decode_picture(colour, 3).tolist() == [[[255, 255]], [[255, 0]], [[255, 0]]]


@pytest.mark.parametrize(
    ("bits", "row", "transparent", "expected"),
    [
        (1, 0b01000000, 1, [0, 255, 0, 0]),
        (1, 0b01000000, 0, [255, 255, 255, 255]),
        (2, 0b00011011, 0, [255, 85, 170, 255]),
        (2, 0b00011011, 1, [0, 255, 170, 255]),
        (2, 0b00011011, 2, [0, 85, 255, 255]),
        (4, 0x1E, 1, [255, 14 * 17]),
        (4, 0x1E, 14, [17, 255]),
        (8, 85, 1, [85]),
        (8, 85, 85, [255]),
    ],
)
def test_the_transparent_level_of_few_bits_lies_over_white(bits: int, row: int, transparent: int, expected: list[int]) -> None:
    content = png(0, bits, len(expected), bytes([row]), struct.pack(">H", transparent))
    assert decode_picture(content, 1).tolist() == [[expected]]
    with Image.open(io.BytesIO(content)) as picture:
        before = dict(picture.info)
        assert decode_picture(picture, 1).tolist() == [[expected]]
        assert picture.info == before  # it is somebody's own picture


@pytest.mark.parametrize(("order", "bits"), [("<", 8), (">", 8), ("<", 16)])  # the fourth is none that Pillow reads
def test_of_a_tiff_white_may_be_zero(order: str, bits: int) -> None:
    high = 255 if bits == 8 else 65535
    for photometric, expected in ((0, [255, 155, 0]), (1, [0, 100, 255])):
        content = tiff(order, bits, photometric, [0, 100 * high // 255, high])
        assert decode_picture(content, 1).tolist() == [[expected]]
        with Image.open(io.BytesIO(content)) as picture:
            assert decode_picture(picture, 1).tolist() == decode_picture(picture, 1).tolist() == [[expected]]
        turned = tiff(order, bits, photometric, [0, 100 * high // 255, high], orientation=6)
        with Image.open(io.BytesIO(turned)) as picture:
            assert decode_picture(turned, 1).tolist() == decode_picture(picture, 1).tolist() == [[[level] for level in expected]]


def tiff(order: str, bits: int, photometric: int, levels: list[int], orientation: int = 1) -> bytes:
    """One row, uncompressed."""
    data = struct.pack(f"{order}{len(levels)}{'B' if bits == 8 else 'H'}", *levels)
    tags = [(256, len(levels)), (257, 1), (258, bits), (259, 1), (262, photometric), (273, 0), (274, orientation)]
    tags += [(277, 1), (278, 1), (279, len(data))]
    offset = 8 + 2 + 12 * len(tags) + 4
    entries = b"".join(struct.pack(f"{order}HHII", tag, 4, 1, offset if tag == 273 else value) for tag, value in tags)
    head = (b"II" if order == "<" else b"MM") + struct.pack(f"{order}HI", 42, 8)
    return head + struct.pack(f"{order}H", len(tags)) + entries + struct.pack(f"{order}I", 0) + data


def png_of_sixteen_bits(kind: int, pixels: list[tuple[int, ...]], transparent: tuple[int, ...]) -> bytes:
    row = b"".join(struct.pack(f">{len(pixel)}H", *pixel) for pixel in pixels)
    return png(kind, 16, len(pixels), row, struct.pack(f">{len(transparent)}H", *transparent))


def png(kind: int, bits: int, width: int, row: bytes, transparent: bytes) -> bytes:
    def chunk(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    header = struct.pack(">IIBBBBB", width, 1, bits, kind, 0, 0, 0)
    chunks = (
        (b"IHDR", header),
        (b"tRNS", transparent),
        (b"IDAT", zlib.compress(b"\0" + row)),
        (b"IEND", b""),
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*each) for each in chunks)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr", "HSV", "I", "I;16", "La", "RGBa"])
@pytest.mark.parametrize("channels", [1, 3])
def test_every_mode_of_pillow(mode: str, channels: int) -> None:
    base = Image.fromarray(COLOUR)
    if mode in ("La", "RGBa"):
        picture = base.convert({"La": "LA", "RGBa": "RGBA"}[mode]).convert(mode)
    elif mode in ("I", "I;16"):
        picture = base.convert("L").convert(mode)
    else:
        picture = base.convert(mode)
    found = decode_picture(picture, channels)
    assert found.shape == (channels, 24, 32)
    assert found.dtype == np.uint8


def test_cmyk_files_keep_their_colours() -> None:
    cmyk = Image.fromarray(COLOUR).convert("CMYK")
    assert abs(decode_picture(saved(cmyk, "TIFF"), 3).astype(int) - COLOUR.transpose(2, 0, 1)).max() <= 2


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_rotation_is_honoured(orientation: int, kind: str, tmp_path: Path) -> None:
    """Found by fuzzing: of a TIFF that lies on its side, width and height were measured the wrong way round."""
    back = {2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}
    upright = Image.fromarray(COLOUR)
    stored = upright if orientation == 1 else upright.transpose(Image.Transpose(back[orientation]))
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / f"photo.{kind.lower()}"
    path.write_bytes(saved(stored, kind, exif=exif.tobytes()))
    assert (decode_picture(path, 3) == COLOUR.transpose(2, 0, 1)).all()
    assert measure_quietly(path) == (24, 32, False)


@pytest.mark.parametrize("kind", ["PNG", "PNG late", "PNG xmp", "JPEG", "JPEG xmp", "WEBP", "WEBP xmp", "PIL", "PIL info", "PIL opened"])
def test_wherever_it_is_said_that_a_picture_lies_on_its_side_it_is_turned(kind: str) -> None:
    shades = Image.fromarray(np.array([[0, 90], [170, 250]], np.uint8).repeat(16, 0).repeat(16, 1))
    exif = Image.Exif()
    exif[0x0112] = 6
    xmp = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:Description tiff:Orientation="6"/></x:xmpmeta>'
    form, _, way = kind.partition(" ")
    if form == "PIL":
        source = Image.open(io.BytesIO(saved(shades))) if way == "opened" else shades.copy()
        if way == "info":
            source.info["exif"] = exif.tobytes()
        else:
            source.getexif()[0x0112] = 6
    elif way == "late":
        body, data = saved(shades), b"eXIf" + exif.tobytes().removeprefix(b"Exif\0\0")
        chunk = (len(data) - 4).to_bytes(4) + data + zlib.crc32(data).to_bytes(4)
        source = body[:-12] + chunk + body[-12:]
    elif way == "xmp" and form == "PNG":
        text = PngInfo()
        text.add_itxt("XML:com.adobe.xmp", xmp.decode())
        source = saved(shades, form, pnginfo=text)
    elif way == "xmp":
        source = saved(shades, form, xmp=xmp)
    else:
        source = saved(shades, form, exif=exif.tobytes())
    assert abs(decode_picture(source, 1)[0, 8::16, 8::16].astype(int) - [[170, 0], [250, 90]]).max() <= 5


def test_the_first_frame_of_an_animation() -> None:
    frames = [Image.fromarray(np.full((4, 4), level, dtype=np.uint8)) for level in (10, 200)]
    assert (decode_picture(saved(frames[0], "GIF", save_all=True, append_images=frames[1:]), 1) == 10).all()


def test_arrays_and_tensors() -> None:
    planes = COLOUR.transpose(2, 0, 1)
    for source in (COLOUR, planes, torch.from_numpy(np.ascontiguousarray(planes)), torch.from_numpy(COLOUR)):
        assert (decode_picture(source, 3) == planes).all()
    for source in (RAMP, RAMP[None], RAMP[:, :, None]):
        assert (decode_picture(source, 1)[0] == RAMP).all()
    both = np.zeros((3, 5, 3), dtype=np.uint8)
    both[0] = 7
    assert (decode_picture(both, 3)[:, 0] == 7).all()
    clear = np.zeros((5, 6, 4), dtype=np.uint8)
    assert (decode_picture(clear, 3) == 255).all()


@pytest.mark.parametrize(
    "array",
    [
        np.zeros((4, 4), np.float32),
        np.zeros((4, 4), bool),
        np.zeros((2, 4, 5), np.uint8),
        np.zeros(4, np.uint8),
        np.zeros((0, 4), np.uint8),
        torch.zeros((4, 4), dtype=torch.bfloat16),  # numpy has no such type
    ],
)
def test_other_arrays_are_refused_with_what_is_accepted(array: np.ndarray | torch.Tensor) -> None:
    with pytest.raises(ValueError, match=r"picture: expected an array of uint8 of shape \(H, W\)") as caught:
        decode_picture(array, 1)
    assert ("Multiply" in str(caught.value)) == (array.dtype in (np.float32, torch.bfloat16))


@pytest.mark.parametrize(
    ("dtype", "advice"),
    [
        (np.uint16, "Divide 16-bit values by 257, round them, and convert to uint8."),
        (np.int64, "Convert them to uint8: values are 0 to 255."),
        (np.int16, "Convert them to uint8: values are 0 to 255."),
    ],
)
def test_whole_numbers_of_another_type_are_told_what_they_must_be(dtype: type, advice: str) -> None:
    with pytest.raises(ValueError, match=advice):
        decode_picture(np.full((4, 4), 255, dtype), 1)


@pytest.mark.parametrize(
    ("content", "said"),
    [(b"", "found 0 bytes"), (b"no picture at all", "another kind"), (saved(Image.fromarray(COLOUR))[:-40], "broken or truncated")],
)
def test_broken_files_are_named(tmp_path: Path, content: bytes, said: str) -> None:
    path = tmp_path / "broken.png"
    path.write_bytes(content)
    with pytest.raises(DataError, match=f"broken.png: expected.*{said}"):
        decode_picture(path, 3)
    with pytest.raises(DataError, match=f"picture: expected.*{said}"):
        decode_picture(content, 3)


def test_missing_files_and_folders(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"none\.png: expected a picture, found no such file"):
        decode_picture(tmp_path / "none.png", 3)
    with pytest.raises(DataError, match="found a folder"):
        decode_picture(tmp_path, 3)


def test_a_piece_cut_out_beside_a_picture_is_none() -> None:
    picture = Image.new("RGB", (4, 4))
    for box in ((4, 0, 4, 4), (0, 2, 4, 2)):
        with pytest.raises(DataError, match="picture: expected a picture, found one without pixels"):
            decode_picture(picture.crop(box), 3)


def test_a_file_that_may_not_be_read_is_not_called_broken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Image.new("L", (4, 4)).save(tmp_path / "photo.png")

    def refused(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied", "photo.png")

    monkeypatch.setattr(Image, "open", refused)  # the tests may run as root, who may read everything
    with pytest.raises(DataError, match=r"photo\.png: expected a file that can be read, found: Permission denied\.$"):
        decode_picture(tmp_path / "photo.png", 3)


def test_truncated_photos_are_errors() -> None:
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8))
    photo = saved(noise, "JPEG")
    for part in (0.3, 0.6, 0.9):
        with pytest.raises(DataError, match="truncated"):
            decode_picture(photo[: int(len(photo) * part)], 3)


def test_a_bmp_in_runs_is_refused_before_a_hundred_bytes_become_millions_of_pixels() -> None:
    """Found by fuzzing: Pillow decodes such runs in Python, an empty line of eight million pixels for two bytes."""
    for width, refused in ((2**23 + 9, True), (8, False)):
        header = struct.pack("<2sIIIIiiHHIIiiII", b"BM", 0, 0, 62, 40, width, 7, 1, 8, 1, 0, 0, 0, 2, 0)
        file = header + bytes((0, 0, 0, 0, 255, 255, 255, 0)) + b"\2\1\0\0" * 7
        if refused:
            with pytest.raises(DataError, match=r"at most 4,000,000 pixels of a BMP file that .* \(RLE\), found 58,720,319"):
                decode_picture(file, 1)
        else:
            assert decode_picture(file, 1).shape == (1, 7, 8)


@pytest.mark.parametrize("pixels", [MAX_PIXELS + 1, 120_000_000, 400_000_000])
def test_huge_pictures_are_refused_before_they_are_decoded(pixels: int) -> None:
    # A header alone: the promise of pixels that never come.
    header = f"P5 1000 {pixels // 1000 + 1} 255\n".encode()
    start = time.process_time()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(DataError, match=f"at most {MAX_PIXELS:,} pixels"):
            decode_picture(header, 1)
    assert time.process_time() - start < 1


def test_threads_leave_the_warning_filters_as_they_were() -> None:
    before = list(warnings.filters)
    threads = [threading.Thread(target=lambda: [decode_picture(saved(Image.fromarray(RAMP)), 1) for _ in range(20)]) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert list(warnings.filters) == before
    with quiet_pillow(), warnings.catch_warnings():
        warnings.resetwarnings()  # whatever another thread does to the list meanwhile
    with quiet_pillow():
        warnings.warn_explicit("said", UserWarning, "Image.py", 1, module="PIL.Image")
        with pytest.warns(UserWarning, match="said"):
            warnings.warn_explicit("said", UserWarning, "mine.py", 1, module="mine")
    assert list(warnings.filters) == before


@settings(max_examples=200)
@given(st.sampled_from(["PNG", "BMP", "TIFF", "PPM", "GIF", "WEBP", "JPEG"]), st.data())
def test_flipped_bytes_give_a_picture_or_the_named_error(kind: str, draw: st.DataObject) -> None:
    content = bytearray(saved(Image.fromarray(COLOUR[:8, :8]), kind))
    for _ in range(draw.draw(st.integers(1, 4))):
        content[draw.draw(st.integers(0, len(content) - 1))] = draw.draw(st.integers(0, 255))
    try:
        shape = decode_picture(bytes(content), 3).shape
    except DataError as error:
        shape = (3, 0, 0)
        message = str(error)
        assert message.startswith("picture: expected"), message
    assert shape[0] == 3


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_damaged_words_about_the_camera_spoil_no_picture(kind: str, tmp_path: Path) -> None:
    options: dict[str, object] = {"quality": 98} if kind == "JPEG" else {"lossless": True} if kind == "WEBP" else {}
    file = saved(Image.fromarray(RAMP), kind, exif=b"Exif\0\0no TIFF at all", **options)
    assert np.array_equal(decode_picture(file, 1), decode_picture(saved(Image.fromarray(RAMP), kind, **options), 1))
    (tmp_path / "a").write_bytes(file)
    assert measure_quietly(tmp_path / "a")[:2] == RAMP.shape
