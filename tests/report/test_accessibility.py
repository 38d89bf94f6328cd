"""Accessibility of the page, by axe-core: no finding that it calls moderate, serious or critical."""

import shutil
import subprocess

import pytest

AXE = "axe-core@4.14.1"
RULES = "{runOnly: ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'best-practice'], resultTypes: ['violations']}"


@pytest.fixture(scope="module")
def axe(tmp_path_factory):
    """The checker's source, from the registry into a temporary folder: it is no part of the repository."""
    npm = shutil.which("npm")
    if npm is None:
        pytest.skip("npm is not on PATH: axe-core cannot be fetched")
    folder = tmp_path_factory.mktemp("axe")
    command = [npm, "install", "--silent", "--no-audit", "--no-fund", "--ignore-scripts", "--prefix", str(folder), AXE]
    try:
        subprocess.run(command, check=True, capture_output=True, timeout=120)
    except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
        pytest.skip(f"npm could not fetch {AXE}: {error}")
    return (folder / "node_modules" / "axe-core" / "axe.min.js").read_text()


@pytest.mark.slow
@pytest.mark.parametrize(("width", "dark"), [(1280, False), (1280, True), (390, False)])
def test_no_serious_finding(browser, page, axe, width, dark):
    browser.open(page, width=width, dark=dark)
    browser.run(f"{axe}; true")
    found = browser.run(f"axe.run(document, {RULES}).then((r) => r.violations)")
    grave = [
        f"{v['impact']}: {v['id']}: {v['help']}: {[n['html'][:120] for n in v['nodes'][:3]]} ({len(v['nodes'])})"
        for v in found
        if v["impact"] in {"serious", "critical", "moderate"}
    ]
    assert grave == []
