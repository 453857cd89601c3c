"""The ``edgepack`` command as a user meets it: help, answers, errors, exit codes."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner

from edgepack.errors import NotFoundError
from edgepack.host.console import report_errors
from edgepack.signing.envelope import verify
from edgepack.signing.keys import PublicKey
from edgepack.state.desired import PAYLOAD_TYPE, Desired
from packager.commands.main import NOUNS, VERBS, build_cli
from packager.workspaces.workspace import Workspace
from tests.packager.support.bases import AMD64, debian, make_base
from tests.support import forked
from tests.support.running import Done, finish, run

EVERY = [*([noun, verb] for noun, (_, verbs) in NOUNS.items() for verb in verbs), *([verb] for verb in VERBS)]


class Shell:
    """Runs ``edgepack`` in a folder with a workspace of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def argv(self, *words: object) -> list[str]:
        return [str(Path(sys.executable).with_name("edgepack")), *map(str, words)]

    def environment(self, **env: str) -> dict[str, str]:
        clean = {key: value for key, value in os.environ.items() if not key.startswith("EDGEPACK_")}
        own = {"EDGEPACK_WORKSPACE": str(self.folder / "ws"), "EDGEPACK_CACHE": str(self.folder / "cache")}
        return {**clean, **own, **env}

    def run(self, *words: object, code: int = 0, **env: str) -> Done:
        """Run it in a fork."""
        done = forked.finish("edgepack", *words, cwd=self.folder, env=self.environment(**env))
        assert done.code == code, f"{words}: {done.code}\n{done.stdout}\n{done.stderr}"
        return done

    def json(self, *words: object, **env: str) -> Any:
        return json.loads(self.run(*words, "--output", "json", code=0, **env).stdout)

    def refused(self, *words: object, code: int, **env: str) -> str:
        """The one sentence on stderr with which a command refuses; stdout stays empty."""
        done = self.run(*words, code=code, **env)
        assert done.stdout == ""
        (line,) = done.stderr.splitlines()
        assert line.startswith("edgepack: ")
        return line.removeprefix("edgepack: ")


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    (tmp_path / "model.bin").write_text("weights")
    return Shell(tmp_path)


@pytest.fixture
def image(shell: Shell) -> str:
    """An image of the workspace, by its tag."""
    workspace = Workspace(shell.folder / "ws", shell.folder / "cache")
    workspace.store.tag("tiny:1", make_base(workspace.store, [debian()]))
    return "tiny:1"


# ---- Outputs ------------------------------------------------------------------------------------------------------

OUTPUTS = {
    "bundle": ["bundle", "create", "tiny:1", "--key", "mine", "-o", "{}"],
    "docker-archive": ["package", "push", "tiny:1", "docker-archive:{}"],
    "oci-archive": ["package", "push", "tiny:1", "oci-archive:{}:other:2"],
    "key": ["key", "export", "mine", "-o", "{}", "--output", "json"],
}


@pytest.mark.parametrize("words", OUTPUTS.values(), ids=OUTPUTS)
def test_what_is_written_to_standard_output_is_not_mixed_with_the_answer(
    shell: Shell, image: str, words: list[str]
) -> None:
    shell.run("key", "create", "-n", "mine")
    (shell.folder / "link").symlink_to("/proc/self/fd/1")
    plain = subprocess.run(
        shell.argv(*(word.format("file") for word in words)), cwd=shell.folder, env=shell.environment(),
        capture_output=True, check=True, timeout=120,
    )  # fmt: skip
    piped = subprocess.run(
        shell.argv(*(word.format("link") for word in words)), cwd=shell.folder, env=shell.environment(),
        capture_output=True, check=True, timeout=120,
    )  # fmt: skip
    assert piped.stdout == (shell.folder / "file").read_bytes()
    answer = plain.stdout.replace(b"file", b"link")
    assert answer.split()
    assert answer.split() == piped.stderr.split()[: len(answer.split())]
    assert (shell.folder / "link").is_symlink()


def test_a_dash_is_a_standard_stream_and_never_a_file(shell: Shell, image: str) -> None:
    """What every command writes by ``-o -`` every other reads by ``-``, on the workstation and on the device."""
    shell.run("key", "create", "-n", "mine")
    (shell.folder / "wanted.json").write_text('{"schema": "edgepack.desired/v1", "services": []}')
    edgepack, agent = (str(Path(sys.executable).with_name(name)) for name in ("edgepack", "edge-agent"))
    agent += " --state-dir device --runtime process"
    for line in (
        f"{edgepack} key export mine -o - | {agent} trust -",
        f"{edgepack} bundle create tiny:1 --key mine -o - | {agent} import -",
        f"{agent} receipt -o - | {edgepack} bundle create tiny:1 --key mine --since - -o small.bundle",
        f"{agent} receipt | {edgepack} bundle create tiny:1 --key mine --since /dev/stdin -o again.bundle",
        f"{edgepack} desired sign - --key mine --serial 1 -o - < wanted.json | {agent} apply -",
        f"{edgepack} package push tiny:1 oci-archive:-:other:2 | {edgepack} package load -",
        f"{edgepack} package push tiny:1 docker-archive:- | {edgepack} package inspect docker-archive:-",
    ):
        done = subprocess.run(
            ["bash", "-o", "pipefail", "-c", line], cwd=shell.folder, env=shell.environment(), capture_output=True,
            text=True, check=False, timeout=120,
        )  # fmt: skip
        assert done.returncode == 0, f"{line}: {done.stderr}"
    assert (shell.folder / "small.bundle").stat().st_size < 20_000
    assert "other:2" in shell.run("package", "list").stdout
    assert not [path for path in shell.folder.iterdir() if path.name.startswith(("-", "other"))]


# ---- Help ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("words", [["--help"], ["model", "--help"], ["--version"]], ids=" ".join)
def test_help_loads_nothing_heavy(words: list[str]) -> None:
    program = (
        "import sys\n"
        "from packager.commands.main import main\n"
        f"sys.argv[1:] = {words!r}\n"
        "try:\n    main()\nexcept SystemExit as end:\n    assert not end.code\n"
        "heavy = 'sqlite3 psycopg docker rich numpy onnx onnxruntime urllib3 cryptography packaging pip converters'\n"
        "print([name for name in heavy.split() if name in sys.modules], file=sys.stderr)\n"
    )
    done = finish(sys.executable, "-c", program)
    assert done.code == 0
    assert done.stdout
    assert done.stderr == "[]\n"


@pytest.mark.parametrize("words", EVERY, ids=" ".join)
def test_every_verb_explains_itself(words: list[str]) -> None:
    done = CliRunner().invoke(build_cli(), [*words, "--help"])
    assert done.exit_code == 0
    noun, verb = (words[0], words[-1]) if len(words) == 2 else ("", words[0])
    line = NOUNS[noun][1][verb] if noun else VERBS[verb]
    command: Any = build_cli()
    for word in words:
        command = command.get_command(click.Context(command), word)
    assert command.short_help == line, "the line in the list of verbs and the verb's own must agree"
    assert "--debug" in done.stdout


def test_every_verb_but_those_of_a_program_has_the_common_options() -> None:
    for words in EVERY:
        if words not in (["demo"], ["azureml"]):
            text = CliRunner().invoke(build_cli(), [*words, "--help"]).stdout
            assert "--workspace" in text
            assert "[table|json]" in text


# ---- Answers ------------------------------------------------------------------------------------------------------


def test_answers_are_json_on_stdout_for_every_verb(shell: Shell, image: str) -> None:
    assert shell.json("model", "list") == []
    model = shell.json("model", "register", "-n", "churn", "-p", "model.bin", "--tag", "team=blue")
    assert (model["id"], model["size"], model["tags"]) == ("churn:1", 7, {"team": "blue"})
    assert shell.json("model", "list") == [model]
    key = shell.json("key", "create", "-n", "mine")
    assert shell.json("key", "list") == [{"name": "mine", "key_id": key["key_id"]}]
    exported = shell.json("key", "export", "mine")
    assert exported["pem"].startswith("-----BEGIN PUBLIC KEY-----")
    assert shell.json("key", "export", "mine", "-o", "mine.pub")["path"] == "mine.pub"
    assert (shell.folder / "mine.pub").read_text() == exported["pem"] == shell.run("key", "export", "mine").stdout

    (listed,) = shell.json("package", "list")
    assert (listed["tag"], listed["platform"], listed["signed"]) == (image, "linux/amd64", False)
    assert shell.json("package", "inspect", image)["digest"] == listed["digest"]
    pushed = shell.json("package", "push", image, "oci:out")
    assert pushed["moved_bytes"] == listed["size"]
    assert shell.json("package", "load", "oci:out", "-t", "again:1")["digest"] == listed["digest"]
    bundle = shell.json("bundle", "create", image, "-o", "b.bundle", "--key", "mine")
    assert bundle["images"] == [{"tag": image, "digest": listed["digest"]}]
    assert {row["platform"] for row in shell.json("base", "list")} == {"linux/amd64", "linux/arm64"}


def test_notes_and_progress_go_to_stderr(shell: Shell) -> None:
    shell.run("key", "create", "-n", "mine")
    done = shell.run("model", "list")
    assert done.stdout == ""
    assert done.stderr == "no models yet; register one with: edgepack model register -n NAME -p PATH\n"
    table = shell.run("model", "register", "-n", "churn", "-p", "model.bin", "--framework", "Custom")
    assert table.stderr == ""
    assert table.stdout.splitlines()[0].split() == ["MODEL", "FRAMEWORK", "FILES", "SIZE", "CREATED", "TAGS"]


def test_every_option_is_a_variable_too(shell: Shell) -> None:
    model = shell.json(
        "model", "register", EDGEPACK_MODEL_REGISTER_NAME="churn", EDGEPACK_MODEL_REGISTER_PATH="model.bin",
        EDGEPACK_MODEL_REGISTER_FRAMEWORK="PYTORCH",
    )  # fmt: skip
    assert (model["id"], model["framework"]) == ("churn:1", "PyTorch")
    assert json.loads(shell.run("model", "list", EDGEPACK_OUTPUT="json").stdout) == [model]
    elsewhere = str(shell.folder / "elsewhere")
    shell.run("key", "create", "-n", "mine", EDGEPACK_WORKSPACE=elsewhere)
    assert shell.json("model", "list", EDGEPACK_WORKSPACE=elsewhere) == []
    assert shell.json("model", "list", "--workspace", elsewhere) == []


@pytest.mark.parametrize("words", EVERY, ids=" ".join)
def test_a_variable_bears_the_name_of_its_option(words: list[str]) -> None:
    command: Any = build_cli()
    context = click.Context(command, auto_envvar_prefix="EDGEPACK")
    for word in words:
        command = command.get_command(context, word)
        context = click.Context(command, context, word)
    for option in command.params:
        for name in [name for name in option.opts if name.startswith("--")][:1]:
            wanted = f"{context.auto_envvar_prefix}_{name[2:].replace('-', '_').upper()}"
            assert wanted in (option.envvar, f"{context.auto_envvar_prefix}_{option.name.upper()}"), name


def test_what_a_foreign_image_says_cannot_command_the_terminal(shell: Shell) -> None:
    from dataclasses import replace

    from edgepack.oci import mediatypes

    workspace = Workspace(shell.folder / "ws", shell.folder / "cache")
    root = make_base(workspace.store, [debian()])
    manifest = workspace.store.manifest(root)
    evil = {mediatypes.LAYER_TITLE: "\x1b]0;owned\x07\x1b[2Jname"}
    layers = tuple(layer.with_annotations(evil) for layer in manifest.layers)
    root = workspace.store.put_bytes(replace(manifest, layers=layers).to_bytes(), root.media_type)
    workspace.store.tag("evil:1", root)
    done = shell.run("package", "inspect", "evil:1")
    assert "\x1b" not in done.stdout + done.stderr
    assert "name" in done.stdout


def test_an_image_that_cannot_be_read_does_not_hide_the_others(shell: Shell, image: str) -> None:
    store = Workspace(shell.folder / "ws", shell.folder / "cache").store
    broken = make_base(store, [{"a": b"a"}])
    store.tag("broken:1", broken)
    store.path(store.manifest(broken).config.digest).unlink()
    done = shell.run("package", "list", "--output", "json")
    assert [row["tag"] for row in json.loads(done.stdout)] == [image]
    assert done.stderr.startswith("broken:1 cannot be read: ")


def test_an_image_whose_parts_do_not_agree_is_refused(shell: Shell) -> None:
    from dataclasses import replace

    store = Workspace(shell.folder / "ws", shell.folder / "cache").store
    root = make_base(store, [debian()])
    manifest = store.manifest(root)
    doubled = replace(manifest, layers=manifest.layers * 2)
    store.tag("broken:1", store.put_bytes(doubled.to_bytes(), root.media_type))
    assert "its configuration has 1 diff IDs for 2 layers" in shell.refused("package", "inspect", "broken:1", code=2)


# ---- Errors -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        ("model register -n churn -p absent", 3, "absent: there is no such file or folder; check"),
        ("model register -n ch/urn -p model.bin", 2, "'ch/urn' is not a model name; use letters"),
        ("model register -n churn -p model.bin --framework caffe", 2, "not a known framework; use one of ScikitLearn"),
        ("model register -n churn -p model.bin --tag blue", 2, "'blue' is not KEY=VALUE; write it as --tag team=blue"),
        ("model register -n churn -p model.bin --tag a=1 --tag a=2", 2, "'a' is given twice; give each key once"),
        ("model register -n churn -p model.bin --framework onnx", 2, "not an ONNX model, or is cut short; export"),
        ("model register -n churn", 2, "what to register is not said; give -p PATH, or --mlflow URI"),
        ("model convert -m churn", 3, "model churn not found; register one with: edgepack model register"),
        ("model convert -m churn:0", 2, "'0' is not a model version; versions are whole numbers from 1"),
        ("model convert -m churn:" + "9" * 5000, 2, "is not a model version; versions are whole numbers from 1"),
        ("package build -m churn -t Churn:1", 2, "'Churn:1' is not an image tag; write it as name:tag"),
        ("package build -m churn -t c:1 --platform linux", 2, "'linux' is not a platform; write it as linux/amd64"),
        ("package build -m churn -t c:1 --platform linux/amd64,", 2, "'' is not a platform; write it as"),
        ("package build -m churn -t c:1 --keep all", 2, "no rule is named all; the rules are onnxruntime-"),
        ("package build -t c:1", 2, "an image needs a model or an entry script; give -m or --entry-script"),
        (
            "package build -t c:1 --entry-script s.py --source-directory no",
            3,
            "no: there is no such folder; check --so",
        ),
        ("package build -m a -t c:1 --platform linux/amd64,linux/amd64", 2, "a platform is listed twice"),
        ("package inspect nope", 3, "image 'nope' not found; see: edgepack package list"),
        ("package inspect oci:absent", 3, "not an OCI image layout; give a folder that has oci-layout in it"),
        ("package pull oci:absent", 2, "is not in a registry; load it with: edgepack package load oci:absent"),
        (
            "package pull r.example/x@sha256:" + "0" * 64,
            2,
            "names a digest and no tag; give a tag with --tag",
        ),
        ("package push absent oci:out", 3, "image 'absent:latest' not found; see: edgepack package list"),
        ("package load absent", 3, "there is no such file or folder; give an archive or an OCI layout"),
        ("package load model.bin", 4, "model.bin: not a valid archive"),
        ("key export absent", 3, "there is no key 'absent'"),
        ("bundle create absent -o b", 3, "image 'absent:latest' not found; see: edgepack package list"),
        ("bundle create absent -o b --since absent", 3, "there is no such receipt; write one with"),
        ("base build absent", 3, "no base recipe is named 'absent'; choose from debian12-python3.11"),
        ("base build --platform linux/s390x", 2, "cannot be built for linux/s390x; choose from linux/amd64"),
        ("model lists", 2, "no such command 'lists'"),
        ("model list --workspace model.bin", 2, "'model.bin' is a file"),
    ],
)
def test_a_mistake_gets_one_sentence_with_a_way_out(shell: Shell, words: str, code: int, says: str) -> None:
    Workspace(shell.folder / "ws", shell.folder / "cache").store.put_bytes(b"a workspace that was used before", "x")
    assert says in shell.refused(*words.split(), code=code)


def test_a_workspace_that_cannot_be_written_is_named(shell: Shell) -> None:
    (shell.folder / "file").write_text("x")
    assert "file" in shell.refused("model", "list", "--workspace", "file/below", code=2)
    assert "file" in shell.refused("model", "list", code=2, EDGEPACK_CACHE=str(shell.folder / "file"))


def test_the_demo_takes_no_folder_with_something_in_it(shell: Shell) -> None:
    says = shell.refused("demo", "--folder", ".", code=2)
    assert says.endswith("is not empty; give --folder a new one")


@click.command()
@click.option("--debug", is_flag=True, expose_value=False)
@click.argument("what")
def _fails(what: str) -> None:
    raise {"bug": ValueError("it's a bug"), "known": NotFoundError("gone", where="x", hint="look"),
           "stop": KeyboardInterrupt(), "disk": OSError(28, "No space left on device", "/tmp/x")}[what]  # fmt: skip


@pytest.mark.parametrize(
    ("what", "code", "says"),
    [
        ("bug", 1, "unexpected ValueError: it's a bug; run it again with --debug and report what it shows"),
        ("known", 3, "x: gone; look"),
        ("stop", 130, "stopped"),
    ],
)
def test_an_error_is_one_sentence_and_a_traceback_only_when_asked_for(
    what: str, code: int, says: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("EDGEPACK_DEBUG", raising=False)
    for words, traced in (([what], False), (["--debug", what], what != "stop")):
        monkeypatch.setattr(sys, "argv", ["edgepack", *words])
        assert report_errors(_fails, "edgepack", "EDGEPACK") == code
        shown = capsys.readouterr()
        assert shown.out == ""
        assert shown.err.rstrip().endswith(f"edgepack: {says}")
        assert ("Traceback" in shown.err) is traced
        assert traced or len(shown.err.strip().splitlines()) == 1


def test_a_full_disk_is_told_wherever_it_shows(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["edgepack", "disk"])
    assert report_errors(_fails, "edgepack", "EDGEPACK") == 1
    assert "no space left on the disk" in capsys.readouterr().err.lower()


def test_control_c_ends_with_130_and_no_traceback(shell: Shell) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        process = subprocess.Popen(
            shell.argv("package", "pull", f"127.0.0.1:{silent.getsockname()[1]}/x:1"), cwd=shell.folder,
            env=shell.environment(NO_PROXY="127.0.0.1"), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        silent.settimeout(60)
        connection, _ = silent.accept()
        with connection:
            time.sleep(0.2)
            process.send_signal(signal.SIGINT)
            out, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert out == ""
    assert err.strip().splitlines()[-1] == "edgepack: stopped"
    assert "Traceback" not in err


def test_a_reader_that_goes_away_is_no_error_worth_a_traceback(shell: Shell) -> None:
    process = subprocess.Popen(
        shell.argv("base", "list"), cwd=shell.folder, env=shell.environment(), stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout is not None
    process.stdout.close()
    assert process.stderr is not None
    assert "Traceback" not in process.stderr.read()
    process.stderr.close()
    process.wait(60)


# ---- Offline ------------------------------------------------------------------------------------------------------

# Python loads this module by itself at its start, in pip as in edgepack, and hears of every use of a socket.
_LISTEN = """
import os, sys
def hook(event, args):
    if event in ("socket.connect", "socket.getaddrinfo", "socket.sendto"):
        with open(os.environ["SOCKET_LOG"], "a") as log:
            log.write(f"{event} {args[1:] if event == 'socket.connect' else args}\\n")
sys.addaudithook(hook)
"""


@pytest.mark.real("unshare")
@pytest.mark.skipif(os.geteuid() != 0, reason="a network namespace needs root")
def test_a_build_from_caches_opens_no_socket(shell: Shell) -> None:
    from tests.packager.support.onnx_models import model

    (shell.folder / "m.onnx").write_bytes(model().SerializeToString())
    cache = os.environ.get("EDGEPACK_CACHE") or str(Path.home() / ".cache/edgepack")
    build = ("package", "build", "-m", "m", "-t", "m:1", "--platform", str(AMD64))
    shell.run("model", "register", "-n", "m", "-p", "m.onnx")
    with_network = shell.json(*build, EDGEPACK_CACHE=cache)

    (shell.folder / "hook").mkdir()
    (shell.folder / "hook/sitecustomize.py").write_text(_LISTEN)
    log = shell.folder / "sockets"
    own = {"EDGEPACK_CACHE": cache, "EDGEPACK_WORKSPACE": str(shell.folder / "fresh"), "SOCKET_LOG": str(log),
           "PYTHONPATH": str(shell.folder / "hook")}  # fmt: skip
    shell.run("package", "pull", "127.0.0.1:1/x:1", code=1, **own)
    assert "socket.connect" in log.read_text(), "it must hear of sockets at all"
    log.unlink()
    shell.run("model", "register", "-n", "m", "-p", "m.onnx", code=0, **own)
    words = ("unshare", "-n", *shell.argv(*build, "--offline", "--output", "json"))
    answer = run(*words, cwd=shell.folder, env=shell.environment(**own))
    assert json.loads(answer)["digest"] == with_network["digest"]
    assert not log.exists(), log.read_text()


def test_offline_without_a_cache_says_what_to_do(shell: Shell, free_port: Callable[[], int]) -> None:
    from tests.packager.support.onnx_models import model

    (shell.folder / "m.onnx").write_bytes(model().SerializeToString())
    shell.run("model", "register", "-n", "m", "-p", "m.onnx")
    build = ("package", "build", "-m", "m", "-t", "m:1", "--offline")
    says = shell.refused(*build, "--platform", "linux/amd64", code=1)
    assert "is not built yet; build it while there is a network: edgepack base build debian12-python3.11" in says
    assert "would need the network" in shell.refused(*build, "--base", f"127.0.0.1:{free_port()}/base:1", code=1)


def test_a_desired_state_is_signed_for_devices(shell: Shell, tmp_path: Path) -> None:
    service = {"name": "churn", "image": f"sha256:{'a' * 64}", "port": 6789}
    document = shell.folder / "desired.json"
    document.write_text(json.dumps({"schema": "edgepack.desired/v1", "services": [service]}))
    shell.run("key", "create", "-n", "mine")
    done = shell.run("desired", "sign", "desired.json", "--key", "mine", "--serial", "7", "-o", "signed.json")
    assert "serial" not in done.stderr
    key = PublicKey.from_pem(shell.run("key", "export", "mine").stdout.encode())
    opened = verify((shell.folder / "signed.json").read_bytes(), PAYLOAD_TYPE, [key])
    found = Desired.from_bytes(opened.payload)
    assert (found.serial, found.services[0].name) == (7, "churn")

    done = shell.run("desired", "sign", "desired.json", "--key", "mine")
    assert Desired.from_bytes(verify(done.stdout.encode(), PAYLOAD_TYPE, [key]).payload).serial is None
    assert "it has no serial" in done.stderr
    for words, device, group in ((["--device", "press-1"], "press-1", None), (["--group", "line-a"], None, "line-a")):
        done = shell.run("desired", "sign", "desired.json", "--key", "mine", "--serial", "8", *words)
        found = Desired.from_bytes(verify(done.stdout.encode(), PAYLOAD_TYPE, [key]).payload)
        assert (found.serial, found.device, found.group) == (8, device, group)
        assert abs((found.signed_at or 0) - time.time()) < 600
    # Signed for another one, it is no longer for the first.
    (shell.folder / "line.json").write_bytes(found.to_bytes())
    done = shell.run("desired", "sign", "line.json", "--key", "mine", "--device", "press-2")
    again = Desired.from_bytes(verify(done.stdout.encode(), PAYLOAD_TYPE, [key]).payload)
    assert (again.serial, again.device, again.group) == (8, "press-2", None)
    both = shell.refused("desired", "sign", "desired.json", "--key", "mine", "--device", "a", "--group", "b", code=2)
    assert "--device and --group exclude each other; sign the document once for each" in both
    wrong = shell.refused("desired", "sign", "desired.json", "--key", "mine", "--device", "press/1", code=2)
    assert "'press/1' is not a device name; use letters, digits" in wrong
    document.write_text(json.dumps({"schema": "edgepack.desired/v1", "services": [service | {"port": 0}]}))
    assert "services[0].port" in shell.refused("desired", "sign", "desired.json", "--key", "mine", code=2)
    assert "no such file" in shell.refused("desired", "sign", "no.json", "--key", "mine", code=3)
