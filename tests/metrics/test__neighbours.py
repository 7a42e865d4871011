import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import cdist

from mmbench.metrics import _neighbours
from mmbench.metrics._neighbours import counts_within, nearest, neighbour_lists, reaches
from mmbench.metrics._spaces import table_points


def brute_force(queries, points, k, same=False):
    distances = cdist(queries, points)
    if same:
        np.fill_diagonal(distances, np.inf)
    order = np.argsort(distances, axis=1, kind="stable")[:, :k]
    return np.take_along_axis(distances, order, axis=1), order


@pytest.mark.parametrize(("n", "m", "d", "k"), [(30, 40, 1, 5), (700, 5000, 7, 3), (40, 600, 200, 1)])
def test_neighbours_match_brute_force(n, m, d, k):
    rng = np.random.default_rng(0)
    queries, points = rng.normal(size=(n, d)) + 50, rng.normal(size=(m, d)) + 50
    found = nearest(queries, points, k)
    distances, order = brute_force(queries, points, k)
    np.testing.assert_allclose(found.distances, distances, rtol=1e-12)
    np.testing.assert_array_equal(found.positions, order)


def test_a_record_is_no_neighbour_of_itself_but_its_copy_is():
    points = np.random.default_rng(0).normal(size=(600, 5))
    points[599] = points[3]
    found = nearest(points, points, 2, same=True)
    np.testing.assert_allclose(found.distances, brute_force(points, points, 2, same=True)[0], rtol=1e-12)
    assert found.distances[3, 0] == 0
    assert found.positions[3, 0] == 599


@pytest.mark.parametrize("offset", [0.0, 1e6])
def test_copies_are_at_distance_zero_wherever_the_data_lie(offset):
    rng = np.random.default_rng(0)
    points = rng.normal(size=(500, 30)) + offset
    found = nearest(points[:100], points, 1)
    assert (found.distances == 0).all()
    np.testing.assert_array_equal(found.positions[:, 0], np.arange(100))


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 4), st.sampled_from([1.0, 1 / 3, 0.1]))
def test_ties_are_kept_in_order_and_count_as_within(seed, d, unit):
    rng = np.random.default_rng(seed)
    # Small whole numbers, so that whether distances are equal is known exactly.
    queries, points = rng.integers(0, 4, (20, d)), rng.integers(0, 4, (60, d))
    squares = ((queries[:, None] - points) ** 2).sum(axis=2)
    order = np.argsort(squares, axis=1, kind="stable")[:, :4]
    found = nearest(queries, points, 4)
    np.testing.assert_array_equal(found.positions, order)
    np.testing.assert_array_equal(found.distances**2 > 0, np.take_along_axis(squares, order, axis=1) > 0)

    radii = np.sort(((points[:, None] - points) ** 2).sum(axis=2), axis=1)[:, [0, 3]]
    counts = counts_within(queries * unit, points * unit, np.sqrt(radii) * unit)
    inside = squares[:, :, None] <= radii
    np.testing.assert_array_equal(counts.around, inside.sum(axis=1))
    np.testing.assert_array_equal(counts.inside, inside.sum(axis=0))


def test_counts_match_brute_force_across_blocks(monkeypatch):
    monkeypatch.setattr(_neighbours, "_QUERIES", 16)
    monkeypatch.setattr(_neighbours, "_POINTS", 32)
    rng = np.random.default_rng(0)
    queries, points = rng.normal(size=(100, 6)), rng.normal(size=(150, 6))
    radii = rng.uniform(0, 4, 150)
    inside = cdist(queries, points) <= radii
    counts = counts_within(queries, points, radii)
    np.testing.assert_array_equal(counts.around, inside.sum(axis=1))
    np.testing.assert_array_equal(counts.inside, inside.sum(axis=0))
    np.testing.assert_array_equal(nearest(queries, points, 7).positions, brute_force(queries, points, 7)[1])


def test_all_records_alike_and_wild_outliers_are_no_trouble():
    flat = np.ones((50, 3))
    assert (nearest(flat, flat, 4, same=True).distances == 0).all()
    assert (counts_within(flat, flat, np.zeros(50)).around == 50).all()
    points = np.random.default_rng(0).normal(size=(300, 3))
    points[0] = 1e9
    distances, order = brute_force(points, points, 3, same=True)
    found = nearest(points, points, 3, same=True)
    np.testing.assert_allclose(found.distances, distances, rtol=1e-12)
    np.testing.assert_array_equal(found.positions, order)


def test_memory_does_not_grow_with_the_product_of_sizes():
    x = np.random.default_rng(0).normal(size=(4500, 4))
    tracemalloc.start()
    nearest(x, x, 3, same=True)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 0.6 * x.shape[0] ** 2 * 8


def test_too_few_points_are_refused():
    with pytest.raises(ValueError, match="2 points have no 3 nearest"):
        nearest(np.zeros((3, 1)), np.zeros((3, 1)), 3, same=True)


def test_a_distance_equal_but_for_rounding_is_within_reach():
    assert reaches(np.array([0.1 + 0.2, 0.0]), np.array([0.3, 0.0])).all()
    assert reaches(np.array([0.3, 0.0]), np.array([0.1 + 0.2, 0.0])).all()
    assert not reaches(np.array([0.3, 0.0]), np.array([0.3001, 1e-12])).any()


def test_lists_of_a_trial_are_made_once_and_serve_smaller_requests(people, monkeypatch):
    trial = people.trial()
    space = table_points(trial)
    five = neighbour_lists(trial, space, "synthetic", "reference", 5)
    np.testing.assert_array_equal(five.positions, nearest(space.synthetic, space.reference, 5).positions)
    monkeypatch.setattr(_neighbours, "nearest", None)
    np.testing.assert_array_equal(
        neighbour_lists(trial, space, "synthetic", "reference", 2).distances, five.distances[:, :2]
    )
