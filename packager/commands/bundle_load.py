"""``edgepack bundle load``"""

from __future__ import annotations

from pathlib import Path

import click

from edgepack.errors import UsageError
from edgepack.host.console import answer, human, note
from edgepack.signing.keys import PublicKey
from packager.bars import bars
from packager.commands.bundle_options import opened, reading
from packager.commands.options import common, registries
from packager.registries.access import Access
from packager.workspaces.workspace import Workspace


@click.command("load")
@click.option("--to", required=True, metavar="REGISTRY[/PATH]", help="The site's registry, and what names begin with.")
@click.option(
    "--map", "rules", multiple=True, metavar="FROM=TO",
    help="Another name for the repository FROM, or for those below FROM/; the longest one counts.",
)  # fmt: skip
@reading
@registries
@common
def command(
    paths: tuple[Path, ...],
    trusted: list[PublicKey],
    allow_unsigned: bool,
    to: str,
    rules: tuple[str, ...],
    access: Access,
    workspace: Workspace,
    output: str,
) -> None:
    """Push the images of the bundles at PATH to a registry, with their digests and signatures as they are.

    The image sentiment:3 becomes REGISTRY/PATH/sentiment:3. Only what the registry lacks is sent, straight from the
    bundle; what the bundle left out must be there already.
    """
    from packager.places.mirror import Mapping, mirror

    mapping = Mapping.parse(to, rules)
    rows, values = [], []
    with opened(paths, trusted, allow_unsigned) as bundles, bars() as progress:
        for one in bundles:
            for done in mirror(one, mapping, access, trusted, allow_unsigned=allow_unsigned, progress=progress):
                report = done.report
                values.append(
                    {
                        "image": done.name, "reference": done.reference, "digest": str(done.digest),
                        "moved_bytes": report.moved_bytes, "present_bytes": report.present_bytes,
                    }
                )  # fmt: skip
                rows.append(
                    {"image": done.name, "reference": done.reference, "digest": done.digest.short,
                     "moved": human(report.moved_bytes)}
                )  # fmt: skip
    if not values:
        raise UsageError("brings no image", where=paths[0])
    answer(output, values, rows)
    note(f"loaded {len(values)} image{'s' if len(values) > 1 else ''} to {to}; digests and signatures are kept")
