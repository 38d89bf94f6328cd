"""CITATION.cff names every database and the paper of every architecture; each file of an architecture names its paper."""

import inspect
import re
import sys

import pytest
import yaml
from imports import ROOT

from matscout.models.architectures import ENCODERS
from matscout.sources.licences import TERMS

CITED = yaml.safe_load((ROOT / "CITATION.cff").read_text())


@pytest.mark.parametrize("name", sorted(TERMS))
def test_every_database_is_cited(name):
    asked = set(re.findall(r"doi=\{(.+?)\}", TERMS[name].citation))
    assert asked
    assert asked <= {reference.get("doi") for reference in CITED["references"]}


@pytest.mark.parametrize("architecture", sorted(ENCODERS))
def test_every_architecture_names_a_paper_that_is_cited(architecture):
    papers = [r for r in CITED["references"] if f"member {architecture}" in r["notes"]]
    docstring = inspect.getdoc(sys.modules[ENCODERS[architecture].__module__])
    named = [p for p in papers if p["authors"][0]["family-names"] in docstring and str(p["year"]) in docstring]
    assert named, f"{architecture}: {docstring}"


def test_the_version_is_the_package_s():
    import matscout

    assert str(CITED["version"]) == matscout.__version__
