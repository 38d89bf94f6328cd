"""The Markdown pages of the repository, as the checks of links and commands see them.

The rule for a fence, told in CONTRIBUTING.md: it names its language; `sh` and `python` are run, `diff` is
applied, from top to bottom of the page, in a repository whose tiny pipeline ran once. An HTML comment right
before a fence changes that: `<!-- not run: REASON -->`, `<!-- run by: PATH -->` (a test that runs it in a
place of its own), `<!-- file: PATH -->` (the fence is that file's content), `<!-- add to: PATH -->` (YAML,
merged into that file).
"""

import re
import subprocess
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from imports import ROOT
from markdown_it import MarkdownIt
from markdown_it.token import Token

MARK = re.compile(r"<!-- (not run|run by|file|add to): (.+?) -->\s*", re.DOTALL)
RUNNABLE = {"sh", "python", "diff"}
SILENT = {"yaml", "json", "text", "bibtex", "toml"}


@dataclass(frozen=True)
class Fence:
    """One block of code.

    Attributes:
        page: path from the root of the repository.
        line: where its code begins, from 1.
        language: first word of the fence; empty where there is none, or the block is only indented.
        code: its text.
        mark: `not run`, `run by`, `file`, `add to`, or empty.
        words: the reason or the path of the mark.
    """

    page: str
    line: int
    language: str
    code: str
    mark: str
    words: str

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"

    @property
    def acts(self) -> bool:
        """Does the check do something with it?"""
        return self.mark in {"file", "add to"} or (self.mark == "" and self.language in RUNNABLE)


@cache
def pages() -> list[str]:
    """Every Markdown page that is or will be in Git, from the root of the repository."""
    listed = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "*.md"]
    names = subprocess.run(listed, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
    return sorted(name for name in set(names) if (ROOT / name).is_file())


@cache
def tokens(page: str) -> list[Token]:
    return MarkdownIt("commonmark").enable("table").parse((ROOT / page).read_text())


def fences(page: str) -> list[Fence]:
    found = []
    for before, token in zip([None, *tokens(page)], tokens(page), strict=False):
        if token.type not in {"fence", "code_block"}:
            continue
        marked = MARK.fullmatch(before.content.strip()) if before and before.type == "html_block" else None
        mark, words = marked.groups() if marked else ("", "")
        language = (token.info.split() or [""])[0]
        found.append(Fence(page, token.map[0] + 2, language, token.content, mark, " ".join(words.split())))
    return found


def links(page: str) -> list[str]:
    """Addresses of links and pictures."""
    inline = [child for token in tokens(page) for child in token.children or []]
    return [str(child.attrs[key]) for child in inline for key in ("href", "src") if key in child.attrs]


def spans(page: str) -> list[str]:
    """Code within the text."""
    return [child.content for token in tokens(page) for child in token.children or [] if child.type == "code_inline"]


def anchors(page: str) -> set[str]:
    """Anchors of the headings, as they are made on the forges."""
    found: dict[str, int] = {}
    result = set()
    for token, inside in zip(tokens(page), tokens(page)[1:], strict=False):
        if token.type == "heading_open":
            words = "".join(child.content for child in inside.children or [])
            slug = re.sub(r"[^\w\- ]", "", words.lower()).replace(" ", "-")
            result.add(f"{slug}-{found[slug]}" if slug in found else slug)
            found[slug] = found.get(slug, 0) + 1
    return result


def target_of(page: str, address: str) -> tuple[Path, str]:
    """File and anchor that a relative address of `page` points to."""
    path, _, anchor = address.partition("#")
    return (ROOT / page).parent / path if path else ROOT / page, anchor
