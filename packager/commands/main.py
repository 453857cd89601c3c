"""The nouns and verbs of ``edgepack``; a verb's module is imported only when it is called."""

from __future__ import annotations

import gc
import sys

import click

from edgepack import __version__
from edgepack.host.commands import LazyGroup
from edgepack.host.console import report_errors
from packager.commands.options import workspace_option

# Noun -> what it is, and verb -> the line that help shows for it. The module of a verb is noun_verb.
NOUNS: dict[str, tuple[str, dict[str, str]]] = {
    "workspace": (
        "Where models and images are kept, alone or in a team.",
        {
            "init": "Make a workspace, for one person or for a team.",
            "show": "Show where a workspace is and what it holds.",
            "migrate": "Move a workspace to a team's database and registry, or back.",
            "gc": "Give back disk that nothing needs.",
        },
    ),
    "model": (
        "Register models and convert them to ONNX.",
        {
            "register": "Register a model file or folder under a name.",
            "convert": "Convert a model to ONNX and prove it equal.",
            "list": "List registered models.",
            "show": "Show all that is known of a model.",
            "update": "Change the tags and the description of a model.",
            "download": "Write the files of a model again.",
            "delete": "Remove a model from the registry.",
        },
    ),
    "environment": (
        "What entry scripts need: packages, Python, variables.",
        {
            "create": "Register an environment, of a file or of packages.",
            "list": "List environments.",
            "show": "Show an environment, or write its file again.",
            "delete": "Remove one version of an environment.",
        },
    ),
    "package": (
        "Build, move and inspect images.",
        {
            "build": "Build an image that serves models.",
            "save": "Write a Dockerfile, to be built by Docker or Podman.",
            "push": "Push an image to a registry, a file, a folder or an engine.",
            "pull": "Pull an image from a registry.",
            "load": "Load images from an archive or an OCI layout.",
            "inspect": "Show an image's platforms, layers and signatures.",
            "diff": "Compare two images.",
            "verify": "Check an image's blobs, attachments and signatures; build it again and compare.",
            "list": "List the images of the workspace.",
            "credentials": "Show how to log in to a registry, for docker login or DOCKER_CONFIG.",
            "delete": "Remove images from the workspace.",
        },
    ),
    "service": (
        "Run models as services, here or elsewhere.",
        {
            "deploy": "Run models as a service.",
            "list": "List services and how they are.",
            "show": "Show a service and where it answers.",
            "logs": "Show what a service wrote.",
            "run": "Let a service score.",
            "keys": "Show the keys of a service, or replace one.",
            "token": "Make a token for a service.",
            "update": "Change a service, with nothing built that stays.",
            "reload": "Run a changed entry script at once.",
            "start": "Run a service again as it ran.",
            "delete": "Stop a service and forget it.",
        },
    ),
    "endpoint": (
        "Versions of a service behind one address, each with a share of the requests.",
        {
            "create": "Open an endpoint with its first version.",
            "create-version": "Add a version to an endpoint.",
            "list": "List endpoints and their versions.",
            "show": "Compare the versions of an endpoint: requests, errors, latency.",
            "keys": "Show the keys of an endpoint, or replace one for all versions.",
            "set-traffic": "Share requests out among versions anew.",
            "promote": "Give a version everything, as the default and the control.",
            "update": "Change an endpoint, or one of its versions.",
            "delete-version": "Delete a version that gets no requests.",
            "delete": "Close an endpoint and delete its versions.",
        },
    ),
    "compute": (
        "Clusters of Kubernetes by names.",
        {
            "attach": "Know a cluster by a name.",
            "list": "List the clusters.",
            "show": "Show a cluster and whether it can be used.",
            "detach": "Forget a cluster.",
        },
    ),
    "base": (
        "Base images that need no image registry.",
        {"build": "Build a base image from its recipe.", "list": "List the recipes and the bases built from them."},
    ),
    "key": (
        "Signing keys.",
        {
            "create": "Create a signing key.",
            "list": "List the signing keys.",
            "export": "Write a key's public half.",
        },
    ),
    "desired": ("What devices are to run.", {"sign": "Sign a desired state."}),
    "device": (
        "The devices of a fleet, and what they are to run.",
        {
            "add": "Take in a device by its identity.",
            "list": "List the devices.",
            "show": "Show a device and what was deployed to it.",
            "reach": "Say how a device is told what to run.",
            "deploy": "Sign a desired state for a device or a group, and send it.",
            "command": "Let a device do something once, such as restart a service.",
            "remove": "Forget a device.",
        },
    ),
    "export": (
        "Services as manifests of other systems, and the check of such files.",
        {
            "kubernetes": "Write objects of Kubernetes, or check some.",
            "kserve": "Write an InferenceService of KServe.",
            "podman": "Write a pod for podman kube play.",
            "compose": "Write a Compose file.",
            "iot-edge": "Write a deployment manifest of Azure IoT Edge.",
        },
    ),
    "bundle": (
        "Files that carry images to devices and sites.",
        {
            "create": "Write images and their signatures to a file, or to parts.",
            "inspect": "Show what bundles bring, and which parts are missing.",
            "verify": "Read all of a bundle; every bad part is named.",
            "load": "Push the images of bundles to a site's registry.",
            "serve": "Offer bundles on the network as a registry.",
            "receipt": "Write what a workspace or a registry holds.",
        },
    ),
}
VERBS = {
    "serve": "Serve a model in this terminal, without an image.",
    "azureml": "Run a script written for Azure's SDK, unchanged.",
    "demo": "Do the main job once, on real input, from training to rollback.",
}


def build_cli() -> click.Group:
    """The whole command."""
    cli = LazyGroup(
        "edgepack",
        verbs=VERBS,
        modules="packager.commands.",
        options=[workspace_option.of_group()],
        help="From a trained model file to a verified, signed, small scoring container on an offline device.",
    )
    for noun, (text, verbs) in NOUNS.items():
        cli.add_command(
            LazyGroup(
                noun,
                verbs=verbs,
                modules=f"packager.commands.{noun}_",
                options=[workspace_option.of_group()],
                help=text,
                short_help=text,
            )
        )
    return click.version_option(__version__, message="%(prog)s %(version)s")(cli)


def main() -> None:
    """Entry point of the ``edgepack`` command."""
    code = report_errors(build_cli(), "edgepack", "EDGEPACK", "packager")
    # The interpreter's last search for garbage would take a fifth of a short command's time, and free what ends anyway.
    gc.freeze()
    sys.exit(code)
