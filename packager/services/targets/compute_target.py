"""A cluster of Kubernetes that a workspace knows by a name: a kubeconfig, and the context in it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgepack.errors import UsageError
from packager.exports.workload import check_label
from packager.services.targets.kubectl import Kubectl

# As Azure has it: the name is that of a resource there.
_NAME = re.compile(r"[a-zA-Z](?:[-a-zA-Z0-9]{0,61}[a-zA-Z0-9])?")


@dataclass(frozen=True)
class ComputeTarget:
    """A cluster called ``name``. ``kubeconfig`` and ``context`` are ``None`` for what kubectl itself takes.

    ``namespace`` is where services go that name none, ``pull_secret`` a login to the registry that it has. No
    credential is here: those are in the kubeconfig.
    """

    name: str
    kubeconfig: Path | None = None
    context: str | None = None
    namespace: str | None = None
    pull_secret: str | None = None
    created: str = ""

    def check(self) -> ComputeTarget:
        """Itself; raises ``UsageError`` for a name that it cannot have."""
        where = f"compute target {self.name}"
        if not _NAME.fullmatch(self.name) or len(self.name) < 2:
            raise UsageError(
                f"{self.name!r} is not a name of a compute target", where="compute target",
                hint="use 2 to 63 letters, digits and '-', a letter first",
            )  # fmt: skip
        for value in (self.namespace, self.pull_secret):
            if value is not None:
                check_label(value, where)
        return self

    def kubectl(self, namespace: str | None = None) -> Kubectl:
        """What speaks to it, in ``namespace`` or its own."""
        return Kubectl(self.context, namespace or self.namespace, self.kubeconfig)

    def to_json(self) -> dict[str, Any]:
        """The target as the JSON interface shows it, and as it is kept."""
        return vars(self) | {"kubeconfig": None if self.kubeconfig is None else str(self.kubeconfig)}

    @classmethod
    def of_json(cls, value: Mapping[str, Any]) -> ComputeTarget:
        """The target that was kept."""
        file = value["kubeconfig"]
        return cls(**{**value, "kubeconfig": None if file is None else Path(file)})
