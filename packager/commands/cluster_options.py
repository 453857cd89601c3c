"""What the exports for a cluster share: namespace, login, and how much a replica is given."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, TypeVar, cast

import click

from edgepack.errors import UsageError
from edgepack.host.commands import Number
from packager.exports.kubernetes import Cluster
from packager.exports.workload import Scale, Workload, check_label

_F = TypeVar("_F", bound=Callable[..., Any])


def in_cluster(function: _F) -> _F:
    """Add the options; the command gets its ``Workload`` as they say, and the settings for ``cluster_of``."""

    @functools.wraps(function)
    def command(*, workload: Workload, replicas: int | None, max_replicas: int | None, **rest: Any) -> Any:
        if max_replicas is not None:
            least = replicas or 1
            if max_replicas < least:
                raise UsageError(f"{max_replicas} is below --replicas {least}", where="--max-replicas",
                                 hint="give at least as many")  # fmt: skip
            percent = workload.scale.percent if workload.scale is not None else Scale().percent
            workload = replace(workload, scale=Scale(least, max_replicas, percent))
        elif replicas is not None:
            workload = replace(workload, replicas=replicas, scale=None)
        return function(workload=workload, **rest)

    for option in (
        click.option("--max-replicas", type=Number(1, 10_000, kind=int), metavar="N",
                     help="Scale up to so many by the use of processors."),
        click.option("--replicas", type=Number(1, 10_000, kind=int), metavar="N",
                     help="How many, or how many at least.  [default: as deployed, or 1]"),
        click.option("--pull-secret", metavar="NAME", help="A login to the registry that the namespace has."),
        click.option("--namespace", metavar="NAME", help="[default: that of who applies the files]"),
    ):  # fmt: skip
        command = option(command)
    return cast(_F, command)


def cluster_of(settings: Mapping[str, Any]) -> Cluster:
    """The cluster as the options say; raises ``UsageError`` for a name that it would not take."""
    namespace, pull_secret = settings["namespace"], settings["pull_secret"]
    if namespace is not None:
        check_label(namespace, "--namespace")
    if pull_secret is not None:
        check_label(pull_secret, "--pull-secret")
    return Cluster(namespace, pull_secret)
