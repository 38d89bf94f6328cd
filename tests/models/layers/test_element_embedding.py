import numpy as np
import pytest
import torch

from matscout.models.layers.element_embedding import PROPERTIES, ElementEmbedding, element_table, element_table_sha256

NEON, SODIUM, IRON, RUTHENIUM, OGANESSON = 10, 11, 26, 44, 118


def test_has_a_finite_row_for_every_element():
    table = element_table()
    assert table.shape[0] == 119
    assert table.dtype == np.float32
    assert np.isfinite(table).all()
    assert not table[0].any()
    assert len(np.unique(table[1:105], axis=0)) == 104


def test_standardised_columns_order_elements_as_nature_does():
    table = element_table()
    electronegativity = table[:, PROPERTIES.index("X")]
    assert electronegativity[9] == electronegativity.max()
    radius = table[:, PROPERTIES.index("atomic_radius")]
    assert radius[55] == radius.max()
    ionization_energy = table[1:95, PROPERTIES.index("ionization_energy")]  # known for all up to plutonium
    assert ionization_energy.argmax() + 1 == 2
    assert ionization_energy.mean() == pytest.approx(0, abs=1e-4)
    assert ionization_energy.std() == pytest.approx(1, abs=1e-4)


def test_flags_what_is_missing():
    table = element_table()
    flags = table[:, len(PROPERTIES) : -12]
    assert set(np.unique(flags)) == {0.0, 1.0}
    assert flags[NEON].sum() > 0  # no electronegativity
    assert flags[IRON].sum() == 0
    assert flags[OGANESSON].sum() > flags[NEON].sum()


def test_counts_outer_electrons():
    table = element_table()
    s, p, d, f, *_ = table[IRON, -12:]
    assert (s, p, d, f) == pytest.approx((2 / 2, 6 / 6, 6 / 10, 0))
    assert table[SODIUM, -12] == pytest.approx(1 / 2)
    assert table[SODIUM, -4:].tolist() == [1, 0, 0, 0]
    assert table[IRON, -4:].tolist() == [0, 0, 1, 0]


def test_the_hash_is_of_values_not_of_memory():
    table = element_table()
    assert element_table_sha256() == element_table_sha256(torch.from_numpy(table.copy()))
    assert element_table_sha256() == element_table_sha256(np.asfortranarray(table))
    changed = table.copy()
    changed[IRON, 0] += 1e-3
    assert element_table_sha256() != element_table_sha256(changed)


def test_an_element_that_never_trained_is_described_by_its_physics():
    embedding = ElementEmbedding(8)
    numbers = torch.tensor([IRON, RUTHENIUM, IRON])
    expected = embedding.physical(torch.from_numpy(element_table()[numbers.numpy()]))
    torch.testing.assert_close(embedding(numbers), expected)
    iron, ruthenium, sodium = element_table()[[IRON, RUTHENIUM, SODIUM]]
    assert np.linalg.norm(iron - ruthenium) < np.linalg.norm(iron - sodium)  # the same column of the table
