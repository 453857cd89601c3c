"""``kubectl``, as the target of Kubernetes calls it: with one kubeconfig, context and namespace."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgepack.errors import MissingPartError, RuntimeFailedError, UsageError

PROGRAM = "kubectl"
_SECONDS = 60


@dataclass(frozen=True)
class Kubectl:
    """``kubeconfig`` and ``context`` ``None`` are kubectl's own choice, ``namespace`` that of the context."""

    context: str | None = None
    namespace: str | None = None
    kubeconfig: Path | None = None

    def line(self, *words: str) -> list[str]:
        """The command line; raises ``MissingPartError``."""
        if shutil.which(PROGRAM) is None:
            raise MissingPartError(
                f"the program {PROGRAM} is not installed", where="service on Kubernetes",
                hint="install it (Debian: kubernetes-client), or write files: edgepack export kubernetes",
            )  # fmt: skip
        given = (("kubeconfig", self.kubeconfig), ("context", self.context), ("namespace", self.namespace))
        return [PROGRAM, *(f"--{name}={value}" for name, value in given if value is not None), *words]

    def run(self, *words: str, data: str | None = None) -> str:
        """What it prints; raises ``RuntimeFailedError`` with what it says of a failure."""
        done = self._done(words, data)
        if done.returncode != 0:
            raise RuntimeFailedError(
                f"{PROGRAM} {words[0]} failed: {_last(done.stderr)}", where=self.where, hint="check the kubeconfig"
            )
        return done.stdout

    def succeeds(self, *words: str) -> bool:
        """Whether it ends with exit code 0."""
        return self._done(words, None).returncode == 0

    def objects(self, *words: str) -> list[dict[str, Any]]:
        """The objects that ``get`` finds."""
        text = self.run("get", *words, "--ignore-not-found", "--output=json")
        if not text.strip():
            return []
        value = json.loads(text)
        found: list[dict[str, Any]] = value["items"] if value["kind"].endswith("List") else [value]
        return found

    def lines(self, *words: str) -> Iterator[str]:
        """What it prints, as it comes; it is ended when nobody reads on."""
        command = self.line(*words)
        with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True) as process:
            try:
                for line in process.stdout or ():
                    yield line.rstrip("\n")
            finally:
                process.terminate()

    def check_cluster(self) -> None:
        """Raise where the context does not exist, the cluster does not answer, or it allows nothing."""
        self.check_context()
        self.run("get", "--raw=/version")
        for verb, kind in (("patch", "deployments.apps"), ("get", "pods")):
            if not self.succeeds("auth", "can-i", verb, kind, "--quiet"):
                raise RuntimeFailedError(
                    f"the kubeconfig has no right to {verb} {kind}", where=self.where,
                    hint="ask the cluster's administrator for a role such as edit in that namespace",
                )  # fmt: skip

    def check_context(self) -> None:
        """Raise ``UsageError`` for a context that the kubeconfig lacks; no cluster is asked."""
        if self.context is not None and not self.succeeds("config", "get-contexts", self.context):
            names = self.run("config", "get-contexts", "--output=name").split()
            there = f"there are {', '.join(names)}" if names else "the kubeconfig has none"
            raise UsageError(
                f"{self.context!r} is not a context of the kubeconfig", where=str(self.kubeconfig or "service"),
                hint=there,
            )  # fmt: skip

    @property
    def where(self) -> str:
        """The cluster and namespace, for an error."""
        return f"context {self.context or 'of the kubeconfig'}, namespace {self.namespace or 'of the context'}"

    def _done(self, words: Sequence[str], data: str | None) -> subprocess.CompletedProcess[str]:
        command = self.line(f"--request-timeout={_SECONDS}s", *words)
        try:
            return subprocess.run(
                command, input=data, stdin=subprocess.DEVNULL if data is None else None, capture_output=True,
                text=True, check=False, timeout=2 * _SECONDS,
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            raise RuntimeFailedError(
                f"the cluster did not answer {PROGRAM} {words[0]} within {2 * _SECONDS} s", where=self.where,
                hint="check the kubeconfig and the network",
            ) from None  # fmt: skip


def _last(text: str) -> str:
    return next((line for line in reversed(text.splitlines()) if line.strip()), "it says nothing")
