"""What an engine answers to a build, put into a sentence."""

from __future__ import annotations

import pytest

from edgepack.errors import EdgepackError
from packager.places import docker_daemon


def test_the_words_of_an_engine_about_a_step_become_one_line() -> None:
    # As Podman 4.3 says it, with the end of its line.
    answers = [
        {"stream": "STEP 2/3: RUN false\n"},
        {"error": 'building at STEP "RUN false": while running runtime:\n exit status 1\n'},
    ]
    with pytest.raises(EdgepackError) as caught:
        docker_daemon._built(answers, lambda line: None, network=False)  # no engine can be made to say just this
    assert str(caught.value).startswith(
        'step RUN false: failed: building at STEP "RUN false": while running runtime: exit status 1;'
    )
