"""Mounting unpacked layers over each other (kernel documentation, overlayfs.rst). Needs root."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from edgepack.errors import RuntimeFailedError, disk_errors
from edgepack.oci.whiteouts import hides_all

# Folders that the container's own mounts need and an image may lack; below all layers, so that the image's win.
_SKELETON = ("proc", "dev", "sys", "tmp", "etc")
# In its own network a service asks nobody for a name; container engines give their containers such a file too.
_HOSTS = "127.0.0.1 localhost {name}\n::1 localhost ip6-localhost ip6-loopback\n"


def mount_layers(
    bundle: Path, layers: Sequence[Path], service: str, working_dir: str = "", places: Mapping[str, bool] | None = None
) -> None:
    """Mount ``layers``, base first, read-only at ``rootfs`` in the folder ``bundle``; raises ``RuntimeFailedError``.

    The image's ``working_dir`` is there even where none of them has it, as with container engines, and so are the
    ``places`` of further mounts, which are folders or else files.
    """
    places = places or {}
    folders = [name for name, is_folder in places.items() if is_folder]
    folders += [name.rpartition("/")[0] for name in places]
    below = dict.fromkeys(part for name in (working_dir, *folders) for part in _parts(name))
    with disk_errors(bundle):
        for name in ("rootfs", "l", *(f"skeleton/{name}" for name in (*_SKELETON, *below))):
            (bundle / name).mkdir(parents=True, exist_ok=True)
            (bundle / name).chmod(0o755)
        (bundle / "skeleton").chmod(0o755)
        for name, is_folder in places.items():
            if not is_folder:
                (bundle / "skeleton" / name.lstrip("/")).touch(0o644)
        hosts = bundle / "skeleton" / "etc" / "hosts"
        hosts.write_text(_HOSTS.format(name=service), "ascii")
        hosts.chmod(0o644)
        # All lower folders together have to fit into one page, so each has a short name in the folder of the mount;
        # that also keeps colons and commas of their paths out of the options.
        lowers = stacked(bundle / "skeleton", layers)
        for number, folder in enumerate(lowers):
            (bundle / "l" / str(number)).symlink_to(folder)
    names = ":".join(str(number) for number in reversed(range(len(lowers))))
    done = subprocess.run(
        ["mount", "-t", "overlay", "-o", f"ro,nodev,nosuid,lowerdir={names}", "overlay", str(bundle / "rootfs")],
        cwd=bundle / "l",
        capture_output=True,
        check=False,
    )
    if done.returncode != 0:
        raise RuntimeFailedError(f"its layers cannot be mounted ({said(done.stderr)})", where=f"service {service}")


def _parts(folder: str) -> list[str]:
    """The folder of an image and those above it, the uppermost first; none for one that climbs."""
    parts = [part for part in folder.split("/") if part not in ("", ".")]
    return [] if ".." in parts else ["/".join(parts[:count]) for count in range(1, len(parts) + 1)]


def stacked(skeleton: Path, layers: Sequence[Path]) -> list[Path]:
    """The folders to mount, the lowest first: what cannot be seen is left out, for the kernel takes no folder twice.

    Of a layer that an image lists twice, the upper one has all its names and hides what the lower one hides. A layer
    that hides everything below it says so at its root, where the kernel does not look.
    """
    upper: list[Path] = []
    for layer in reversed(layers):
        if layer not in upper:
            upper.append(layer)
        if hides_all(layer):
            break
    return [skeleton, *reversed(upper)]


def unmount_layers(bundle: Path, service: str) -> None:
    """Take the mount at ``rootfs`` in ``bundle`` away; absent is fine. Raises ``RuntimeFailedError``."""
    rootfs = bundle / "rootfs"
    if not rootfs.is_mount():
        return
    done = subprocess.run(["umount", "--lazy", str(rootfs)], capture_output=True, check=False)
    if rootfs.is_mount():
        raise RuntimeFailedError(f"its layers cannot be unmounted ({said(done.stderr)})", where=f"service {service}")


def said(text: bytes) -> str:
    """What ``mount`` or ``umount`` printed; further lines say where to look for more."""
    return text.decode("utf-8", "replace").strip().partition("\n")[0]
