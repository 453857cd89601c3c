"""What a file holds that was named like a model and is something else: a table, a page, a pointer, nothing.

Only what is certain is said: a pickle may be plain text too, and only opening it tells a good model from a broken one.
"""

from __future__ import annotations

import csv
from pathlib import Path

from converters.source import kinds, onnx_file
from edgepack.errors import UsageError

_START = 4096
_LFS = b"version https://git-lfs.github.com/spec/"
_MAGICS = {
    b"\x93NUMPY": "an array of numpy",
    b"PAR1": "a Parquet file",
    b"%PDF": "a PDF document",
    b"\x89PNG": "a PNG image",
    b"\xff\xd8\xff": "a JPEG image",
    b"SQLite format 3\0": "a SQLite database",
    b"\x7fELF": "a program",
}
_AGAIN = "download the file itself: a server has answered with this page instead"
_KEEP = "give the file that the model was saved in, or keep this one as it is with --framework Custom"


def check_model(path: Path, framework: str) -> None:
    """Raise ``UsageError`` where a file of the model at ``path`` is certainly not of ``framework``, saying what it is.

    In a folder that is every file with an ending of the framework's models. Pointers of Git LFS are refused for every
    framework and in every file: they are never what was meant.
    """
    files = [path] if path.is_file() else sorted(file for file in path.rglob("*") if file.is_file())
    endings = {ending for group in kinds.ENDINGS.get(framework, ()) for ending in group}
    for file in files:
        start = _start(file)
        if start.startswith(_LFS):
            raise UsageError(
                "is a pointer of Git LFS, not the file itself", where=file, hint="fetch the file with: git lfs pull"
            )
        if framework in kinds.ENDINGS and (file == path or file.suffix.lower() in endings):
            _check_file(file, start, framework)


def _check_file(file: Path, start: bytes, framework: str) -> None:
    if not start:
        raise UsageError("is empty", where=file, hint="save the model again, or check that the copy is complete")
    head = start.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if head.startswith((b"<!doctype html", b"<html", b"<?xml")):
        what = "XML" if head.startswith(b"<?") else "an HTML page"
        raise UsageError(f"is {what}, not a model", where=file, hint=_AGAIN)
    for magic, what in _MAGICS.items():
        if start.startswith(magic):
            raise UsageError(f"is {what}, not a model", where=file, hint=_KEEP)
    kind = _kind_of_text(_text(start))
    if kind and not (framework == "ScikitLearn" and (kinds.is_booster_text(start) or _ends_a_pickle(file))):
        raise UsageError(f"is {kind}, not a model", where=file, hint=_KEEP)
    if framework in ("ScikitLearn", "PyTorch", "TensorFlow") and not start.startswith(b"\x80") and _is_onnx(file):
        raise UsageError(
            "is an ONNX model", where=file, hint="register it with --framework Onnx, or without --framework"
        )
    other = {"Onnx": "an ONNX model", "TensorFlow": "a model of TensorFlow"}.get(framework)
    if other and start[:1] == b"\x80" and start[1:2] in b"\2\3\4\5" and _ends_a_pickle(file):
        raise UsageError(f"is a pickle, not {other}", where=file, hint="register it with --framework ScikitLearn")


def _kind_of_text(text: str) -> str | None:
    """What a text is, None where that is not clear: a pickle may be text too."""
    if text.lstrip()[:1] in ("{", "["):
        return "JSON"
    lines = text.splitlines()[:20]
    for delimiter in ",;\t":
        widths = {len(cells) for cells in csv.reader(lines[:-1] or lines, delimiter=delimiter)}
        if len(widths) == 1 and widths.pop() > 1:
            return "a table of text (CSV)"
    return None


def _text(start: bytes) -> str:
    """``start`` where it is text, else nothing; a character may be cut at its end."""
    try:
        text = start.decode("utf-8-sig", "strict" if len(start) < _START else "ignore")
    except UnicodeDecodeError:
        return ""
    return text if all(letter.isprintable() or letter in "\t\r\n\f" for letter in text) else ""


def _ends_a_pickle(file: Path) -> bool:
    """Whether the last byte is the one that ends every pickle, which no table or page ends with."""
    with file.open("rb") as opened:
        opened.seek(-1, 2)
        return opened.read() == b"."


def _is_onnx(file: Path) -> bool:
    try:
        onnx_file.check_onnx(file)
    except UsageError:
        return False
    return True


def _start(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(_START)
