"""The documentation is true to the tree: links lead somewhere, paths exist, the picture of the rooms is the rooms."""

from __future__ import annotations

import importlib.util
import re
from collections import Counter
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import click
import pytest

from edge_agent.commands.main import cli as edge_agent
from packager.commands.main import build_cli

ROOT = Path(__file__).resolve().parent.parent
ROOMS = ("converters", "dockerfiles", "edge_agent", "edge_server", "edgepack", "packager")
ADRS = ROOT / "docs" / "adr"
ARCHITECTURE = ROOT / "docs" / "architecture.md"
# Where Markdown is written by hand or generated; nothing else of a checkout (environments, caches) is looked at.
_PLACES = (".", "docs", "examples")
_FENCE = re.compile(r"^( *)(```+).*?^\1\2 *$", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\[[^\]\[]*\]\(([^()\s]+(?:\([^()\s]*\))?)\)")
_HEADING = re.compile(r"^#{1,6} +(.+?) *#*$", re.MULTILINE)
_CODE = re.compile(r"`([^`\n]+)`")
_TOP = (*ROOMS, "benchmarks", "docs", "examples", "requirements", "scripts", "tests")
_PATH = re.compile(rf"(?:{'|'.join(_TOP)})(?:/[\w.*-]+)+/?")


def pages() -> list[Path]:
    """Every Markdown file of the repository."""
    found = set(ROOT.glob("*.md"))
    for place in _PLACES[1:]:
        found |= set((ROOT / place).rglob("*.md"))
    return sorted(found)


def _name(path: Path) -> str:
    return str(path.relative_to(ROOT))


@cache
def text(path: Path) -> str:
    """A page without its blocks of code."""
    return _FENCE.sub("", path.read_text("utf-8"))


@cache
def anchors(path: Path) -> set[str]:
    """What a link may name in a page: its headings as code hosts write them."""
    seen: Counter[str] = Counter()
    found = set()
    for heading in _HEADING.findall(text(path)):
        plain = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading)
        slug = re.sub(r"[^\w\- ]", "", plain.lower()).replace(" ", "-")
        found.add(slug if seen[slug] == 0 else f"{slug}-{seen[slug]}")
        seen[slug] += 1
    return found


def folders(room: str) -> set[str]:
    """The folders of a room that hold a file, bytecode aside, with the folders above them."""
    found = set()
    for path in (ROOT / room).rglob("*"):
        if path.is_file() and "__pycache__" not in path.parts:
            found |= {_name(parent) for parent in path.parents if parent.is_relative_to(ROOT / room)}
    return found - {room}


def section(path: Path, heading: str) -> str:
    """The text below a heading, up to the next one of any level."""
    match = re.search(rf"^#+ {re.escape(heading)}$(.*?)(?=^#|\Z)", path.read_text("utf-8"), re.MULTILINE | re.DOTALL)
    assert match is not None, f"{_name(path)} has no section {heading!r}"
    return match[1]


def picture() -> str:
    """The diagram of the rooms."""
    (diagram,) = re.findall(r"```mermaid\n(.*?)```", section(ARCHITECTURE, "The rooms"), re.DOTALL)
    return str(diagram)


@pytest.mark.parametrize("page", pages(), ids=_name)
def test_every_link_leads_to_a_file_and_a_heading(page: Path) -> None:
    wrong = []
    for link in _LINK.findall(text(page)):
        target, _, anchor = link.partition("#")
        if re.match(r"[a-z]+:", target):
            continue
        path = (page.parent / target).resolve() if target else page
        if not path.exists():
            wrong.append(f"{link}: there is no such file")
        elif anchor and anchor not in anchors(path):
            wrong.append(f"{link}: there is no such heading")
    assert wrong == []


@pytest.mark.parametrize("page", [page for page in pages() if page.name != "CHANGELOG.md"], ids=_name)
def test_every_path_of_the_repository_that_a_page_names_exists(page: Path) -> None:
    named = {code for code in _CODE.findall(text(page)) if _PATH.fullmatch(code)}
    assert sorted(name for name in named if not list(ROOT.glob(name.rstrip("/")))) == []


@pytest.mark.parametrize("page", [ROOT / "CONTRIBUTING.md", ARCHITECTURE], ids=_name)
def test_every_name_is_in_the_file_in_which_a_page_says_it_is(page: Path) -> None:
    pairs = re.findall(r"`(\w+)(?:\(\))?`\s+in\s+`([\w./-]+\.(?:py|toml|json))`", text(page))
    missing = [f"{name} in {file}" for name, file in pairs if not re.search(rf"\b{name}\b", (ROOT / file).read_text())]
    assert missing == []


def test_the_picture_shows_every_room_and_its_folders() -> None:
    shown = {}
    for room, label in re.findall(r'^ +(\w+)\["(.+)"\]$', picture(), re.MULTILINE):
        title, *lines = label.split("<br/>")
        assert title.startswith(f"{room}: ")
        shown[room] = {f"{room}/{name}" for line in lines for name in line.split(", ")}
    assert shown == {room: {name for name in folders(room) if name.count("/") == 1} for room in ROOMS}


def test_the_arrows_of_the_picture_are_the_imports_between_the_rooms() -> None:
    drawn = set(re.findall(r"^ +(\w+) --> (\w+)$", picture(), re.MULTILINE))
    statement = re.compile(rf"^\s*(?:from|import) ({'|'.join(ROOMS)})\b", re.MULTILINE)
    imported = {
        (room, other)
        for room in ROOMS
        for path in (ROOT / room).rglob("*.py")
        for other in statement.findall(path.read_text("utf-8"))
        if other != room
    }
    assert drawn == imported


def test_the_table_of_folders_lists_every_folder_once() -> None:
    listed = re.findall(r"^\| `([^`]+)` \|", section(ARCHITECTURE, "Folders"), re.MULTILINE)
    assert len(listed) == len(set(listed))
    there = {name for room in ROOMS for name in folders(room)}
    assert (sorted(set(listed) - there), sorted(there - set(listed))) == ([], []), "docs/architecture.md, Folders"


def test_what_the_code_cites_of_the_architecture_is_a_section_of_it() -> None:
    headings = set(_HEADING.findall(text(ARCHITECTURE)))
    cited = {
        (_name(path), heading)
        for room in (*ROOMS, "tests", "scripts", "benchmarks")
        for path in (ROOT / room).rglob("*.py")
        for heading in re.findall(r"docs/architecture\.md, \"([^\"]+)\"", path.read_text("utf-8"))
    }
    assert cited
    assert sorted(f"{name}: {heading}" for name, heading in cited if heading not in headings) == []


def decisions() -> list[Path]:
    """The records of decisions, in order."""
    return sorted(ADRS.glob("[0-9]*.md"))


@pytest.mark.parametrize("path", [*decisions(), ADRS / "template.md"], ids=_name)
def test_a_decision_has_the_form_of_the_template(path: Path) -> None:
    content = path.read_text("utf-8")
    title = r"# \w+\. \S.*\n\n"
    parts = r"\*\*Context\.\*\* .+?\n\n\*\*Decision\.\*\* .+?\n\n\*\*Consequences\.\*\* "
    assert re.match(title + parts, content, re.DOTALL)
    assert "\n#" not in content


def test_decisions_are_numbered_and_the_index_lists_them_by_their_titles() -> None:
    index = (ADRS / "README.md").read_text("utf-8")
    expected = []
    for number, path in enumerate(decisions(), start=1):
        assert path.name.startswith(f"{number:04d}-")
        heading = path.read_text("utf-8").splitlines()[0]
        assert heading.startswith(f"# {number}. ")
        expected.append((str(number), heading.partition(". ")[2], path.name))
    assert re.findall(r"^\| (\d+) \| \[(.+?)\]\((\d.+?)\) \|", index, re.MULTILINE) == expected


_COMMANDS = {"edgepack": build_cli(), "edge-agent": edge_agent}
_MODULES = ("converters", "edge_server", "benchmarks")


def commands(page: Path) -> Iterator[list[str]]:
    """The words of each command of ours in a page's code, up to what another program or a comment follows."""
    content = page.read_text("utf-8")
    blocks = [block[0] for block in re.finditer(r"^( *)(```+).*?^\1\2 *$", content, re.MULTILINE | re.DOTALL)]
    lines = [line for block in blocks for line in block.replace("\\\n", " ").splitlines()]
    for line in (*lines, *_CODE.findall(text(page))):
        for found in re.finditer(r"(?:^|\$\(|&& )\s*((?:edgepack|edge-agent|python -m) [^#|>)]*)", line):
            yield found[1].split()


def wrong_command(words: list[str]) -> str | None:
    """What is wrong with a command: a verb or an option that does not exist."""
    command: click.Command = _COMMANDS[words[0]]
    context = click.Context(command, info_name=words[0])
    known = options(command)
    rest = iter(words[1:])
    for word in rest:
        if word.startswith("-") and word != "-":
            name, equals, _ = word.partition("=")
            if name not in known:
                return f"{' '.join(words)}: there is no option {name}"
            if known[name] and not equals:
                next(rest, None)
        elif isinstance(command, click.Group):
            found = command.get_command(context, word)
            if found is None:
                return f"{' '.join(words)}: there is no command {word}"
            command, context = found, click.Context(found, info_name=word, parent=context)
            known |= options(command)
    return None


def options(command: click.Command) -> dict[str, bool]:
    """The options of a command, and whether each takes a value."""
    found = {"--help": False, "--version": False}
    for parameter in command.params:
        takes = not (isinstance(parameter, click.Option) and (parameter.is_flag or parameter.count))
        found |= dict.fromkeys((*parameter.opts, *parameter.secondary_opts), takes)
    return found


@pytest.mark.parametrize("page", [page for page in pages() if page.name != "cli.md"], ids=_name)
def test_every_command_that_a_page_shows_exists_with_its_options(page: Path) -> None:
    wrong = []
    for words in commands(page):
        if words[:2] == ["python", "-m"]:
            if words[2].partition(".")[0] in _MODULES and importlib.util.find_spec(words[2]) is None:
                wrong.append(f"there is no module {words[2]}")
        elif problem := wrong_command(words):
            wrong.append(problem)
    assert wrong == []


def test_every_target_of_make_that_a_page_names_exists() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE))
    named = {
        (_name(page), target)
        for page in pages()
        for target in re.findall(r"(?:`|^ *)make ([a-z-]+)(?:`| *#| *$)", page.read_text("utf-8"), re.MULTILINE)
    }
    assert named
    assert sorted(f"{page}: make {target}" for page, target in named if target not in targets) == []


def test_the_readme_leads_to_every_page() -> None:
    readme = (ROOT / "README.md").read_text("utf-8")
    documents = [
        path for path in pages() if path.parent in (ROOT, ROOT / "docs", ROOT / "docs/how-to", ROOT / "docs/reference")
    ]
    missing = [_name(path) for path in documents if path.name != "README.md" and f"({_name(path)})" not in readme]
    assert missing == []
