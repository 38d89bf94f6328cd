"""Label noise follows the disagreement between databases, and made-up rows say nothing about genuine ones."""

import numpy as np
import pandas as pd
import pytest

from matscout import columns
from matscout.curation.align_energies import label_noise


def table(rows):
    names = [columns.DUPLICATE_GROUP, columns.SOURCE, columns.BAND_GAP, columns.SYNTHETIC]
    return pd.DataFrame([(*row, False)[:4] for row in rows], columns=pd.Index(names))


def test_two_databases_by_the_closed_form():
    rows = table([("a", "mp", 1.0), ("a", "oqmd", 1.2), ("b", "mp", 2.0), ("b", "oqmd", 2.2), ("c", "mp", 3.0)])
    variance = 0.2**2 / 2
    np.testing.assert_allclose(label_noise(rows, columns.BAND_GAP), np.sqrt(variance))


def test_more_disagreement_is_more_noise_and_unshared_rows_get_the_typical_one():
    rows = table([("a", "mp", 1.0), ("a", "oqmd", 1.0), ("b", "mp", 2.0), ("b", "oqmd", 2.6), ("c", "mp", 3.0)])
    agree, _, disagree, _, alone = label_noise(rows, columns.BAND_GAP)
    assert 0 < agree < alone < disagree


def test_one_database_alone_knows_nothing_of_its_noise():
    rows = table([("a", "mp", 1.0), ("a", "mp", 1.5), ("b", "mp", 2.0)])
    assert label_noise(rows, columns.BAND_GAP).isna().all()


def test_entries_of_one_database_count_once():
    rows = table([("a", "mp", 1.0), ("a", "oqmd", 1.4)])
    repeated = table([("a", "mp", 1.0), ("a", "oqmd", 1.4), ("a", "oqmd", 1.4), ("a", "oqmd", 1.4)])
    assert label_noise(repeated, columns.BAND_GAP)[0] == pytest.approx(label_noise(rows, columns.BAND_GAP)[0])


def test_synthetic_rows_do_not_speak_about_genuine_ones():
    genuine = table([("a", "mp", 1.0), ("a", "oqmd", 1.2), ("b", "mp", 2.0)])
    mixed = pd.concat([genuine, table([("a", "aflow", 9.0, True), ("b", "aflow", 7.0, True)])], ignore_index=True)
    np.testing.assert_allclose(label_noise(mixed, columns.BAND_GAP)[:3], label_noise(genuine, columns.BAND_GAP))
    assert label_noise(mixed, columns.BAND_GAP)[3:].min() > 1


def test_missing_labels_have_no_noise():
    rows = table([("a", "mp", 1.0), ("a", "oqmd", 1.2), ("b", "mp", np.nan)])
    assert np.isnan(label_noise(rows, columns.BAND_GAP)[2])
