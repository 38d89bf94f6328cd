"""Every relative link of every page leads somewhere, and what pages call by name exists."""

import re

import pytest
from doc_pages import anchors, links, pages, spans, target_of
from imports import ROOT
from typer.main import get_command

from matscout.cli import app

EVERYWHERE = pytest.mark.parametrize("page", pages())
LOCAL = re.compile(r"(?![a-z][a-z0-9+.-]*:)", re.IGNORECASE)  # no scheme
MADE = ("data/report/", "data/raw/", "data/screening/")  # by a run: named, but not in Git


@EVERYWHERE
def test_relative_links_and_anchors_resolve(page):
    for address in filter(LOCAL.match, links(page)):
        file, anchor = target_of(page, address)
        assert file.exists(), f"{page}: {address} leads nowhere"
        if anchor:
            name = file.resolve().relative_to(ROOT).as_posix()
            assert anchor in anchors(name), f"{page}: {address}: {name} has the anchors {sorted(anchors(name))}"


def test_every_page_of_the_docs_is_in_the_index():
    listed = {target_of("docs/README.md", address)[0].resolve() for address in links("docs/README.md")}
    missing = [page for page in pages() if page.startswith("docs/") and (ROOT / page).resolve() not in listed]
    assert missing == ["docs/README.md"]


@EVERYWHERE
def test_commands_of_matscout_and_their_options_exist(page):
    group = get_command(app)
    for span in spans(page):
        words = re.sub(r"\s+", " ", span).split()
        if words[:1] != ["matscout"] or len(words) == 1 or words[1].startswith(("-", "...")):
            continue
        assert words[1] in group.commands, f"{page}: `{span}`: choose one of {sorted(group.commands)}"
        known = {
            option
            for parameter in group.commands[words[1]].params
            for option in (*parameter.opts, *parameter.secondary_opts)
        }
        used = {word.split("=")[0] for word in words[2:] if re.match(r"--?[a-z]", word)}
        assert used <= known | {"--help"}, f"{page}: `{span}`: {sorted(used - known)} is not an option of {words[1]}"


@EVERYWHERE
def test_make_targets_and_scripts_exist(page):
    targets = set(re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for span in spans(page):
        if called := re.match(r"make (\w+)", span):
            assert called[1] in targets, f"{page}: `{span}`"
        if called := re.match(r"python (\S+\.py)", span):
            assert (ROOT / called[1]).is_file(), f"{page}: `{span}`"


def test_the_check_sees_a_dead_link(tmp_path, monkeypatch):
    import doc_pages

    (tmp_path / "page.md").write_text("# A title: it's here\n\n[one](absent.md) [two](#a-title-its-here) `code`\n")
    monkeypatch.setattr(doc_pages, "ROOT", tmp_path)
    doc_pages.tokens.cache_clear()
    assert links("page.md") == ["absent.md", "#a-title-its-here"]
    assert not target_of("page.md", "absent.md")[0].exists()
    assert anchors("page.md") == {"a-title-its-here"}
    doc_pages.tokens.cache_clear()
