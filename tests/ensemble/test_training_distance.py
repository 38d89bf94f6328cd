"""Distance from the training set against brute force, and what the flag promises."""

import numpy as np
import pytest

from matscout.ensemble.training_distance import MAX_REFERENCE, N_NEAREST, TrainingReference, reference_rows


@pytest.fixture
def rng():
    return np.random.default_rng(2)


@pytest.fixture
def reference(rng):
    scales = np.array([1, 10, 0.1, 3], np.float32)
    embeddings = rng.normal(size=(800, 4)).astype(np.float32) * scales
    return TrainingReference.fit(embeddings[:600], embeddings[600:])


def test_distance_by_brute_force(reference, rng):
    points = rng.normal(size=(30, 4)).astype(np.float32)
    standardised = (points - reference.mean) / reference.scale
    for point, distance in zip(standardised, reference.distance(points), strict=True):
        all_distances = np.sort(np.linalg.norm(reference.embeddings - point, axis=1))
        assert distance * reference.unit == pytest.approx(all_distances[:N_NEAREST].mean(), rel=1e-4)


def test_unit_is_the_usual_distance_and_the_flag_is_rare(rng):
    embeddings = rng.normal(size=(4000, 6)).astype(np.float32)
    reference = TrainingReference.fit(embeddings[:2000], embeddings[2000:3000])
    distance = reference.distance(embeddings[3000:])
    assert np.median(distance) == pytest.approx(1, abs=0.05)
    assert 0.001 < reference.is_far(distance).mean() < 0.03


def test_shift_is_flagged(reference):
    shifted = reference.mean + 10 * reference.scale
    assert reference.is_far(reference.distance(shifted[None])).all()


def test_units_of_single_dimensions_do_not_matter(rng):
    embeddings = rng.normal(size=(300, 3)).astype(np.float32)
    stretch = np.array([1, 100, 0.01], np.float32)
    plain = TrainingReference.fit(embeddings[:200], embeddings[200:250])
    stretched = TrainingReference.fit(embeddings[:200] * stretch, embeddings[200:250] * stretch)
    np.testing.assert_allclose(
        plain.distance(embeddings[250:]), stretched.distance(embeddings[250:] * stretch), rtol=1e-3
    )


def test_dead_dimensions_and_few_rows_do_no_harm(rng):
    embeddings = np.concatenate([rng.normal(size=(5, 2)), np.zeros((5, 1))], axis=1).astype(np.float32)
    reference = TrainingReference.fit(embeddings[:3], embeddings[3:])
    assert np.isfinite(reference.distance(embeddings)).all()
    assert reference.distance(embeddings[:0]).shape == (0,)


def test_rounded_embeddings_keep_distances_in_a_fraction_of_the_size(rng, tmp_path):
    """Against the exact ones: of new points within a few per cent, of training rows nearly none."""
    mixing = rng.normal(size=(200, 200)) * np.geomspace(1, 0.01, 200)[:, None]
    embeddings = (rng.normal(size=(6000, 200)) @ mixing).astype(np.float32)
    exact = TrainingReference.fit(embeddings[:5000], embeddings[5000:5500]).with_known(["Cl1 Na1"])
    for name, reference in (("exact", exact), ("rounded", exact.rounded())):
        reference.save(tmp_path / f"{name}.npz")
    rounded = TrainingReference.load(tmp_path / "rounded.npz")
    ratio = rounded.distance(embeddings[5500:]) / exact.distance(embeddings[5500:])
    assert np.abs(ratio - 1).max() < 0.05
    np.testing.assert_array_equal(rounded.distance(embeddings[5500:]), exact.rounded().distance(embeddings[5500:]))
    assert (tmp_path / "rounded.npz").stat().st_size < (tmp_path / "exact.npz").stat().st_size / 4
    assert rounded.is_known(["Cl1 Na1", "Cl1 K1"]).tolist() == [True, False]


def test_saved_reference_is_the_same(reference, rng, tmp_path):
    reference.save(tmp_path / "reference.npz")
    reference.save(tmp_path / "again.npz")
    points = rng.normal(size=(5, 4)).astype(np.float32)
    np.testing.assert_array_equal(
        TrainingReference.load(tmp_path / "reference.npz").distance(points), reference.distance(points)
    )
    assert (tmp_path / "reference.npz").read_bytes() == (tmp_path / "again.npz").read_bytes()


def test_reference_is_bounded_and_even():
    assert reference_rows(np.arange(10)).tolist() == list(range(10))
    kept = reference_rows(np.arange(3 * MAX_REFERENCE))
    assert len(np.unique(kept)) == MAX_REFERENCE
    assert np.diff(kept).max() <= 4
