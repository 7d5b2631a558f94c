"""The kind of a file by its first bytes, for messages. Files get renamed, and downloads save error pages."""

from __future__ import annotations

_SIGNS: tuple[tuple[bytes, str], ...] = (
    (b"version https://git-lfs", "a Git LFS pointer, not the file itself: fetch it with git lfs pull"),
    (b"/annex/objects/", "a git-annex pointer, not the file itself: fetch it with git annex get"),
    (b"\x93NUMPY", "a NumPy array"),
    (b"%PDF", "a PDF"),
    (b"%!PS", "a PostScript file"),
    (b"8BPS", "a Photoshop file"),
    (b"\x89HDF\r\n\x1a\n", "an HDF5 file"),
    (b"MATLAB 5.0 MAT-file", "a MATLAB file"),
    (b"PK\x03\x04", "a ZIP archive"),
    (b"PK\x05\x06", "an empty ZIP archive"),
    (b"\x1f\x8b", "a gzip archive: unpack it first"),
    (b"BZh", "a bzip2 archive: unpack it first"),
    (b"\xfd7zXZ\0", "an xz archive: unpack it first"),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive: unpack it first"),
    (b"Rar!", "a RAR archive: unpack it first"),
    (b"(\xb5/\xfd", "a zstd archive: unpack it first"),
    (b"\xff\x0a", "a JPEG XL photo: convert it to JPEG or PNG"),
    (b"\0\0\0\x0cJXL ", "a JPEG XL photo: convert it to JPEG or PNG"),
    (b"\0\0\0\x0cjP  ", "a JPEG 2000 photo: convert it to JPEG or PNG"),
    (b"\xff\x4f\xff\x51", "a JPEG 2000 photo: convert it to JPEG or PNG"),
    (b"\xff\xd8\xff", "a JPEG photo"),
    (b"\x89PNG\r\n\x1a\n", "a PNG photo"),
    (b"GIF8", "a GIF picture"),
    (b"BM", "a BMP picture"),
    (b"II*\0", "a TIFF picture"),
    (b"MM\0*", "a TIFF picture"),
    (b"\x1aE\xdf\xa3", "a Matroska or WebM video: extract its pictures first"),
    (b"OggS", "an Ogg file"),
    (b"ID3", "an MP3 file"),
    (b"FLV", "a Flash video: extract its pictures first"),
    (b"\0\0\x01\xba", "an MPEG video: extract its pictures first"),
    (b"\0\0\x01\xb3", "an MPEG video: extract its pictures first"),
    (b"SQLite format 3\0", "an SQLite database"),
    (b"\x7fELF", "a program"),
    (b"MZ", "a Windows program"),
    (b"PAR1", "a Parquet file"),
    (b"ARROW1", "an Arrow file"),
    (b"\x80\x02", "a Python pickle"),
    (b"\x80\x03", "a Python pickle"),
    (b"\x80\x04", "a Python pickle"),
    (b"\x80\x05", "a Python pickle"),
)
_BRANDS: tuple[tuple[bytes, str], ...] = (
    (b"avi", "an AVIF photo: convert it to JPEG or PNG"),
    (b"hei", "an HEIC photo, as iPhones take them: convert it to JPEG or PNG"),
    (b"hev", "an HEIC photo, as iPhones take them: convert it to JPEG or PNG"),
    (b"mif1", "an HEIF photo: convert it to JPEG or PNG"),
    (b"msf1", "an HEIF photo: convert it to JPEG or PNG"),
    (b"crx", "a camera's raw photo: convert it to JPEG or PNG"),
    (b"", "an MP4 or QuickTime video: extract its pictures first"),
)
_RIFF: dict[bytes, str] = {
    b"WEBP": "a WebP picture", b"AVI ": "an AVI video: extract its pictures first", b"WAVE": "a WAVE sound file",
}  # fmt: skip


def what_is(data: bytes) -> str:
    """The kind of file that starts with these bytes, such as "a ZIP archive", with advice where there is some.

    Bytes of an unknown kind are shown. Nothing is parsed.
    """
    if not data:
        return "an empty file"
    if not any(data[:4096]):
        return "zeros: its content was lost in a copy or a crash"
    for sign, kind in _SIGNS:
        if data.startswith(sign):
            return kind
    if data[4:8] == b"ftyp":  # ISO base media; the brand says which
        return next(kind for brand, kind in _BRANDS if data[8:12].startswith(brand))
    if data[:4] == b"RIFF":
        return _RIFF.get(data[8:12], "a RIFF file")
    return _text(data[:512]) or f"{len(data):,} bytes that start with {data[:12]!r}"


def _text(start: bytes) -> str:
    """The kind of text, or "" where it is no text."""
    lower = start.removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    if lower.startswith((b"<!doctype html", b"<html", b"<head", b"<body")) or b"<html" in lower:
        return "a web page (HTML): the download gave an error or login page; download it again"
    if lower.startswith(b"<svg") or b"<svg" in lower:
        return "an SVG drawing: convert it to JPEG or PNG"
    if lower.startswith(b"<?xml") or lower.startswith(b"<error"):
        return "an XML text: the download gave an error page; download it again"
    if lower.startswith((b"{", b"[")):
        return f"a JSON text that starts with {start[:40]!r}"
    printable = sum(byte >= 32 or byte in b"\t\n\r" for byte in start)
    if printable == len(start) and all(byte < 127 for byte in start):
        return f"a text that starts with {start[:40]!r}"
    return ""
