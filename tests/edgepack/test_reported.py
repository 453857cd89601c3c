"""Reported states: written and read again, by later readers and of later writers; the answers' numbers; times."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgepack.errors import (
    EdgepackError,
    IncompatibleError,
    InvalidDocumentError,
    NoSpaceError,
    NotFoundError,
    RegistryUnavailableError,
    RuntimeFailedError,
    SignatureError,
    UsageError,
)
from edgepack.oci.digest import Digest
from edgepack.state.reported import (
    Answer,
    ReportedDevice,
    ReportedDocument,
    ReportedProblem,
    ReportedService,
    ServiceState,
    Stage,
)
from edgepack.state.times import format_time, parse_time

_words = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=8)
_digests = st.none() | st.binary(max_size=2).map(Digest.of)
_numbers = st.none() | st.integers(0, 1 << 62)
services = st.builds(
    ReportedService,
    name=_words,
    state=st.sampled_from(ServiceState),
    digest=_digests,
    last_good=_digests,
    port=st.integers(0, 65535),
    runtime=_words,
    reason=st.none() | _words,
    tag=st.none() | _words,
    last_good_tag=st.none() | _words,
    models=st.lists(_words, max_size=2).map(tuple),
    url=st.none() | _words,
    stage=st.none() | st.sampled_from(Stage),
    percent=st.none() | st.integers(0, 100),
    restarts=st.integers(0, 1 << 40),
    exit_code=st.none() | st.integers(0, 255),
    origin=st.none() | _words,
    serial=_numbers,
    status=st.sampled_from(Answer),
)
documents = st.builds(
    ReportedDocument, _words, _numbers, _digests, st.sampled_from(Answer), st.none() | _words, _numbers, _digests
)
devices = st.builds(
    ReportedDevice, _words, _words, st.integers(0, 1 << 40), st.integers(0, 4_000_000_000), _numbers,
    st.lists(documents, max_size=2).map(tuple), st.lists(services, max_size=2).map(tuple),
    st.lists(st.builds(ReportedProblem, _words, st.sampled_from(Answer), _words), max_size=2).map(tuple),
)  # fmt: skip


@given(devices)
def test_what_is_written_is_read_again(device: ReportedDevice) -> None:
    assert ReportedDevice.from_bytes(device.to_bytes()) == device


@given(devices)
def test_what_later_versions_add_is_passed_over(device: ReportedDevice) -> None:
    value = json.loads(device.to_bytes()) | {"more": 1}
    value["services"] = [one | {"more": {"a": []}} for one in value["services"]]
    value["documents"] = [one | {"more": None} for one in value["documents"]]

    assert ReportedDevice.from_bytes(json.dumps(value).encode()) == device


def test_everything_wrong_in_one_is_told_at_once() -> None:
    value = {
        "schema": "edgepack.reported/v2", "agent": 1, "session": "1", "time": "yesterday", "free_bytes": True,
        "documents": [{"scope": 1, "status": 201}],
        "services": [{"name": "churn", "state": "Well", "stage": "Gone", "digest": "churn:1", "status": None}],
    }  # fmt: skip
    with pytest.raises(InvalidDocumentError) as caught:
        ReportedDevice.from_bytes(json.dumps(value).encode())
    assert caught.value.violations == (
        "schema must be edgepack.reported/v1, is edgepack.reported/v2", "device is missing", "agent must be text",
        "session must be a whole number", "time: 'yesterday' is not a time such as 2026-11-30T15:35:10Z",
        "free_bytes must be a whole number", "documents[0].scope must be text",
        "documents[0].status must be one of 200, 400, 409, 412, 417, 500",
        "services[0].state: 'Well' is not one of Transitioning, Healthy, Unhealthy, Unschedulable, Failed, Stopped, "
        "Removed",
        "services[0].digest: 'churn:1' is not a digest",
        "services[0].stage: 'Gone' is not one of Wanted, Downloading, Staged, Waiting, Switching, Probation, "
        "Returning, Done, Failed",
        "services[0].status is missing",
    )  # fmt: skip


def test_the_number_of_a_device_is_the_first_that_is_not_good() -> None:
    good = ReportedService("churn", ServiceState.HEALTHY, None, None, 1, "crun")
    bad = ReportedService("other", ServiceState.FAILED, None, None, 1, "crun", status=Answer.FAILED)
    document = ReportedDocument("device", 1, None, Answer.OK)
    refused = ReportedDocument("group site", None, None, Answer.PRECONDITION_FAILED)

    def status(documents: tuple[ReportedDocument, ...], services: tuple[ReportedService, ...]) -> int:
        return ReportedDevice("d", "1", 1, 0, None, documents, services).status

    assert status((), ()) == 417
    assert status((document,), ()) == status((document,), (good,)) == status((), (good,)) == 200
    assert status((document,), (good, bad)) == 500
    assert status((document, refused), (good, bad)) == 412
    problem = ReportedProblem("/media/stick/a.bundle", Answer.INVALID, "it is cut off")
    assert ReportedDevice("d", "1", 1, 0, None, (document,), (good,), (problem,)).status == 400


@pytest.mark.parametrize(
    ("error", "number"),
    [
        (UsageError("cpus cannot be kept"), 400),
        (SignatureError("is not signed"), 412),
        (IncompatibleError("is for arm64"), 412),
        (NotFoundError("is not on this device"), 412),
        (RuntimeFailedError("it exited with code 1"), 500),
        (NoSpaceError("no space left on the disk"), 500),
        (RegistryUnavailableError("503"), 500),
        (EdgepackError("failed"), 500),
        (OSError(5, "Input/output error"), 500),
    ],
)
def test_an_error_has_its_number(error: Exception, number: int) -> None:
    assert Answer.of(error) == number


@given(st.integers(0, 253_402_300_799))
def test_a_time_is_read_as_it_was_written(seconds: int) -> None:
    assert parse_time(format_time(seconds)) == seconds


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(-1.0, "1970-01-01T00:00:00Z"), (1e18, "9999-12-31T23:59:59Z"), (1796052910.9, "2026-11-30T15:35:10Z")],
)
def test_a_time_of_a_wrong_clock_is_written_too(seconds: float, text: str) -> None:
    assert format_time(seconds) == text


@pytest.mark.parametrize(
    "text",
    [
        "",
        "2026-11-30",
        "2026-11-30T15:35:10",
        "2026-11-30T15:35:10+01:00",
        "2026-02-30T00:00:00Z",
        "٢٠٢٦-11-30T15:35:10Z",
    ],
)
def test_another_time_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="is not a time such as"):
        parse_time(text)
