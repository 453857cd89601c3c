"""The files of a run, as scripts keep and fetch them."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO

from edgepack.errors import NotFoundError, UsageError
from packager.exceptions import translated
from packager.runs.folder import RunFolder
from packager.sdk.arguments import PathLike


class RunFiles:
    """What a run does with files."""

    _folder: RunFolder

    def get_file_names(self) -> Sequence[str]:
        """The names of its files."""
        return [*self._folder.names()]

    @translated
    def upload_file(self, name: str, path_or_stream: PathLike | BinaryIO, datastore_name: str | None = None) -> None:
        """Keep a file under ``name``."""
        is_path = isinstance(path_or_stream, str | os.PathLike)
        self._folder.keep(name, Path(path_or_stream) if is_path else path_or_stream)  # type: ignore[arg-type]

    @translated
    def upload_folder(self, name: str, path: PathLike, datastore_name: str | None = None) -> None:
        """Keep the files of a folder below ``name``."""
        folder = Path(path)
        if not folder.is_dir():
            raise NotFoundError("there is no such folder", where=folder, hint="check the path")
        for file in sorted(file for file in folder.rglob("*") if file.is_file()):
            self._folder.keep(f"{name.rstrip('/')}/{file.relative_to(folder)}", file)

    @translated
    def download_file(self, name: str, output_file_path: PathLike | None = None) -> None:
        """Write one of its files, here by its own name, or to a path, or into a folder that exists."""
        source = self._folder.file(name)
        target = Path(output_file_path) if output_file_path is not None else Path(source.name)
        target = target / source.name if target.is_dir() else target
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(source.read_bytes())

    @translated
    def download_files(
        self,
        prefix: str | None = None,
        output_directory: PathLike | None = None,
        output_paths: Sequence[PathLike] | None = None,
        batch_size: int = 100,
        append_prefix: bool = True,
    ) -> None:
        """Write its files whose names begin so, by their names below ``output_directory``, or to ``output_paths``."""
        names = [name for name in self._folder.names() if name.startswith(prefix or "")]
        if output_paths is not None and len(output_paths) != len(names):
            raise UsageError(
                f"has {len(names)} such files and {len(output_paths)} paths", where=f"run {self._folder.id}"
            )
        for number, name in enumerate(names):
            shown = name if append_prefix else name.removeprefix(prefix or "").lstrip("/") or Path(name).name
            place = Path(output_directory or ".") / shown if output_paths is None else output_paths[number]
            self.download_file(name, place)
