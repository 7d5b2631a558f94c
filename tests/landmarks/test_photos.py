"""Hostile photos: each is decoded as it should look, or refused with its reason; none stops a run or hangs."""

import io
import os
import pickle
import struct
import subprocess
import sys
import time
import zlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from study.align.actor import read_photo
from study.files.storage import open_folder
from study.landmarks.photos import MAX_PIXELS, PhotoError, Reason, climbs, decode_photo, photo_names

REPOSITORY = Path(__file__).parents[2]
RGB = np.random.default_rng(0).integers(0, 255, (6, 5, 3), dtype=np.uint8).repeat(10, 0).repeat(10, 1)  # 60 x 50


def encoded(image: Image.Image, kind: str, **options) -> bytes:
    sink = io.BytesIO()
    image.save(sink, kind, **options)
    return sink.getvalue()


def png_of_size(width: int, height: int) -> bytes:
    """A PNG whose header claims a size that its few bytes of zeros would unpack to only in part."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    pixels = zlib.compress(bytes(1_000_000))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


def reason_of(data: bytes) -> Reason:
    with pytest.raises(PhotoError) as error:
        decode_photo(data)
    assert "\n" not in error.value.detail
    return error.value.reason


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF", "WEBP"])
def test_lossless_formats_give_their_pixels_whatever_the_name(kind):
    options = {"lossless": True} if kind == "WEBP" else {}
    assert np.array_equal(decode_photo(encoded(Image.fromarray(RGB), kind, **options)), RGB)


@pytest.mark.parametrize("mode", ["L", "P", "CMYK", "YCbCr", "1", "LA", "RGBA"])
def test_modes_come_out_as_the_colours_they_mean(mode):
    image = Image.fromarray(RGB).convert(mode)
    kind = "JPEG" if mode in ("CMYK", "YCbCr") else "PNG"
    options = {"quality": 100, "subsampling": 0} if kind == "JPEG" else {}
    pixels = decode_photo(encoded(image, kind, **options))
    expected = np.asarray(image.convert("RGB"))
    assert pixels.shape == (60, 50, 3)
    assert np.abs(pixels.astype(int) - expected).mean() < 3


def test_16_bits_keep_their_upper_eight():
    grey = np.linspace(0, 65535, 64 * 48).reshape(64, 48).astype(np.uint16)
    pixels = decode_photo(encoded(Image.fromarray(grey), "PNG"))
    assert np.abs(pixels[:, :, 1].astype(int) - (grey >> 8)).max() <= 1


def test_what_is_transparent_is_white():
    layer = np.dstack([RGB, np.full(RGB.shape[:2], 255, np.uint8)])
    layer[:30, :, 3] = 0
    pixels = decode_photo(encoded(Image.fromarray(layer, "RGBA"), "PNG"))
    assert (pixels[:30] == 255).all()
    assert np.array_equal(pixels[30:], RGB[30:])


def test_an_animation_is_its_first_frame():
    first, second = Image.fromarray(RGB), Image.fromarray(255 - RGB)
    pixels = decode_photo(encoded(first, "GIF", save_all=True, append_images=[second]))
    assert np.abs(pixels.astype(int) - RGB).mean() < 12  # a palette of 256


@pytest.mark.parametrize(
    ("orientation", "turned"),
    [(1, RGB), (3, RGB[::-1, ::-1]), (6, np.rot90(RGB, -1)), (8, np.rot90(RGB, 1)), (2, RGB[:, ::-1])],
)
def test_exif_orientation_is_honoured(orientation, turned):
    exif = Image.Exif()
    exif[0x0112] = orientation
    assert np.array_equal(decode_photo(encoded(Image.fromarray(RGB), "PNG", exif=exif)), turned)


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
@pytest.mark.parametrize("share", [0.3, 0.5, 0.9])
def test_a_photo_cut_short_is_truncated(kind, share):
    data = encoded(Image.fromarray(RGB).resize((400, 400)), kind)
    assert reason_of(data[: int(share * len(data))]) is Reason.TRUNCATED


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", Reason.EMPTY_FILE),
        (b"\0", Reason.NOT_A_PHOTO),
        (b"this is a text file\n" * 50, Reason.NOT_A_PHOTO),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", Reason.NOT_A_PHOTO),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", Reason.NOT_A_PHOTO),
        (bytes(100_000), Reason.NOT_A_PHOTO),
        (encoded(Image.new("RGB", (1, 1)), "PNG"), Reason.TOO_SMALL),
        (encoded(Image.new("RGB", (4000, 3)), "PNG"), Reason.TOO_SMALL),
        (png_of_size(30_000, 30_000), Reason.TOO_LARGE),
        (png_of_size(2**31 - 1, 2**31 - 1), Reason.TOO_LARGE),
        (png_of_size(10_001, 12_000), Reason.TOO_LARGE),
        (png_of_size(2000, 2000), Reason.TRUNCATED),
    ],
)
def test_what_is_no_usable_photo_is_refused_by_reason(data, reason):
    start = time.perf_counter()
    assert reason_of(data) is reason
    assert time.perf_counter() - start < 2


def test_30000_by_30000_is_refused_before_it_is_decoded(monkeypatch):
    monkeypatch.setattr(Image.Image, "load", lambda self: pytest.fail("it was decoded"))
    assert MAX_PIXELS < 30_000**2
    assert reason_of(png_of_size(30_000, 30_000)) is Reason.TOO_LARGE


def test_a_jpeg_of_a_thousand_scans_is_refused():
    data = encoded(Image.fromarray(RGB), "JPEG", progressive=True)
    scan = data.rindex(b"\xff\xda")
    assert reason_of(data[:-2] + data[scan:-2] * 1000 + b"\xff\xd9") is Reason.NOT_A_PHOTO


@pytest.mark.parametrize(
    "path", ["/etc/passwd", "../x.jpg", "a/../../x.jpg", "..", "", "\\\\host\\x", "C:\\x.jpg", "a\\..\\..\\x", "a\0b"]
)
def test_paths_that_leave_the_root_are_recognised(path):
    assert climbs(path)


@pytest.mark.parametrize(
    "path", ["a.jpg", "00/a.jpg", "..a.jpg", "a..b/c.jpg", "Гагарин.jpg", "写真/顔.jpg", "a b.jpg"]
)
def test_odd_names_in_any_script_do_not_leave_the_root(path, tmp_path):
    assert not climbs(path)
    (tmp_path / path).parent.mkdir(exist_ok=True)
    (tmp_path / path).write_bytes(b"bytes")
    assert read_photo(open_folder(tmp_path), path) == b"bytes"


def test_links_pipes_folders_and_gaps_have_their_reasons(tmp_path):
    root = tmp_path / "root"
    root.mkdir()
    (tmp_path / "secret.jpg").write_bytes(b"secret")
    (root / "good.jpg").write_bytes(b"good")
    (root / "inside.jpg").symlink_to(root / "good.jpg")
    (root / "outside.jpg").symlink_to(tmp_path / "secret.jpg")
    (root / "loop.jpg").symlink_to(root / "loop.jpg")
    (root / "dangling.jpg").symlink_to(root / "gone.jpg")
    (root / "folder.jpg").mkdir()
    (root / "empty.jpg").touch()
    os.mkfifo(root / "pipe.jpg")
    folder = open_folder(root)
    assert read_photo(folder, "inside.jpg") == b"good"
    fates = {}
    for name in ("outside", "loop", "dangling", "folder", "empty", "pipe", "absent"):
        with pytest.raises(PhotoError) as error:
            read_photo(folder, f"{name}.jpg")
        fates[name] = error.value.reason
    assert fates == {
        "outside": Reason.OUTSIDE_ROOT,
        "loop": Reason.UNREADABLE,
        "dangling": Reason.MISSING,
        "folder": Reason.NOT_A_PHOTO,
        "empty": Reason.EMPTY_FILE,
        "pipe": Reason.NOT_A_PHOTO,
        "absent": Reason.MISSING,
    }
    assert "folder.jpg" not in folder.names()


def test_a_root_behind_a_link_is_still_the_root(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "a.jpg").write_bytes(b"bytes")
    (tmp_path / "link").symlink_to(tmp_path / "real")
    assert read_photo(open_folder(tmp_path / "link"), "a.jpg") == b"bytes"


def test_a_photo_that_may_not_be_read_is_unreadable(tmp_path, monkeypatch):
    (tmp_path / "a.jpg").write_bytes(b"bytes")
    (tmp_path / "a.jpg").chmod(0)
    if os.geteuid() == 0:  # nothing is forbidden to root: let the system call say what it says to others
        monkeypatch.setattr(Path, "read_bytes", lambda self: os.close(-1) or b"")
        expected = "Bad file descriptor"
    else:
        expected = "Permission denied"
    with pytest.raises(PhotoError) as error:
        read_photo(open_folder(tmp_path), "a.jpg")
    assert error.value.reason is Reason.UNREADABLE
    assert expected in error.value.detail


def test_a_listing_takes_photos_of_either_case_and_leaves_the_rest():
    names = ["b.JPG", "a.jpeg", "._a.jpg", "Thumbs.db", "c.PNG", "readme.txt", ".hidden.png", "d.jpg.part"]
    assert photo_names(names) == ["a.jpeg", "b.JPG", "c.PNG"]


def test_700_mutated_inputs_neither_crash_nor_hang():
    command = [sys.executable, "-m", "tests.landmarks.fuzz_photos", "--inputs", "700", "--seed", "1"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=REPOSITORY, timeout=280, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    assert "700 mutated inputs" in done.stdout


@pytest.mark.parametrize(
    ("start", "said"),
    [
        (b"<!DOCTYPE html><html><head>", "a web page"),
        (b"version https://git-lfs.github.com/spec/v1", "git lfs pull"),
        (b"/annex/objects/SHA256E-s1--0.jpg", "git annex get"),
        (b"\0\0\0\x18ftypheic\0\0\0\0", "an HEIC photo"),
        (b"\0\0\0\x1cftypmif1\0\0\0\0", "an HEIF photo"),
        (b"\0\0\0\x1cftypavif\0\0\0\0", "an AVIF photo"),
        (b"\0\0\0\x18ftypmp42\0\0\0\0", "video"),
        (b"\0\0\0\x14ftypqt  \0\0\0\0", "video"),
        (b"\x1aE\xdf\xa3\x01\0\0\0", "video"),
        (b"RIFF\0\0\0\0AVI LIST", "video"),
        (b"%PDF-1.7", "a PDF"),
        (b"\xff\x0a\x7f", "JPEG XL"),
        (b"8BPS\0\1", "Photoshop"),
        (b"PK\x03\x04\x14", "a ZIP archive"),
        (b"\xff\xd8\xff and no more", "a JPEG photo with a broken header"),
        (b"\x89PNG\r\n\x1a\nnothing", "a PNG photo with a broken header"),
        (bytes(500), "zeros"),
        (b"\x01\x02\x03", "3 bytes that start with"),
    ],
    ids=range(18),
)
def test_the_error_for_no_photo_says_what_it_is(start, said):
    with pytest.raises(PhotoError) as error:
        decode_photo(start)
    assert error.value.reason is Reason.NOT_A_PHOTO
    assert said in error.value.detail
    assert "Error" not in error.value.detail, "no library's own words"


def test_links_that_leave_the_root_are_followed_where_that_is_asked_for(tmp_path):
    root, store = tmp_path / "root", tmp_path / "store"
    (root / "images").mkdir(parents=True)
    store.mkdir()
    (store / "blob").write_bytes(b"bytes")
    (root / "images" / "a.jpg").symlink_to(store / "blob")
    with pytest.raises(PhotoError, match="--follow-links"):
        read_photo(open_folder(root), "images/a.jpg")
    following = replace(open_folder(root), follow_links=True)
    assert read_photo(pickle.loads(pickle.dumps(following)), "images/a.jpg") == b"bytes"
    with pytest.raises(PhotoError, match="climbing"):
        read_photo(following, "../store/blob")
