"""`dvc plots show` draws its figures in a real browser that reaches no server."""

import re
import shutil
import subprocess
import sys

from dvc_render.vega import VegaRenderer
from imports import ROOT

PAGE = ROOT / ".dvc" / "plots_page.html"
VERSIONED = r"(vega(?:-lite|-embed)?)"


def test_the_page_holds_the_scripts_that_dvc_would_fetch():
    wanted = dict(re.findall(rf"npm/{VERSIONED}@([\d.]+)", VegaRenderer.SCRIPTS))
    assert len(wanted) == 3
    assert dict(re.findall(rf"^<!-- {VERSIONED} ([\d.]+)$", PAGE.read_text(), re.MULTILINE)) == wanted


def test_plots_are_drawn_without_a_server(browser, tmp_path):
    (tmp_path / "dvc.yaml").write_text("plots: [{curve: {x: epoch, y: {curve.csv: mae}}}]\n")
    (tmp_path / "curve.csv").write_text("epoch,mae\n1,0.5\n2,0.3\n3,0.2\n")
    dvc = [sys.executable, "-m", "dvc"]
    subprocess.run([*dvc, "init", "--no-scm", "-q"], cwd=tmp_path, check=True)
    for name in ("config", PAGE.name):
        shutil.copy(ROOT / ".dvc" / name, tmp_path / ".dvc" / name)
    subprocess.run([*dvc, "plots", "show", "-q"], cwd=tmp_path, check=True)
    browser.events.clear()
    browser.call("Page.navigate", url=(tmp_path / "dvc_plots" / "index.html").as_uri())
    browser.wait("document.readyState === 'complete' && document.querySelector('canvas')")
    assert browser.requests() == []
    drawn = "[...document.querySelector('canvas').getContext('2d').getImageData(0, 0, 200, 200).data]"
    assert browser.run(f"new Set({drawn}).size") > 10  # axes, letters and a line, not one colour
