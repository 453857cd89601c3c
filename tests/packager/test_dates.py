"""When an image was created: its newest input's own date, the same on any host and after registering again."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest

from edgepack.names import ModelRef
from edgepack.oci.config import EPOCH, ImageConfig
from edgepack.oci.digest import Digest
from edgepack.oci.layer import Layer
from packager.bases.debian import newest_package
from packager.images.build import BuildOptions
from packager.images.plan import WheelGroup
from packager.layers.dates import at_seconds, newest, of_wheel
from packager.wheels.cache import Wheel
from packager.workspaces.workspace import Workspace
from tests.packager.support.bases import AMD64, debian, make_base
from tests.packager.support.workspaces import make_workspace


def wheel(path: Path, *years: int) -> Path:
    with zipfile.ZipFile(path, "w") as file:
        for year in years:
            file.writestr(zipfile.ZipInfo(f"f{year}", (year, 5, 6, 7, 8, 10)), b"x")
    return path


@pytest.mark.parametrize(
    ("dates", "expected"),
    [
        ((), EPOCH),
        (("", "yesterday", "2024-01-01", "2024-01-01T00:00:00"), EPOCH),  # without a zone it is another time elsewhere
        (("2024-01-31T10:20:30Z",), "2024-01-31T10:20:30Z"),
        (("2024-01-31T10:20:30.123456789Z", EPOCH), "2024-01-31T10:20:30Z"),
        (("2024-01-31T23:30:00-05:00", "2024-02-01T00:00:00Z"), "2024-02-01T04:30:00Z"),
        (("0001-01-01T00:00:00Z", "9999-12-31T23:59:59-01:00"), EPOCH),  # what some builders write for no date
    ],
)
def test_the_newest_date_that_can_be_read_counts(dates: tuple[str, ...], expected: str) -> None:
    assert newest(dates) == expected


def test_a_wheel_has_the_date_of_its_newest_file(tmp_path: Path) -> None:
    assert of_wheel(wheel(tmp_path / "a.whl", 2019, 2024, 2021)) == "2024-05-06T07:08:10Z"
    assert of_wheel(wheel(tmp_path / "b.whl", 1980)) == EPOCH  # no date, in builds that leave it out
    assert of_wheel(wheel(tmp_path / "c.whl")) == EPOCH


def test_packages_have_the_date_of_the_newest_one(tmp_path: Path) -> None:
    assert newest_package(tmp_path) == 0
    for name, date in (("a", b"1700000000  "), ("b", b"1600000000  "), ("c", b"            "), ("d", b"")):
        (tmp_path / f"{name}.deb").write_bytes(b"!<arch>\ndebian-binary   " + date)
    assert at_seconds(newest_package(tmp_path)) == "2023-11-14T22:13:20Z"
    assert at_seconds(10**15) == EPOCH


def created(workspace: Workspace, tag: str) -> tuple[Digest, str, list[str]]:
    manifest = workspace.store.manifest(workspace.store.resolve(tag))
    config = ImageConfig.from_bytes(workspace.store.read(manifest.config))
    return workspace.store.resolve(tag).digest, config.created, [line.created for line in config.history]


@pytest.mark.parametrize(
    ("base_date", "wheel_year", "expected"),
    [
        ("2024-01-31T10:20:30.5Z", 2023, "2024-01-31T10:20:30Z"),
        ("2024-01-31T10:20:30Z", 2025, "2025-05-06T07:08:10Z"),
        (EPOCH, 2021, "2021-05-06T07:08:10Z"),
    ],
)
def test_an_image_has_the_date_of_base_or_wheels_on_every_host(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, base_date: str, wheel_year: int, expected: str
) -> None:
    path = wheel(tmp_path / "a.whl", wheel_year)
    group = WheelGroup("wheels", "a 1", (Wheel("a", "1", path.name, Digest.of(path.read_bytes()), path, 1, ()),))
    monkeypatch.setattr("packager.images.build.scoring_wheels", lambda *_, **__: (group,))
    monkeypatch.setattr("packager.images.write.WheelLayers.make", lambda _, groups: dict.fromkeys(groups, layers[-1]))
    layers: list[Layer] = []
    found = []
    for name in ("one", "two"):
        workspace = make_workspace(tmp_path / name)  # registers the model again, at another time
        layers.append(workspace.models.list()[0].layers[0])
        config = ImageConfig(AMD64, created=base_date)
        workspace.store.tag("dated:1", make_base(workspace.store, [debian()], config=config))
        workspace.builder.build([ModelRef.parse("churn")], "churn:1", (AMD64,), BuildOptions("dated:1"))
        found.append(created(workspace, "churn:1"))
        monkeypatch.setenv("SOURCE_DATE_EPOCH", "1234567890")
    assert found[0] == found[1]
    _, date, lines = found[0]
    assert date == expected
    assert lines[0] == base_date  # the base's own line
    assert set(lines[1:]) == {expected}
