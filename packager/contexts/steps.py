"""Further steps of a Dockerfile, which a user adds to an image: checked before anything is written."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from edgepack.documents import raise_all
from edgepack.nearness import nearest
from edgepack.trees.text_file import read_text

# Dockerfile reference, "Overview". Those that end a stage or decide what an image starts are not for extra steps.
_ALLOWED = frozenset(
    {
        "ADD", "ARG", "COPY", "ENV", "EXPOSE", "HEALTHCHECK", "LABEL", "MAINTAINER", "ONBUILD", "RUN", "SHELL",
        "STOPSIGNAL", "USER", "VOLUME", "WORKDIR",
    }
)  # fmt: skip
_REFUSED = {
    "FROM": "begins another image: give the base by --base",
    "ENTRYPOINT": "would start something else than the scoring server",
    "CMD": "would start something else than the scoring server",
}
_HEREDOC = re.compile(r"<<-?([\"']?)([A-Za-z_]\w*)\1")


def read_steps(path: Path) -> str:
    """The steps in the file ``path``; raises ``NotFoundError``, and ``InvalidDocumentError`` with all violations."""
    return check_steps(read_text(path, "file of Dockerfile steps"), path)


def check_steps(text: str, where: object) -> str:
    """``text`` when it may stand in the middle of a Dockerfile; raises ``InvalidDocumentError`` with all violations."""
    violations = []
    for number, line in _instructions(text):
        word = line.split(None, 1)[0]
        name = word.upper()
        if name in _REFUSED:
            violations.append(f"line {number}: {name} {_REFUSED[name]}")
        elif name not in _ALLOWED:
            near = nearest(name, sorted(_ALLOWED))
            violations.append(
                f"line {number}: {word[:40]!r} is not an instruction" + (f"; did you mean {near}?" if near else "")
            )
        elif len(line.split(None, 1)) == 1:
            violations.append(f"line {number}: {name} has no argument")
    raise_all(where, violations, hint="extra steps are lines of a Dockerfile such as RUN, COPY and ENV")
    return text


def _instructions(text: str) -> Iterator[tuple[int, str]]:
    """Each instruction with its first line's number; comments, lines that go on and here-documents are passed over."""
    goes_on = False
    ends: list[str] = []
    for number, line in enumerate(text.splitlines(), start=1):
        if ends:
            if line.strip() == ends[0]:
                ends.pop(0)
            continue
        stripped = line.strip()
        if stripped.startswith("#") or not stripped:
            continue
        if not goes_on:
            yield number, stripped.removesuffix("\\").strip() or stripped
        goes_on = stripped.endswith("\\")
        if not goes_on:
            ends = [match[2] for match in _HEREDOC.finditer(stripped)]
