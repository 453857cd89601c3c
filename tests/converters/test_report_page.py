"""The parity report as a page: whole, safe to open, and with plots of what was measured."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from typing import Any

import numpy as np
import pytest

from converters.proof import parity
from converters.report import render


class Outline(HTMLParser):
    """Which elements stand open at the end, and all tags and texts that were seen."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.text = ""

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        if tag != "meta":
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def read(page: str) -> Outline:
    outline = Outline()
    outline.feed(page)
    outline.close()
    assert outline.open == []
    return outline


@pytest.fixture
def report() -> dict[str, Any]:
    random = np.random.default_rng(0)
    original = random.random((50, 3))
    values = parity.compare_values("probabilities", "predict_proba", original, original + 1e-7, 1e-3)
    labels = parity.compare_labels("label", "predict", np.arange(50), np.arange(50))
    proofs = [labels, values]
    return {
        "source": {"framework": "ScikitLearn", "version": "1.9", "digest": "sha256:0", "recipe": "float64"},
        "estimator": "<script>alert(1)</script>",
        "outputs": [proof.to_json() for proof in proofs],
        "rows": {"generated": {"rows": 50, "outputs": {proof.name: proof.to_json() for proof in proofs}}},
        "odd_inputs": {"nan": {"verdict": "rejected", "original": "refuses (NaN)", "onnx": "answers"}},
        "attempts": [{"recipe": "float64", "outcome": "equal"}],
        "summary": parity.summary(proofs),
        "warnings": ["a note & more"],
        "versions": {"numpy": "2"},
        "isolation": {"kind": "namespaces", "reason": None},
        "variants": [
            {"name": "plain", "size": 1200, "latency": 1e-5, "label_agreement": None, "max_abs": None, "kept": False},
            {"name": "int8", "size": 400, "latency": 9e-6, "label_agreement": 0.995, "max_abs": 0.01, "kept": True},
        ],
    }


def test_the_page_shows_what_was_measured(report: dict[str, Any]) -> None:
    page = render(report, "churn:4")
    outline = read(page)
    for told in ("Parity of churn:4", "passed", "predict_proba", "refuses (NaN)", "a note & more", "99.50%", "kept"):
        assert told in outline.text
    assert "probabilities: 0.001" in outline.text, "an accepted tolerance is said"
    assert outline.tags.count("svg") == 2
    assert outline.tags.count("circle") == 150
    counted = [int(found) for found in re.findall(r"<title>(\d+) values", page)]
    assert sum(counted) == 150


def test_the_page_needs_nothing_else_and_runs_nothing(report: dict[str, Any]) -> None:
    page = render(report, 'x"><img src=http://a.example/b>')
    outline = read(page)
    assert not {"script", "img", "link", "iframe"} & set(outline.tags)
    assert "<script>" in outline.text, "shown as text"


def test_a_model_that_was_not_compared_says_so(report: dict[str, Any]) -> None:
    bare = {"source": report["source"], "summary": None, "outputs": [], "warnings": [], "versions": {}}
    assert "Not compared" in read(render(bare, "m:1")).text
