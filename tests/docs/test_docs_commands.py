"""Every fence of every page is run, applied, or says why not (the rule stands in doc_pages.py)."""

import re
import shutil
import socket
import subprocess
import sys
from contextlib import ExitStack
from dataclasses import replace

import pytest
import yaml
from doc_pages import MARK, RUNNABLE, SILENT, Fence, fences, pages
from imports import ROOT

EVERYWHERE = pytest.mark.parametrize("page", pages())
ACTING = [page for page in pages() if any(fence.acts for fence in fences(page))]


@EVERYWHERE
def test_every_fence_says_what_it_is(page):
    for fence in fences(page):
        assert fence.language in RUNNABLE | SILENT, (
            f"{fence}: a block of language {fence.language!r}; open it with ``` and one of "
            f"{sorted(RUNNABLE)} (run) or {sorted(SILENT)} (not)"
        )


@EVERYWHERE
def test_what_is_not_run_says_why(page):
    for fence in fences(page):
        if fence.mark == "not run":
            assert len(fence.words) > 10, f"{fence}: <!-- not run: {fence.words} --> gives no reason"
            assert fence.language in RUNNABLE, f"{fence}: {fence.language} is never run, so the mark says nothing"
        if fence.mark == "run by":
            assert (ROOT / fence.words).is_file(), f"{fence}: there is no test {fence.words}"


def merged(tree, more):
    """`more` put into `tree`: mappings join, lists grow, other values are replaced."""
    if isinstance(tree, dict) and isinstance(more, dict):
        return tree | {key: merged(tree[key], value) if key in tree else value for key, value in more.items()}
    return [*tree, *more] if isinstance(tree, list) and isinstance(more, list) else more


PORT = re.compile(r"(?<=127\.0\.0\.1:)\d+|(?<=http\.server )\d+")


def with_free_ports(page_fences):
    """The fences with each port that they name replaced by one that nobody uses."""
    named = sorted({port for fence in page_fences for port in PORT.findall(fence.code)})
    with ExitStack() as held:
        sockets = [held.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in named]
        free = {port: str(one.getsockname()[1]) for port, one in zip(named, sockets, strict=True)}
    return [replace(fence, code=PORT.sub(lambda found: free[found[0]], fence.code)) for fence in page_fences]


def act(clone, fence):
    """Do with a fence what its mark or its language says."""
    if fence.mark == "file":
        (clone.root / fence.words).parent.mkdir(parents=True, exist_ok=True)
        (clone.root / fence.words).write_text(fence.code)
    elif fence.mark == "add to":
        file = clone.root / fence.words
        tree = merged(yaml.safe_load(file.read_text()), yaml.safe_load(fence.code))
        file.write_text(yaml.safe_dump(tree, sort_keys=False, allow_unicode=True))
    elif fence.language == "diff":
        patch = clone.root / ".guide.patch"
        patch.write_text(fence.code)
        clone.run("git", "apply", "--recount", str(patch))
        patch.unlink()
    elif fence.language == "python":
        clone.run(sys.executable, "-c", fence.code)
    else:
        clone.run("bash", "-euo", "pipefail", "-c", fence.code)


@pytest.fixture
def repository(tiny, tmp_path):
    """A copy of the tiny run with the files that pages speak of: my.cif, POSCAR, folder/."""
    from pymatgen.core import Structure
    from tiny_clone import copy_clone

    clone = copy_clone(tiny, tmp_path / "matscout", runs=True)
    root = clone.root
    found = sorted((root / "data/screening/cif").glob("*.cif"))
    shutil.copy(found[0], root / "my.cif")
    Structure.from_file(found[1]).to(str(root / "POSCAR"), fmt="poscar")
    shutil.copytree(root / "data/screening/cif", root / "folder")
    return clone


@pytest.mark.slow
@pytest.mark.parametrize("page", ACTING)
def test_a_page_can_be_followed_from_top_to_bottom(page, repository):
    for fence in with_free_ports(fences(page)):
        if fence.acts:
            try:
                act(repository, fence)
            except AssertionError as error:
                raise AssertionError(f"{fence}: {error}") from error


@pytest.mark.slow
def test_the_report_s_last_command_names_the_commit_that_made_it(tiny):
    from matscout.report.page import COMMANDS

    assert "first run" in tiny.run("bash", "-c", COMMANDS.splitlines()[-1]).stdout


def test_the_check_sees_marks():
    assert MARK.fullmatch("<!-- not run: needs the network -->").groups() == ("not run", "needs the network")
    assert MARK.fullmatch("<!-- results: begin -->") is None
    assert merged({"a": {"b": 1}, "c": [1]}, {"a": {"d": 2}, "c": [2]}) == {"a": {"b": 1, "d": 2}, "c": [1, 2]}


def test_named_ports_become_free_ones():
    code = "endpoint: http://127.0.0.1:8971/", "python -m http.server 8971 --bind 127.0.0.1"
    one, other = with_free_ports([Fence("a.md", 1, "sh", text, "", "") for text in code])
    [port] = set(PORT.findall(one.code)) | set(PORT.findall(other.code))
    assert port != "8971"
    with socket.create_server(("127.0.0.1", int(port))):
        pass


def test_bash_stops_at_the_first_failure():
    assert subprocess.run(["bash", "-euo", "pipefail", "-c", "false\ntrue"], check=False).returncode == 1
