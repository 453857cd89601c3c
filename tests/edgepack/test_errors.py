"""Errors say what, where and what to do, and carry the exit codes that the commands promise."""

from __future__ import annotations

import errno
import inspect
import re

import pytest

from edgepack import errors


def test_an_error_joins_place_fault_and_advice_in_one_sentence() -> None:
    error = errors.NotFoundError("there is no such tag", where="store", hint="list what is there")

    assert str(error) == "store: there is no such tag; list what is there"
    assert str(errors.EdgepackError("failed")) == "failed"


def test_a_document_error_names_all_violations() -> None:
    error = errors.InvalidDocumentError("service.json", ["port must be a number", "models must be a list"])

    assert error.violations == ("port must be a number", "models must be a list")
    assert "port must be a number" in str(error)
    assert "models must be a list" in str(error)


def test_the_drawn_tree_is_the_tree_of_classes() -> None:
    drawn = dict(re.findall(r"^(?:    )?[ │├└─]*(\w+Error) +(\d)  ", errors.__doc__ or "", re.MULTILINE))
    classes = {
        name: str(item.exit_code)
        for name, item in inspect.getmembers(errors, inspect.isclass)
        if issubclass(item, errors.EdgepackError)
    }

    assert drawn == classes


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG])
def test_a_full_disk_is_told_as_such(number: int) -> None:
    with pytest.raises(errors.NoSpaceError, match="/data: no space left"), errors.disk_errors("/data"):
        raise OSError(number, "full")


@pytest.mark.parametrize("number", [errno.EROFS, errno.EACCES, errno.ENOTDIR, errno.ENAMETOOLONG])
def test_a_place_that_cannot_be_written_is_wrong_usage(number: int) -> None:
    with pytest.raises(errors.UsageError, match="cannot write here"), errors.disk_errors("/data"):
        raise OSError(number, "no")


def test_other_faults_of_the_disk_are_not_hidden() -> None:
    with pytest.raises(OSError, match="broken"), errors.disk_errors("/data"):
        raise OSError(errno.EIO, "broken")
