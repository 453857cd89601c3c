"""torch in an environment: its build for CPUs where that can be had, else what the machine's indexes have.

The build for CPUs has files of its own on every index, so a lock names its version and no hash. It is asked for where
pip's or uv's settings point, then on torch's own index. A network with nothing but a mirror of PyPI has neither: there
the build for graphics cards serves as well, gigabytes larger, or another version that is known to work.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from subprocess import CompletedProcess

from edgepack.host.uv import NO_INDEX, indexes, unreachable_index

_log = logging.getLogger(__name__)
TORCH_INDEX = "https://download.pytorch.org/whl/cpu"
# Where torch's index is not reachable it is not to be waited for: what follows needs it not.
_PATIENCE = {"UV_HTTP_TIMEOUT": "20", "UV_HTTP_RETRIES": "1"}
# From which version on, and below which, it is known to work for us.
KNOWN_TO_WORK = ((2, 9), (2, 14))
Run = Callable[[Sequence[str], Mapping[str, str]], CompletedProcess[bytes]]


@dataclass(frozen=True)
class Attempt:
    """What uv is asked to install; ``warning`` is what the user should know of it."""

    arguments: tuple[str, ...]
    own_index: bool = False
    warning: str = ""


@dataclass(frozen=True)
class Outcome:
    """How the last call of uv ended, and what it means where torch was found nowhere."""

    done: CompletedProcess[bytes]
    nowhere: str


def attempts(version: str) -> list[Attempt]:
    """The ways to torch ``version``, the best first."""
    oldest, too_new = (".".join(map(str, number)) for number in KNOWN_TO_WORK)
    return [
        Attempt(("--no-deps", f"torch=={version}+cpu")),
        Attempt(("--no-deps", "--torch-backend", "cpu", f"torch=={version}"), own_index=True),
        Attempt(
            (f"torch=={version}",), warning="its build for graphics cards may be installed, which is gigabytes larger"
        ),
        Attempt(
            (f"torch>={oldest},<{too_new}",), warning=f"another version than {version} is installed, which was tested"
        ),
    ]


def install_torch(version: str, run: Run, environment: Mapping[str, str], *, offline: bool) -> Outcome:
    """Install torch by ``run``, which runs uv with arguments in an environment of variables."""
    own_index = ""
    for attempt in attempts(version):
        if attempt.own_index and (offline or environment.get(NO_INDEX) == "1"):
            continue
        done = run(attempt.arguments, {**(_PATIENCE if attempt.own_index else {}), **environment})
        if done.returncode == 0:
            if attempt.warning:
                _log.warning("torch %s for CPUs is not to be had%s: %s", version, own_index, attempt.warning)
            break
        unreachable = unreachable_index(done.stderr.decode(errors="replace"))
        if attempt.own_index:
            own_index = f", and {TORCH_INDEX} cannot be read"
        elif unreachable is not None:
            break  # one of the machine's own indexes: nothing else would help
    return Outcome(done, f"no build of torch that works is on {', '.join(indexes(environment))}{own_index}")
