"""A certificate authority of a test's own, and what it signed, made with openssl."""

from __future__ import annotations

from pathlib import Path

from tests.support.parts import run


class Authority:
    """``file`` holds its certificate; ``signed`` makes others."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self.file = folder / "authority.pem"
        run(
            "openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", 2,
            "-keyout", folder / "authority.key", "-out", self.file, "-subj", "/CN=authority of a test",
        )  # fmt: skip

    def signed(self, name: str, *alternative: str) -> tuple[Path, Path]:
        """A certificate and its key for ``alternative`` names, such as ``IP:127.0.0.1``."""
        certificate, key, request, names = (self._folder / f"{name}.{end}" for end in ("pem", "key", "csr", "names"))
        run(
            "openssl", "req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
            "-keyout", key, "-out", request, "-subj", f"/CN={name}",
        )  # fmt: skip
        names.write_text(f"subjectAltName={','.join(alternative or ['DNS:nobody.invalid'])}\n")
        run(
            "openssl", "x509", "-req", "-in", request, "-CA", self.file, "-CAkey", self._folder / "authority.key",
            "-CAcreateserial", "-days", 2, "-out", certificate, "-extfile", names,
        )  # fmt: skip
        return certificate, key
