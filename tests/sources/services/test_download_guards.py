"""What must not happen between matscout and others: keys that travel, files outside, formulas that run, lost notes."""

import json
from types import SimpleNamespace

import pandas as pd
import pytest
import requests
from sample_rows import SAMPLE

from matscout.discovery.cif_files import file_stem
from matscout.errors import InputError, SourceError
from matscout.files import write_csv
from matscout.sources.services.http import keep_to_host, on_same_host
from matscout.sources.snapshots.download import Journal
from matscout.sources.snapshots.snapshot_files import read_manifest


@pytest.mark.parametrize(
    ("asked", "sent_to", "is_followed"),
    [
        ("https://a.org/x", "/y", True),
        ("https://a.org/x", "https://a.org/y/", True),
        ("http://a.org/x", "https://a.org/x", True),
        ("https://a.org/x", "https://b.org/x", False),
        ("https://a.org/x", "//b.org/x", False),
        ("https://a.org/x", "http://a.org/x", False),
        ("http://127.0.0.1:1/x", "http://127.0.0.1:2/x", False),
    ],
)
def test_a_key_follows_no_redirect_to_another_host(asked, sent_to, is_followed):
    session = requests.Session()
    keep_to_host(session)
    answer = requests.Response()
    answer.url, answer.status_code, answer.headers["location"] = asked, 302, sent_to
    if is_followed:
        assert session.get_redirect_target(answer) == sent_to
    else:
        with pytest.raises(SourceError, match="is not followed"):
            session.get_redirect_target(answer)


@pytest.mark.parametrize(
    ("link", "followed"),
    [
        ("http://oqmd.org/x/y?limit=5&offset=5", "https://oqmd.org/x/y?limit=5&offset=5"),
        ("http://inner:8080/x/y?a=1#part", "https://oqmd.org/x/y?a=1"),
        ("/x/y?a=1", "https://oqmd.org/x/y?a=1"),
        ("?a=1", "https://oqmd.org/x/old?a=1"),
    ],
)
def test_a_link_out_of_an_answer_leads_to_the_host_that_was_asked(link, followed):
    assert on_same_host(link, "https://oqmd.org/x/old?limit=5") == followed


@pytest.mark.parametrize("page", ["../../x.gz", "/etc/passwd", "a/b.gz", "..", ""])
def test_a_manifest_names_no_file_outside_its_folder(tmp_path, page):
    manifest = json.loads((SAMPLE / "aflow" / "manifest.json").read_text()) | {"pages": {page: "0"}}
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(InputError, match="not the name of a file in the snapshot"):
        read_manifest(tmp_path)


@pytest.mark.parametrize("identity", ["../../x", "a b", 'x"; import os; "', "", "a\nb"])
def test_a_candidate_s_id_names_a_file_of_the_hand_off_or_none(identity):
    with pytest.raises(InputError, match="cannot name a file"):
        file_stem({"candidate_id": identity, "species": ["Na", "Cl"], "rank": 1})


def test_a_spreadsheet_runs_nothing(tmp_path):
    texts = ["=cmd|' /C calc'!A0", "=HYPERLINK(1)", "+1", "-1", "@x", "plain"]
    write_csv(tmp_path / "x.csv", pd.DataFrame({"id": texts, "error": -1.5}))
    back = pd.read_csv(tmp_path / "x.csv")
    assert back["id"].tolist() == [f"'{text}" for text in texts[:5]] + ["plain"]
    assert (back["error"] == -1.5).all()


def test_a_damaged_line_of_a_journal_costs_what_follows_it_alone(tmp_path):
    lines = [{"version": "v"}]
    lines += [{"page": f"p{n}", "sha256": "0", "ids": [str(n)], "next": {"n": n}} for n in range(3)]
    raw = [json.dumps(line).encode() + b"\n" for line in lines]
    raw[2] = raw[2].replace(b'"', b"'", 1)
    (tmp_path / "journal.jsonl").write_bytes(b"".join(raw))
    journal = Journal(tmp_path)
    assert list(journal.pages) == ["p0"]
    assert journal.cursor == {"n": 0}
    journal.add(SimpleNamespace(content=[], ids=[], next=None, skipped={}))
    assert Journal(tmp_path).is_finished
    assert list(Journal(tmp_path).pages) == ["p0"]
