"""An environment: the software that an entry script needs, as a value. What it becomes in an image is decided there."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace

from edgepack.documents import raise_all
from edgepack.errors import EdgepackError, InvalidReferenceError
from edgepack.names import check_environment_name
from packager.environments.addresses import is_remote, problem_of, scheme_of, shown
from packager.environments.match_spec import channel_problem, check_specifiers, parse_match_spec, python_specifiers
from packager.environments.pip_requirements import PipRequirements
from packager.environments.requirement_lines import Requirement, parse_line

# The Python of the base image that is built where nobody names one (``DEFAULT_RECIPE`` in ``packager.bases.find``).
DEFAULT_PYTHON = "3.11"
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_FROM = re.compile(r"^\s*FROM\s+\S", re.I | re.M)
_STACKS = (None, "latest")
# A base that is on this machine.
_PLACE = re.compile(r"(?:oci:|oci-archive:|docker-archive:|docker-daemon:)")
_HOST = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?(?::[0-9]{1,5})?")


@dataclass(frozen=True)
class Environment:
    """Software by name and version; ``version`` and ``created`` (UTC) are None until it is registered.

    ``python`` has the versions that it may be, as PEP 440 writes them, such as ``==3.11.*``; None leaves it to the
    base. ``conda_packages`` are conda's specs as they were written, Python among them. ``conda_file`` is the text of
    the file that it was read from. There is at most one of ``base_image`` and ``base_dockerfile`` (its text); what logs
    in to the base's registry is never a part of it but for the user name.
    """

    name: str
    version: int | None = None
    python: str | None = None
    conda_channels: tuple[str, ...] = ()
    conda_packages: tuple[str, ...] = ()
    pip: PipRequirements = field(default_factory=PipRequirements)
    variables: Mapping[str, str] = field(default_factory=dict)
    base_image: str | None = None
    base_dockerfile: str | None = None
    base_registry_address: str | None = None
    base_registry_username: str | None = None
    user_managed_dependencies: bool = False
    interpreter_path: str | None = None
    inferencing_stack_version: str | None = None
    conda_file: str | None = None
    created: str | None = None

    @property
    def id(self) -> str:
        """``name:version``, or the name alone of one that is not registered."""
        return self.name if self.version is None else f"{self.name}:{self.version}"

    @property
    def python_version(self) -> str | None:
        """``python`` as a person writes it, such as ``3.11`` or ``>=3.9,<3.12``."""
        if self.python is None:
            return None
        exact = re.fullmatch(r"==([^,*]+?)(?:\.\*)?", self.python)
        return exact[1] if exact else self.python


def python_of(text: str) -> str:
    """What ``3.11``, ``3.11.7`` or ``>=3.9,<3.12`` means as ``Environment.python``; raises ``InvalidReferenceError``.

    ``3.11`` is any 3.11, as it is to conda.
    """
    compact = re.sub(r"\s*([,<>=!~]+)\s*", r"\1", text.strip())
    if re.fullmatch(r"[0-9]+(?:\.[0-9]+)?(?:\.\*)?", compact):
        return check_specifiers(f"=={compact.removesuffix('.*')}.*")
    if re.match(r"[0-9]", compact):
        return check_specifiers(f"=={compact}")
    if not compact:
        raise InvalidReferenceError("the version of Python is empty", hint="write it as 3.11")
    return check_specifiers(compact)


def check_environment(environment: Environment, where: object | None = None) -> Environment:
    """``environment`` when it can be kept; raises ``InvalidDocumentError`` with everything that is wrong."""
    raise_all(where or f"environment {environment.name[:80]}", list(violations_of(environment)))
    return environment


def violations_of(environment: Environment) -> Iterator[str]:
    """What is wrong with ``environment``, by field; no credential is shown."""
    for check in (_of_name, _of_python, _of_conda, _of_pip, _of_variables, _of_base, _of_texts):
        yield from check(environment)
    if environment.inferencing_stack_version not in _STACKS:
        yield f"inferencing_stack_version must be 'latest', is {environment.inferencing_stack_version!r}"
    path = environment.interpreter_path
    if path is not None and (not path or not path.isprintable()):
        yield "interpreter_path must be a path"


def _of_name(environment: Environment) -> Iterator[str]:
    try:
        check_environment_name(environment.name)
    except EdgepackError as error:
        yield str(error)
    if environment.version is not None and not 0 < environment.version < 1 << 63:
        yield f"version must be a whole number from 1, is {environment.version}"


def _of_python(environment: Environment) -> Iterator[str]:
    if environment.python is not None:
        try:
            check_specifiers(environment.python)
        except EdgepackError as error:
            yield f"python: {error}"


def _of_conda(environment: Environment) -> Iterator[str]:
    for channel in environment.conda_channels:
        if (problem := channel_problem(channel)) is not None:
            yield f"conda channel {shown(channel)!r} {problem}"
    seen: dict[str, str] = {}
    for text in environment.conda_packages:
        try:
            spec = parse_match_spec(text)
            if spec.name in seen:
                yield f"conda packages {seen[spec.name]!r} and {text!r} are of the same name; keep one"
            seen[spec.name] = text
            if spec.name == "python" and (asked := python_specifiers(spec)) not in (None, environment.python):
                yield f"conda package {text!r} asks for Python {asked}, and python is {environment.python}"
        except EdgepackError as error:
            yield f"conda package: {error}"


def _of_pip(environment: Environment) -> Iterator[str]:
    pip = environment.pip
    for line in (*pip.requirements, *pip.constraints):
        try:
            if not isinstance(parse_line(line), Requirement) or "\n" in line:
                yield f"pip requirement {shown(line)!r} is not one requirement"
        except EdgepackError as error:
            yield f"pip requirement: {error}"
    for address in (*filter(None, [pip.index_url]), *pip.extra_index_urls, *pip.find_links):
        if is_remote(scheme_of(address)) and (problem := problem_of(address)) is not None:
            yield f"pip index {shown(address)} {problem}"


def _of_variables(environment: Environment) -> Iterator[str]:
    for name, value in environment.variables.items():
        if not _VARIABLE.fullmatch(name):
            yield f"variable {name[:80]!r}: use letters, digits and '_', not starting with a digit"
        if "\0" in value:
            yield f"variable {name}: its value holds a NUL character"


def _of_texts(environment: Environment) -> Iterator[str]:
    """Texts that no document can hold: bytes of a command line or a path that are not UTF-8."""
    pip = environment.pip
    texts = {
        "base_dockerfile": (environment.base_dockerfile,),
        "base_registry_username": (environment.base_registry_username,),
        "interpreter_path": (environment.interpreter_path,),
        "conda_file": (environment.conda_file,),
        "a requirement": (*pip.requirements, *pip.constraints),
        "an index or folder": (pip.index_url, *pip.extra_index_urls, *pip.find_links),
        **{f"variable {name}": (value,) for name, value in environment.variables.items()},
    }
    for field_name, values in texts.items():
        if any(re.search("[\ud800-\udfff]", value or "") for value in values):
            yield f"{field_name} holds text that is not Unicode"


def _of_base(environment: Environment) -> Iterator[str]:
    image, dockerfile = environment.base_image, environment.base_dockerfile
    if image is not None and dockerfile is not None:
        yield "has a base image and a base Dockerfile; keep one"
    if image is not None and (problem := image_problem(image)) is not None:
        yield f"base_image{problem}"
    if dockerfile is not None and not has_from(dockerfile):
        yield "base_dockerfile has no FROM"
    address = environment.base_registry_address
    if address is not None and (problem := registry_problem(address)) is not None:
        yield f"base_registry_address {problem}"
    if address is not None and image is None:
        yield "base_registry_address is given without a base image"
    if image is not None and address is not None and (problem := registry_conflict(image, address)) is not None:
        yield f"base_image {problem}"
    if environment.base_registry_username is not None and address is None:
        yield "base_registry_username is given without base_registry_address"


def has_from(text: str) -> bool:
    """Whether ``text`` can be that of a Dockerfile."""
    return _FROM.search(text) is not None


def registry_problem(address: str) -> str | None:
    """Why ``address`` cannot be that of a registry, as what is said of it; None when it can."""
    if _HOST.fullmatch(address):
        return None
    if "@" in address:
        return "is not a registry's host; no user or password belongs in it"
    return f"{shown(address)!r} is not a registry's host; write it as host or host:port"


def _registry_in(image: str) -> str | None:
    """The registry that ``image`` names itself; None where it leaves that open."""
    from edgepack.oci.reference import Reference

    name = image.removeprefix("docker://")
    head, slash, _ = name.partition("/")
    says = slash and ("." in head or ":" in head or head == "localhost" or head != head.lower())
    return Reference.parse(name).registry if says else None


def registry_conflict(image: str, address: str) -> str | None:
    """How ``image`` and the ``address`` of its registry differ, as what is said of the image; None when they agree."""
    try:
        named = _registry_in(image)
    except EdgepackError:
        return None  # which is said of the image
    if _PLACE.match(image):
        return f"{shown(image)!r} is of this machine, and has no registry; leave its registry out"
    if named in (None, address):
        return None
    return f"is of the registry {named}, and its registry is given as {shown(address)}; keep one of the two"


def base_reference(environment: Environment) -> str | None:
    """The base image of ``environment`` with the registry that it is in; None without one."""
    image, address = environment.base_image, environment.base_registry_address
    if image is None or address is None or _PLACE.match(image) or _registry_in(image) is not None:
        return image
    return f"docker://{address}/{image.removeprefix('docker://')}"


def image_problem(image: str) -> str | None:
    """Why ``image`` cannot name a base, as what follows the name of its field; None when it can."""
    from edgepack.oci.reference import Reference

    if not image or not image.isprintable() or image != image.strip():
        return f" {shown(image)!r} is not an image; write it as registry.example/team/base:1"
    if _PLACE.match(image):
        return None
    name = image.removeprefix("docker://")
    if "@" in name and "@sha256:" not in name:
        return " is not an image; no user or password belongs in it"
    try:
        Reference.parse(name)
    except EdgepackError as error:
        return f": {error}"
    return None


def with_default_python(environment: Environment) -> Environment:
    """``environment`` with the default Python where nothing says which; a base of the user's brings its own."""
    own = environment.base_image or environment.base_dockerfile or environment.user_managed_dependencies
    if environment.python is not None or own:
        return environment
    return replace(environment, python=python_of(DEFAULT_PYTHON))
