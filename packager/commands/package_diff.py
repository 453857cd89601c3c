"""``edgepack package diff``"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from edgepack.errors import IncompatibleError
from edgepack.host.console import answer, human, note
from edgepack.oci.descriptor import Platform
from edgepack.text import redacted
from packager.commands.options import common, offline, registries
from packager.registries.access import Access
from packager.workspaces.workspace import Workspace

if TYPE_CHECKING:
    from packager.images.difference import Difference, PlatformDifference
    from packager.images.inspect import ImageView

# What a value and a size may take; the name gets the rest of the terminal's columns, or of 80.
_VALUE_CHARS, _SIZE_CHARS = 18, 8
_MARKS = {"added": "+", "removed": "-", "changed": "~"}
_SHOWN_FILES = 20


@click.command("diff")
@click.argument("first")
@click.argument("second")
@click.option("--platform", metavar="P", help="Compare only this platform's images, such as linux/arm64.")
@click.option("--files", is_flag=True, help=f"Show every file that differs, not only the first {_SHOWN_FILES}.")
@offline
@registries
@common
def command(
    first: str,
    second: str,
    platform: str | None,
    files: bool,
    offline: bool,
    access: Access,
    workspace: Workspace,
    output: str,
) -> None:
    """Compare the images FIRST and SECOND: layers, packages, models, settings, files, and the bytes that would move.

    Each is a tag of the workspace, oci:DIR, oci-archive:FILE, docker-archive:FILE, docker-daemon:NAME, bundle:FILE or a
    registry's reference. Layers that both have are not read.
    """
    from packager.images.difference import Image, difference
    from packager.images.inspect import views
    from packager.places.bundle import PREFIX, BundleFile
    from packager.places.table import find_source

    sources = [
        BundleFile(name.removeprefix(PREFIX), workspace.store)
        if name.startswith(PREFIX)
        else find_source(name, workspace.store, access)
        for name in (first, second)
    ]
    with sources[0].open(offline=offline) as (one, root), sources[1].open(offline=offline) as (other, other_root):
        found = [
            {view.platform: Image(source, view) for view in _wanted(views(source, top), platform, name)}
            for source, top, name in ((one, root, first), (other, other_root, second))
        ]
        both = [name for name in found[0] if name in found[1]]
        compared = [difference(found[0][name], found[1][name]) for name in both]
    only = [[str(name) for name in found[at] if name not in both] for at in (0, 1)]
    if not both:
        raise IncompatibleError(
            f"they have no platform in common: {first} is for {', '.join(only[0])}, {second} for {', '.join(only[1])}",
            hint="compare images for one platform",
        )
    if output == "json":
        answer(output, _json((str(root.digest), str(other_root.digest)), compared, only), [])
        return
    for one_platform in compared:
        _show(one_platform, every_file=files)
    for name, platforms in zip((first, second), only, strict=True):
        for left in platforms:
            note(f"only {name} is for {left}")


def _wanted(found: Sequence[ImageView], platform: str | None, name: str) -> Sequence[ImageView]:
    if platform is None:
        return found
    wanted = Platform.parse(platform)
    chosen = [view for view in found if view.platform == wanted]
    if not chosen:
        have = ", ".join(str(view.platform) for view in found)
        raise IncompatibleError(f"is for {have}, not for {wanted}", where=name, hint="choose one of its platforms")
    return chosen


def _show(found: PlatformDifference, *, every_file: bool) -> None:
    if not found.differences:
        same = "it is the same image" if found.first == found.second else "they differ only in what describes them"
        note(f"{found.platform}: {same}")
    columns = max(80, shutil.get_terminal_size().columns)
    files = found.of("file")
    answer("table", None, [_row(one, columns) for one in found.differences if one.what != "file"])
    if files and len(files) < len(found.differences):
        click.echo()
    answer("table", None, [_file_row(one, columns) for one in (files if every_file else files[:_SHOWN_FILES])])
    if len(files) > _SHOWN_FILES and not every_file:
        note(f"and {len(files) - _SHOWN_FILES} files more; --files shows all")
    counts = [f"{sum(one.change == change for one in files)} {change}" for change in ("added", "removed", "changed")]
    note(f"{found.platform}: {found.layers_kept} layers are the same; files: {', '.join(counts)}")
    moved = f"{human(found.moved_bytes)} of {human(found.total_bytes)}"
    note(f"{found.platform}: {moved} would move to a device that has the first image")


def _row(one: Difference, columns: int) -> dict[str, object]:
    before, after = one.before, one.after
    if one.what == "layer":
        before, after = (None if size is None else human(size) for size in (one.size_before, one.size_after))
    elif before == after:
        after = f"other {' and '.join(one.parts)}"
    return {
        " ": _MARKS[one.change],
        "what": one.what,
        "name": _short(one.name, columns - 52),
        "first": _short(before, _VALUE_CHARS),
        "second": _short(after, _VALUE_CHARS),
    }


def _file_row(one: Difference, columns: int) -> dict[str, object]:
    """Sizes where the content differs, else modes, else what differs."""
    first, second = (None if size is None else human(size) for size in (one.size_before, one.size_after))
    if one.change == "changed" and "content" not in one.parts:
        first, second = (one.before, one.after) if "mode" in one.parts else (None, one.parts[0])
    return {
        " ": _MARKS[one.change],
        "file": _short(one.name, columns - 23),
        "first": _short(first, _SIZE_CHARS),
        "second": _short(second, _SIZE_CHARS),
    }


def _short(text: str | None, length: int) -> str | None:
    """At most ``length`` characters; the middle goes, since paths and versions differ at their ends."""
    if text is None or len(text := redacted(text)) <= length:
        return text
    head = (length - 1) // 3
    return f"{text[:head]}…{text[len(text) - (length - 1 - head) :]}"


def _json(
    digests: tuple[str, str], compared: Sequence[PlatformDifference], only: Sequence[Sequence[str]]
) -> dict[str, object]:
    return {
        "first": digests[0],
        "second": digests[1],
        "only_in_first": list(only[0]),
        "only_in_second": list(only[1]),
        "platforms": [
            {
                "platform": str(one.platform),
                "first": str(one.first),
                "second": str(one.second),
                "moved_bytes": one.moved_bytes,
                "total_bytes": one.total_bytes,
                "layers_kept": one.layers_kept,
                "layers": [_json_of(item) for item in one.of("layer")],
                "packages": [_json_of(item) for item in one.of("package")],
                "models": [_json_of(item) for item in one.of("model")],
                "settings": [_json_of(item) for item in one.of("setting")],
                "files": [_json_of(item) for item in one.of("file")],
            }
            for one in compared
        ],
    }


def _json_of(one: Difference) -> dict[str, object]:
    values = [None if text is None else redacted(text) for text in (one.before, one.after)]
    shown: dict[str, object] = {"change": one.change, "name": one.name, "first": values[0], "second": values[1]}
    if one.what in ("layer", "file"):
        shown |= {"size_first": one.size_before, "size_second": one.size_after}
    if one.what in ("model", "file"):
        shown["parts"] = list(one.parts)
    return shown
