"""Every error text of docs/guides/troubleshooting.md is in the source."""

import re

import pytest
from imports import ROOT, SRC

PAGE = (ROOT / "docs/guides/troubleshooting.md").read_text()
OURS = PAGE.split("## Messages from DVC")[0]
QUOTED = [found[1].strip() for found in re.findall(r"^\| (`+)(.+?)\1(?: …)? \| ", OURS, re.MULTILINE)]


def source_text():
    """All of the package as one text, with string literals that Python joins joined here too."""
    text = "\n".join(file.read_text() for file in sorted(SRC.rglob("*.py")))
    return re.sub(r'"\s*\n\s*f?"', "", text)


@pytest.fixture(scope="module")
def source():
    return source_text()


def test_there_are_many():
    assert len(QUOTED) >= 25


@pytest.mark.parametrize("message", QUOTED)
def test_the_text_exists(message, source):
    parts = [re.escape(part) for part in message.split("…") if part.strip(": ;")]
    assert parts
    assert re.search(r"[^\n]{0,200}".join(parts), source), f"no message of src/ reads {message!r}"
