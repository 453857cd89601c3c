"""What tests draw is the same in every run, and whichever tests were run before."""

from __future__ import annotations

import zlib

import numpy as np
import pytest

RANDOM = np.random.default_rng(5)


@pytest.mark.parametrize("which", ["first", "second"])
def test_a_generator_of_the_module_begins_anew_in_each_test(which: str) -> None:
    assert RANDOM.random() == np.random.default_rng(5).random(), which


@pytest.mark.parametrize("which", ["first", "second"])
def test_numpys_own_generator_begins_by_the_name_of_the_test(which: str, request: pytest.FixtureRequest) -> None:
    seed = zlib.crc32(request.node.nodeid.encode())
    assert np.random.random() == np.random.RandomState(seed).random(), which
