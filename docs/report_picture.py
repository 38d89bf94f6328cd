"""Take the README's picture of the report, docs/figures/report.png: python docs/report_picture.py."""

import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
REPORT = ROOT / "data" / "report" / "index.html"
PICTURE = ROOT / "docs" / "figures" / "report.png"
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
SIZE = "1280,1745"  # px: down to the end of the Pareto front
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--hide-scrollbars",
    "--force-device-scale-factor=0.75",
    "--host-resolver-rules=MAP * ~NOTFOUND",
    "--virtual-time-budget=20000",  # ms: until the figures are drawn
)


def take(report: Path, picture: Path) -> None:
    """Open `report` in a headless browser and write its top as PNG.

    Raises:
        SystemExit: there is no report, no browser, or no picture came out.
    """
    if not report.is_file():
        sys.exit(f"{report} not found: run `make repro`, or `dvc repro report`")
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    if browser is None:
        sys.exit(f"none of {', '.join(BROWSERS)} is installed (Debian: apt-get install chromium)")
    picture.unlink(missing_ok=True)
    command = [browser, *FLAGS, f"--window-size={SIZE}", f"--screenshot={picture}", report.resolve().as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - our own words
    if not picture.is_file():
        sys.exit(f"{browser} took no picture:\n{done.stderr[-1000:]}")


if __name__ == "__main__":
    take(REPORT, PICTURE)
