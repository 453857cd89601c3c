"""References: the grammar of the distribution project, with Docker's defaults."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgepack.errors import InvalidReferenceError
from edgepack.oci.digest import Digest
from edgepack.oci.reference import Reference, image_tag, is_loopback, is_repository

DIGEST = "sha256:" + "0123456789abcdef" * 4


@pytest.mark.parametrize(
    ("text", "whole"),
    [
        ("python", "docker.io/library/python:latest"),
        ("python:3.11-slim", "docker.io/library/python:3.11-slim"),
        ("ann/churn", "docker.io/ann/churn:latest"),
        ("index.docker.io/ann/churn", "docker.io/ann/churn:latest"),
        ("docker.io/python", "docker.io/library/python:latest"),
        ("localhost/churn", "localhost/churn:latest"),
        ("localhost:5000/churn:1", "localhost:5000/churn:1"),
        ("127.0.0.1:5000/team/churn:1", "127.0.0.1:5000/team/churn:1"),
        ("[::1]:5000/churn:1", "[::1]:5000/churn:1"),
        ("Registry/churn:1", "Registry/churn:1"),
        (f"r.example/a/b@{DIGEST}", f"r.example/a/b@{DIGEST}"),
        (f"r.example/a/b:v1@{DIGEST}", f"r.example/a/b:v1@{DIGEST}"),
        ("r.example/a__b/c--d.e_f:_X", "r.example/a__b/c--d.e_f:_X"),
        ("team/churn/deep", "docker.io/team/churn/deep:latest"),
    ],
)
def test_names_are_completed_as_docker_completes_them(text: str, whole: str) -> None:
    assert str(Reference.parse(text)) == whole
    assert Reference.parse(whole) == Reference.parse(text)


@pytest.mark.parametrize(
    "text",
    [
        "", ":", "@", "/", "a/", "/a", "r.example/", "r.example/:1", "a:", "a@", "a@sha256:12", "a@md5:" + "0" * 32,
        "a:b:c", "a b", "a\n", "ann/Churn", "a/../b", "a//b", "r.example:port/a", "a/.b", "a/b-", "a/___b", "-a/b.c/d ",
        "https://r.example/a", "r.example/a:" + "x" * 129, "r.example/" + "a" * 256, "a:-x", "0123456789abcdef" * 4,
        "r_x.example/a", "bücher/a", f"a@{DIGEST}@{DIGEST}", "user:password@r.example/a",
    ],
)  # fmt: skip
def test_what_is_no_reference_is_refused_in_one_sentence(text: str) -> None:
    with pytest.raises(InvalidReferenceError) as refused:
        Reference.parse(text)
    assert "\n" not in str(refused.value)


def test_the_digest_is_what_a_registry_is_asked_for() -> None:
    both = Reference.parse(f"r.example/a:v1@{DIGEST}")
    assert (both.target, both.tag, both.digest) == (DIGEST, "v1", Digest.parse(DIGEST))
    assert Reference.parse("r.example/a:v1").target == "v1"


def test_docker_hub_answers_at_another_host() -> None:
    assert Reference.parse("python").api_host == "registry-1.docker.io"
    assert Reference.parse("r.example:5000/python").api_host == "r.example:5000"


_LABEL = st.from_regex(r"[a-z0-9]([a-z0-9-]{0,8}[a-z0-9])?", fullmatch=True)
_REGISTRIES = st.builds(
    lambda labels, port: ".".join(labels) + port,
    st.lists(_LABEL, min_size=2, max_size=4),
    st.sampled_from(["", ":1", ":5000", ":65535"]),
)
_REPOSITORIES = st.lists(
    st.from_regex(r"[a-z0-9]{1,5}((\.|_|__|-{1,3})[a-z0-9]{1,5}){0,2}", fullmatch=True), min_size=1, max_size=4
).map("/".join)
_TAGS = st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}", fullmatch=True)
_DIGESTS = st.binary(max_size=4).map(Digest.of)


@given(_REGISTRIES, _REPOSITORIES, st.none() | _TAGS, st.none() | _DIGESTS)
def test_every_reference_survives_being_written_and_read(
    registry: str, repository: str, tag: str | None, digest: Digest | None
) -> None:
    text = f"{registry}/{repository}" + (f":{tag}" if tag else "") + (f"@{digest}" if digest else "")
    found = Reference.parse(text)
    assert (found.registry, found.repository, found.digest) == (registry, repository, digest)
    assert found.tag == (tag if tag or digest else "latest")
    assert Reference.parse(str(found)) == found
    assert is_repository(repository)


@given(st.text(max_size=80) | st.text(alphabet="ab.:/@-_0A[]", max_size=40))
def test_any_text_is_a_reference_or_refused(text: str) -> None:
    try:
        found = Reference.parse(text)
    except InvalidReferenceError:
        return
    assert Reference.parse(str(found)) == found
    assert ".." not in f"{found.repository}/{found.tag}".split("/")


@pytest.mark.parametrize("host", ["127.0.0.1", "127.255.3.4", "localhost", "LOCALHOST", "::1", "[::1]"])
def test_this_machine_is_known_by_its_addresses(host: str) -> None:
    assert is_loopback(host)


@pytest.mark.parametrize("host", ["128.0.0.1", "0.0.0.0", "localhost.example", "127.0.0.1.example", "", "::2", "127.1"])  # noqa: S104
def test_other_machines_are_not_taken_for_this_one(host: str) -> None:
    assert not is_loopback(host)


@pytest.mark.parametrize(
    ("text", "full"),
    [
        ("churn", "churn:latest"),
        ("churn:1", "churn:1"),
        ("team/churn:v1.2", "team/churn:v1.2"),
        ("registry.example.com:5000/team/churn", "registry.example.com:5000/team/churn:latest"),
        ("localhost:5000/churn:x", "localhost:5000/churn:x"),
        ("[::1]:5000/churn", "[::1]:5000/churn:latest"),
        ("a__b.c-d", "a__b.c-d:latest"),
        ("Host.example/churn", "Host.example/churn:latest"),
    ],
)
def test_an_image_tag_gets_its_full_form(text: str, full: str) -> None:
    assert image_tag(text) == full
    assert image_tag(full) == full


@pytest.mark.parametrize(
    "text",
    [
        "", "Churn", "churn:", ":1", "churn:1:2", "churn:.x", "churn@sha256:00", "a//b", "/a", "a/", "a b", "churn\n",
        "churn:" + "x" * 129, "-a", "a..b", "-a/b", "a..b/C", "[::1/b", "-" * 10000, "a" * 10000 + "!",
    ],
)  # fmt: skip
def test_what_is_no_image_tag_is_refused(text: str) -> None:
    with pytest.raises(InvalidReferenceError, match="is not an image tag"):
        image_tag(text)
