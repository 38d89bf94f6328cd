"""One fake run and its page for all tests of the room, and one browser."""

from pathlib import Path

import pytest
from chromium import Chromium, find_chromium
from fake_run import write_fake_run

from matscout.params import load_params
from matscout.report.page import write_report
from matscout.report.run import Run


@pytest.fixture(scope="session")
def params():
    return load_params(Path(__file__).parents[2] / "params.yaml")


@pytest.fixture(scope="session")
def fake_data(tmp_path_factory):
    data = tmp_path_factory.mktemp("run") / "data"
    write_fake_run(data)
    return data


@pytest.fixture
def run(fake_data, params):
    return Run(fake_data, params)


@pytest.fixture(scope="session")
def page(fake_data, params, tmp_path_factory):
    file = tmp_path_factory.mktemp("page") / "index.html"
    write_report(fake_data, params=params, destination=file)
    return file


@pytest.fixture(scope="session")
def browser(tmp_path_factory):
    binary = find_chromium()
    if binary is None:
        pytest.skip("no Chromium or Chrome on PATH: the page is not tried in a browser (apt-get install chromium)")
    browser = Chromium(binary, tmp_path_factory.mktemp("profile"))
    yield browser
    browser.close()
