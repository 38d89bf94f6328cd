"""A few of every kind of bad input; `benchmarks/robustness.py` tries thousands."""

import pytest
from bad_inputs import inventions, mutations, note_outcome, outcome, page_outcome, params_outcome

SEED = 20261130


@pytest.mark.parametrize("start", range(0, 180, 45))
def test_damaged_files_are_read_as_they_are_or_refused(tmp_path, start):
    for item in list(mutations(start + 45, SEED))[start:]:
        found = outcome(item, tmp_path)
        assert found.complaint is None, (item, found)


def test_made_up_files_are_refused(tmp_path):
    for item in inventions(60, SEED):
        found = outcome(item, tmp_path)
        assert found.complaint is None, (item, found)


def test_damaged_pages_settings_and_notes_are_told(tmp_path):
    for number in range(30):
        for found in (page_outcome(number, SEED), params_outcome(number, SEED), note_outcome(number, SEED, tmp_path)):
            assert found.complaint is None, (number, found)
