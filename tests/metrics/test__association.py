import numpy as np
import pandas as pd
import pytest
from scipy import stats as scipy_stats

from mmbench.metrics._association import (
    MixedTable,
    centred_ranks,
    corrected_v,
    dense_codes,
    rank_correlations,
    signed_epsilon,
)


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def test_ranks_are_scipys_midranks(rng):
    values = rng.integers(0, 6, (40, 3)).astype(float)
    values[3, 1] = np.nan
    ranks = centred_ranks(dense_codes(values))
    expected = scipy_stats.rankdata(values[:, 0])
    np.testing.assert_allclose(ranks[:, 0], expected - expected.mean())
    present = ~np.isnan(values[:, 1])
    expected = scipy_stats.rankdata(values[present, 1])
    np.testing.assert_allclose(ranks[present, 1], expected - expected.mean())
    assert ranks[3, 1] == 0


def test_rank_correlation_is_scipys_spearman_with_ties(rng):
    x, y = rng.normal(size=(50, 2)), rng.integers(0, 4, (50, 3)).astype(float)
    y[:, 0] += np.round(x[:, 0])
    result = rank_correlations(dense_codes(x), dense_codes(y))
    for i in range(2):
        for j in range(3):
            assert result[i, j] == pytest.approx(scipy_stats.spearmanr(x[:, i], y[:, j]).statistic, abs=1e-12)


def test_missing_values_are_left_out_pair_by_pair(rng):
    x = rng.normal(size=(300, 1))
    y = x + 0.5 * rng.normal(size=(300, 1))
    whole = rank_correlations(dense_codes(x), dense_codes(y))[0, 0]
    y[rng.random(300) < 0.3] = np.nan
    present = ~np.isnan(y[:, 0])
    result = rank_correlations(dense_codes(x), dense_codes(y))[0, 0]
    assert result == pytest.approx(whole, abs=0.05)
    # Ranks are those of the column; a Spearman correlation over the complete pairs ranks these anew.
    assert result == pytest.approx(scipy_stats.spearmanr(x[present, 0], y[present, 0]).statistic, abs=0.005)


@pytest.mark.parametrize("constant", [np.full(30, 2.0), np.full(30, np.nan)])
def test_a_constant_or_missing_column_has_no_association(rng, constant):
    x = rng.normal(size=(30, 1))
    assert np.isnan(rank_correlations(dense_codes(x), dense_codes(constant[:, None]))).all()


def test_epsilon_squared_follows_from_kruskal_wallis_and_is_centred_without_association(rng):
    groups, values = rng.integers(0, 4, 60), rng.normal(size=60)
    eta2 = scipy_stats.kruskal(*(values[groups == g] for g in range(4))).statistic / 59
    epsilon2 = 1 - (1 - eta2) * 59 / 56
    expected = np.sign(epsilon2) * np.sqrt(abs(epsilon2))
    assert signed_epsilon(groups, dense_codes(values[:, None])[:, 0]) == pytest.approx(expected, abs=1e-12)
    draws = [signed_epsilon(rng.integers(0, 5, 50), rng.permutation(50)) for _ in range(500)]
    assert np.mean(np.sign(draws) * np.square(draws)) == pytest.approx(0, abs=0.01)
    assert signed_epsilon(np.repeat([0, 1, 2], 20), np.repeat([0, 1, 2], 20)) == pytest.approx(1)


def test_corrected_v_is_bergsmas(rng):
    a = rng.integers(0, 3, 200)
    b = np.where(rng.random(200) < 0.5, a, rng.integers(0, 4, 200))
    counts = pd.crosstab(a, b).to_numpy()
    n, (r, c) = counts.sum(), counts.shape
    phi2 = scipy_stats.contingency.association(counts) ** 2 * min(r - 1, c - 1) - (r - 1) * (c - 1) / (n - 1)
    room = min(r - (r - 1) ** 2 / (n - 1), c - (c - 1) ** 2 / (n - 1)) - 1
    assert corrected_v(a, b) == pytest.approx(np.sqrt(phi2 / room), abs=1e-12)
    assert corrected_v(a, a) == pytest.approx(1)
    independent = [corrected_v(rng.integers(0, 10, 100), rng.integers(0, 8, 100)) for _ in range(100)]
    assert np.mean(independent) < 0.1


def test_matrix_is_symmetric_and_follows_the_order_of_the_columns(people):
    evidence = people.draw(100, 0)
    matrix = MixedTable.of(people.schema, evidence.cohort.rows).associations()
    np.testing.assert_array_equal(matrix, matrix.T)
    turned = people.columns_reversed(evidence).cohort
    reverse = MixedTable.of(turned.schema, turned.rows).associations()
    np.testing.assert_allclose(reverse[::-1, ::-1], matrix, atol=1e-12)
