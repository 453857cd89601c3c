"""``edgepack bundle verify``"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from edgepack.errors import MissingPartsError, VerificationError
from edgepack.host.commands import OUTPUT
from edgepack.host.console import answer, human, note
from edgepack.signing.keys import PublicKey
from packager.commands.bundle_options import reading
from packager.commands.options import common
from packager.workspaces.workspace import Workspace


@click.command("verify")
@click.option("--bring-me", type=OUTPUT, metavar="FILE", help="Where parts are missing or bad, ask for them in FILE.")
@reading
@common
def command(
    paths: tuple[Path, ...],
    trusted: list[PublicKey],
    allow_unsigned: bool,
    bring_me: Path | None,
    workspace: Workspace,
    output: str,
) -> None:
    """Read all of the bundles at PATH and check every byte, signature and rule; every bad part is named.

    Exit code 4 when anything is not what was signed, 3 when parts are missing.
    """
    from edgepack.bundle.media import find_media
    from edgepack.bundle.parts import Wanted, numbers
    from edgepack.bundle.verify import verify_bundle
    from edgepack.host.files import BY_UMASK, atomic_write

    media = find_media(paths, trusted, allow_unsigned=allow_unsigned)
    rows: list[dict[str, Any]] = []
    values: list[dict[str, Any]] = []
    bad: list[str] = []
    missing: list[str] = []
    wanted = b""
    groups: list[tuple[list[Path], Any]] = [([path], None) for path in media.bundles]
    groups += [([path for _, copies in sorted(one.files.items()) for path in copies], one) for one in media.parts]
    for files, parts in groups:
        found = verify_bundle(files, trusted, allow_unsigned=allow_unsigned)
        wrong = [one for one in found.files if one.problem is not None]
        of = "" if parts is None else f" of {parts.part.of}"
        bad += [f"part {one.number}{of} is bad: {one.problem}" if parts else str(one.problem) for one in wrong]
        bad += [found.problem] if found.problem is not None else []
        lacking: list[int] = []
        if parts is not None:
            good = {one.number for one in found.files if one.problem is None}
            every = set(range(1, parts.part.of + 1))
            lacking = sorted(every - set(parts.files))
            if every - good:
                wanted = Wanted.of_parts(parts.contents, parts.part, every - good).to_bytes()
        if lacking:
            missing.append(f"{numbers(lacking)} of {parts.part.of} {'is' if len(lacking) == 1 else 'are'} missing")
        if found.remark is not None:
            note(found.remark)
        values.append(
            {
                "files": [
                    {"path": str(one.path), "number": one.number, "size": one.size, "problem": one.problem}
                    for one in found.files
                ],
                "signed_by": {name: list(keys) for name, keys in found.signed_by.items()},
                "problem": found.problem,
                "missing": lacking,
            }
        )  # fmt: skip
        rows += [
            {"file": one.path.name, "part": one.number or "", "size": human(one.size),
             "state": "good" if one.problem is None else "bad"}
            for one in found.files
        ]  # fmt: skip
    for path, error in media.bad.items():
        bad.append(str(error))
        values.append({"files": [{"path": str(path), "problem": str(error)}], "problem": str(error), "missing": []})
        rows.append({"file": path.name, "part": "", "size": human(path.stat().st_size), "state": "bad"})
    answer(output, values, rows)
    if bring_me is not None and wanted:
        atomic_write(bring_me, wanted, BY_UMASK)
        note(f"what to bring is in {bring_me}: edgepack bundle create --only {bring_me} -o FOLDER/")
    if bad:
        raise VerificationError("; ".join([*bad, *missing]), hint="copy what is bad again")
    if missing:
        raise MissingPartsError("; ".join(missing), wanted=wanted, where=paths[0], hint="bring them too")
