"""Locks: reading them, making them with uv, and what is said when that fails."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

import packager
from edgepack.errors import EdgepackError, IncompatibleError, InvalidDocumentError, NotFoundError
from edgepack.host.uv import uv_environment
from edgepack.oci.descriptor import Platform
from packager.wheels.locks import EXTRAS, SHIPPED, Pin, direct_requirements, parse_lock, resolve, shipped_lock
from packager.wheels.tags import Target
from tests.packager.support.wheels import make_wheel, only_folder, sha256

AMD64 = Target(Platform("linux", "amd64"))
ARM64 = Target(Platform("linux", "arm64"))
HASH = "sha256:" + "a" * 64


@pytest.mark.parametrize("platform", SHIPPED, ids=str)
def test_the_shipped_lock_pins_all_that_the_server_imports_and_names_no_host(platform: Platform) -> None:
    text = shipped_lock(platform)
    assert text is not None
    pins = {pin.name: pin for pin in parse_lock(text)}
    wanted = (Path(packager.__file__).parent.parent / "edge_server" / "requirements.in").read_text()
    assert set(re.findall(r"^([a-z0-9]+)", wanted, re.MULTILINE)) <= set(pins)
    assert all(pin.hashes for pin in pins.values())
    assert not re.search(r"://|@|index-url|find-links", text)
    assert text == "".join(pin.line() for pin in pins.values())


def test_there_is_no_shipped_lock_for_other_targets() -> None:
    assert shipped_lock(Platform("linux", "amd64"), "3.9") is None


def test_a_lock_with_comments_and_long_lines_is_read() -> None:
    text = f"# made by hand\nNum_Py==2.4.6 \\\n    --hash={HASH} \\\n    --hash=sha256:{'b' * 64}  # both\n\n"
    assert parse_lock(text) == (Pin("num-py", "2.4.6", ("a" * 64, "b" * 64)),)


def test_every_wrong_line_of_a_lock_is_named() -> None:
    text = f"numpy>=2\nscipy==1\nok==1 --hash={HASH}\nOK==1 --hash={HASH}\nweak==1 --hash=md5:ff\n-e .\n"
    with pytest.raises(InvalidDocumentError) as caught:
        parse_lock(text, "my.lock")
    assert len(caught.value.violations) == 5
    for part in ("numpy>=2", "scipy", "ok is listed twice", "weak", "-e .", "my.lock"):
        assert part in str(caught.value)


def test_requirements_are_resolved_from_the_folder_that_pip_is_set_up_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    links = tmp_path / "links"
    dependency = make_wheel(links, "inner", "2.0", tag="cp311-cp311-manylinux_2_28_aarch64")
    make_wheel(links, "outer", requires=("inner>=1",))
    only_folder(links, monkeypatch)
    pins = parse_lock(resolve(["outer"], ARM64))
    assert [(pin.name, pin.version) for pin in pins] == [("inner", "2.0"), ("outer", "1.0")]
    assert pins[0].hashes == (sha256(dependency),)


def test_a_package_without_a_wheel_for_the_platform_is_named_with_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_wheel(tmp_path / "links", "only_here", tag="cp311-cp311-manylinux_2_28_x86_64")
    only_folder(tmp_path / "links", monkeypatch)
    with pytest.raises(IncompatibleError, match=r"only-here.* has no wheel for linux/arm64"):
        resolve(["only_here"], ARM64)


def test_a_wheel_that_needs_a_newer_glibc_is_not_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_wheel(tmp_path / "links", "modern", tag="cp311-cp311-manylinux_2_34_x86_64")
    only_folder(tmp_path / "links", monkeypatch)
    assert "modern==1.0" in resolve(["modern"], AMD64)
    with pytest.raises(IncompatibleError, match=r"modern.*glibc 2\.31"):
        resolve(["modern"], Target(Platform("linux", "amd64"), glibc="2.31"))


def test_an_unknown_package_is_not_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_wheel(tmp_path / "links", "known")
    only_folder(tmp_path / "links", monkeypatch)
    with pytest.raises(NotFoundError, match="no-such-thing"):
        resolve(["no-such-thing"], AMD64)


def test_without_a_network_the_error_says_how_to_fetch_and_hides_credentials(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    only_folder(tmp_path / "links", monkeypatch)
    monkeypatch.delenv("PIP_NO_INDEX")
    monkeypatch.delenv("PIP_FIND_LINKS")
    monkeypatch.setenv("PIP_INDEX_URL", "http://ann:s3cret@127.0.0.1:9/simple")
    monkeypatch.setenv("UV_HTTP_RETRIES", "0")
    with pytest.raises(EdgepackError, match=r"127\.0\.0\.1:9: no package index is reachable; .*find-links") as caught:
        resolve(["numpy"], AMD64)
    assert "s3cret" not in str(caught.value)
    assert type(caught.value) is EdgepackError


@pytest.mark.parametrize("platform", ["linux/arm/v7", "windows/amd64", "linux/riscv64"])
def test_a_platform_without_wheels_is_refused_at_once(platform: str) -> None:
    with pytest.raises(IncompatibleError, match=f"onnxruntime.*{platform}"):
        Target(Platform.parse(platform))


def test_pip_settings_are_handed_to_uv_unless_uv_has_its_own(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    only_folder(tmp_path / "links", monkeypatch)
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:1/simple")
    monkeypatch.setenv("PIP_EXTRA_INDEX_URL", "http://127.0.0.1:2/a http://127.0.0.1:3/b")
    monkeypatch.setenv("PIP_CONSTRAINT", "/etc/one.txt /etc/two.txt")
    monkeypatch.setenv("PIP_TRUSTED_HOST", "127.0.0.1")
    monkeypatch.setenv("PIP_PROXY", "http://127.0.0.1:5")
    for name in ("ALL_PROXY", "HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    found = uv_environment()
    assert found["UV_CONSTRAINT"] == "/etc/one.txt /etc/two.txt"
    assert found["UV_INSECURE_HOST"] == "127.0.0.1"
    assert found["ALL_PROXY"] == "http://127.0.0.1:5"
    assert found["UV_DEFAULT_INDEX"] == "http://127.0.0.1:1/simple"
    assert found["UV_EXTRA_INDEX_URL"] == "http://127.0.0.1:2/a http://127.0.0.1:3/b"
    assert found["UV_INDEX_STRATEGY"] == "unsafe-best-match"
    assert found["UV_FIND_LINKS"] == str(tmp_path / "links")
    assert found["UV_NO_INDEX"] == "1"
    monkeypatch.setenv("UV_INDEX_URL", "http://127.0.0.1:4/simple")
    monkeypatch.setenv("UV_FIND_LINKS", "/own")
    found = uv_environment()
    assert "UV_DEFAULT_INDEX" not in found
    assert "UV_EXTRA_INDEX_URL" not in found
    assert found["UV_FIND_LINKS"] == "/own"


def test_the_environment_of_pip_wins_over_its_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    only_folder(tmp_path / "links", monkeypatch)
    file = tmp_path / "pip.conf"
    file.write_text("[global]\nfind-links =\n    /one\n    /two\nindex-url = http://127.0.0.1:1/file\n")
    monkeypatch.setenv("PIP_CONFIG_FILE", str(file))
    monkeypatch.delenv("PIP_FIND_LINKS")
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:1/environment")
    found = uv_environment()
    assert found["UV_FIND_LINKS"] == "/one,/two"
    assert found["UV_DEFAULT_INDEX"] == "http://127.0.0.1:1/environment"


@pytest.mark.parametrize("platform", SHIPPED, ids=str)
@pytest.mark.parametrize("extra", EXTRAS)
def test_each_extra_has_a_shipped_lock_of_what_it_asks_for(platform: Platform, extra: str) -> None:
    text = shipped_lock(platform, stack=extra)
    assert text is not None
    pins = parse_lock(text)
    wanted = {re.split(r"[^a-z0-9-]", line)[0] for line in direct_requirements(extra)}
    assert wanted <= {pin.name for pin in pins}
    assert text == "".join(pin.line() for pin in pins)


def test_an_extra_of_an_image_is_one_of_the_package() -> None:
    project = tomllib.loads((Path(packager.__file__).parent.parent / "pyproject.toml").read_text("utf-8"))["project"]
    for extra in EXTRAS:
        assert set(direct_requirements(extra)) <= set(project["optional-dependencies"][extra])
