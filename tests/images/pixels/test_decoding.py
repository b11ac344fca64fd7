import contextlib
import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image, features

from usae.images.pixels.decoding import BadImageError, decode

SHADES = np.random.default_rng(0).integers(0, 256, (9, 7, 3), dtype=np.uint8)
CODECS = ["JPEG", "PNG", "GIF", "WEBP", "TIFF", "BMP", "PPM", "TGA", "JPEG2000", "AVIF"]
NEEDS = {"WEBP": "webp", "JPEG2000": "jpg_2000", "AVIF": "avif"}


def encoded(image: Image.Image, codec: str = "PNG", **options) -> bytes:
    if codec in NEEDS and not features.check(NEEDS[codec]):
        pytest.skip(f"this Pillow has no {codec}")
    buffer = io.BytesIO()
    image.save(buffer, codec, **options)
    return buffer.getvalue()


def raw_png(width: int, height: int, bits: int, kind: int, rows: bytes) -> bytes:
    """A PNG of any header: kind 0 is grey, 2 is RGB."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", width, height, bits, kind, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize("mode", ["L", "LA", "P", "CMYK", "YCbCr", "RGBA", "1"])
def test_every_mode_becomes_rgb(mode):
    assert decode(encoded(Image.fromarray(SHADES).convert(mode), "TIFF")).mode == "RGB"


def test_rgb_is_kept():
    np.testing.assert_array_equal(decode(encoded(Image.fromarray(SHADES))), SHADES)


def test_cmyk_photographs_keep_their_colours():
    orange = Image.new("RGB", (16, 16), (250, 130, 20))
    found = np.asarray(decode(encoded(orange.convert("CMYK"), "JPEG", quality=95)))
    assert np.abs(found.astype(int) - (250, 130, 20)).max() <= 4


WIDE = np.array([[0, 1, 128, 129], [257, 0x8000, 65407, 65535]], dtype=np.uint16)
NARROW = np.array([[0, 0, 0, 1], [1, 128, 255, 255]], dtype=np.uint8)


@pytest.mark.parametrize("codec", ["PNG", "TIFF", "PPM", "JPEG2000"])
def test_16_bit_grey_is_scaled_to_8_bits(codec):
    found = np.asarray(decode(encoded(Image.fromarray(WIDE), codec)))
    np.testing.assert_array_equal(found, np.repeat(NARROW[..., None], 3, axis=2))


def test_big_endian_16_bit_grey_is_scaled_too():
    header = b"MM\0*" + struct.pack(">I", 24) + WIDE.astype(">u2").tobytes()
    tags = [(256, 4), (257, 2), (258, 16), (259, 1), (262, 1), (273, 8), (277, 1), (278, 2), (279, 16)]
    fields = b"".join(struct.pack(">HHII", tag, 4, 1, value) for tag, value in tags)
    found = np.asarray(decode(header + struct.pack(">H", len(tags)) + fields + bytes(4)))
    np.testing.assert_array_equal(found[..., 0], NARROW)


def test_16_bit_rgb_is_scaled_to_8_bits():
    shades = SHADES.astype(">u2") * 257  # (height, width, 3): the same shades in 16 bits
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in shades)
    np.testing.assert_array_equal(decode(raw_png(7, 9, 16, 2, rows)), SHADES)


@pytest.mark.parametrize("dtype", [np.float32, np.int32])
def test_pixels_without_a_defined_white_are_refused(dtype):
    with pytest.raises(BadImageError, match="have no defined white; save them with 8 or 16 bits"):
        decode(encoded(Image.fromarray(np.ones((4, 4), dtype)), "TIFF"))


@pytest.mark.parametrize("codec", ["PNG", "GIF"])
def test_transparent_palette_colours_lie_over_white(codec):
    image = Image.new("P", (4, 2), 0)
    image.putpalette([10, 20, 30, 200, 100, 50])
    image.paste(1, (0, 0, 2, 2))
    found = np.asarray(decode(encoded(image, codec, transparency=0)))
    assert found[0].tolist() == [[200, 100, 50]] * 2 + [[255, 255, 255]] * 2


def test_palettes_with_graded_transparency():
    image = Image.new("P", (2, 1), 0)
    image.putpalette([0, 0, 0, 100, 100, 100])
    image.putpixel((1, 0), 1)
    found = np.asarray(decode(encoded(image, transparency=bytes([128, 255]))))
    assert found[0].tolist() == [[127] * 3, [100] * 3]


def test_half_transparent_pixels_are_mixed_with_white():
    pixel = Image.new("RGBA", (1, 1), (0, 0, 0, 128))
    assert np.asarray(decode(encoded(pixel))).tolist() == [[[127, 127, 127]]]


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("codec", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_photographs_are_turned_upright(orientation, codec):
    upright = Image.new("L", (40, 24), 0)
    upright.paste(255, (0, 0, 20, 8))  # bright at the top left, wider than high
    stored = upright
    undo = {2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}  # the transposition that stores it turned
    if orientation > 1:
        stored = upright.transpose(Image.Transpose(undo[orientation]))
    exif = Image.Exif()
    exif[0x0112] = orientation
    found = decode(encoded(stored.convert("RGB"), codec, exif=exif))
    assert found.size == (40, 24)
    bright = np.asarray(found.convert("L")) > 128
    np.testing.assert_array_equal(bright, np.asarray(upright) > 128)


@pytest.mark.parametrize("codec", ["GIF", "WEBP", "PNG", "TIFF"])
def test_animations_give_their_first_frame(codec):
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "lime", "blue")]
    options = {"lossless": True} if codec == "WEBP" else {}
    data = encoded(frames[0], codec, save_all=True, append_images=frames[1:], **options)
    assert np.unique(np.asarray(decode(data)).reshape(-1, 3), axis=0).tolist() == [[255, 0, 0]]


def test_decompression_bombs_are_refused_before_they_grow():
    with pytest.raises(BadImageError, match="DecompressionBombError: .*could be decompression bomb"):
        decode(raw_png(60_000, 60_000, 8, 2, b""))


@pytest.mark.parametrize("data", [b"", b"<html>404</html>", b"%!PS-Adobe-3.0 EPSF-3.0\n", bytes(64)])
def test_what_is_no_image_says_so_in_the_same_words_each_time(data):
    reasons = set()
    for _ in range(3):
        with pytest.raises(BadImageError) as error:
            decode(data)
        reasons.add(str(error.value))
    (reason,) = reasons
    assert "0x" not in reason
    if data:
        assert reason == f"no known image format; the file begins with {data[:8].hex(' ')}"
    else:
        assert reason == "the file is empty"


@pytest.mark.parametrize("codec", ["JPEG", "PNG", "GIF", "WEBP", "BMP", "TIFF"])
@pytest.mark.parametrize("share", [0.2, 0.5, 0.8])
def test_truncated_files_are_refused(codec, share):
    data = encoded(Image.fromarray(np.random.default_rng(1).integers(0, 256, (64, 64, 3), np.uint8)), codec)
    with pytest.raises(BadImageError, match="."):
        decode(data[: int(share * len(data))])


@pytest.mark.parametrize("codec", CODECS)
def test_damaged_files_are_an_image_or_a_reason_and_nothing_else(codec):
    whole, rng = (
        encoded(Image.fromarray(np.repeat(np.repeat(SHADES, 4, 0), 4, 1)), codec),
        np.random.default_rng(2),
    )
    for _ in range(60):
        data = bytearray(whole[: rng.integers(1, len(whole) + 1)])
        for place in rng.integers(0, len(data), rng.integers(0, 4)):
            data[place] = rng.integers(0, 256)
        with contextlib.suppress(BadImageError):
            assert decode(bytes(data)).mode == "RGB"
