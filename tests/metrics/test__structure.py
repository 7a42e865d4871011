import numpy as np
import pytest
from scipy import stats as scipy_stats

from mmbench.metrics._contingency import theils_u
from mmbench.metrics._structure import Variables


@pytest.fixture
def table():
    rng = np.random.default_rng(0)
    x = rng.standard_normal(90)
    group = np.digitize(x + rng.standard_normal(90), [-0.6, 0.8]).astype(float)
    other = np.where(rng.random(90) < 0.5, group, rng.integers(0, 4, 90)).astype(float)
    tied = np.round(x + 0.7 * rng.standard_normal(90))
    tied[rng.random(90) < 0.2] = np.nan
    return np.column_stack([x, group, other, tied]), np.array([0, 3, 4, 0])


def length(table, levels, first, second):
    variables = Variables.of(table, levels)
    firsts, seconds = variables.pairs()
    return np.linalg.norm(variables.products().moments[(firsts == first) & (seconds == second)])


def test_lengths_are_the_known_strengths_of_association(table):
    codes, levels = table
    eta2 = scipy_stats.kruskal(*(codes[codes[:, 1] == g, 0] for g in range(3))).statistic / 89
    assert length(codes, levels, 0, 1) == pytest.approx(np.sqrt(eta2), abs=1e-12)
    counts = np.zeros((3, 4), int)
    np.add.at(counts, (codes[:, 1].astype(int), codes[:, 2].astype(int)), 1)
    v = scipy_stats.contingency.association(counts, method="cramer")
    assert length(codes, levels, 1, 2) / np.sqrt(2) == pytest.approx(v, abs=1e-12)
    whole = codes.copy()
    whole[:, 3] = np.nan_to_num(whole[:, 3])
    rho = scipy_stats.spearmanr(whole[:, 0], whole[:, 3]).statistic
    assert length(whole, levels, 0, 3) == pytest.approx(abs(rho), abs=1e-12)


def test_influences_are_those_of_the_jackknife(table):
    codes, levels = table
    products = Variables.of(codes, levels).products()
    left = np.array(
        [Variables.of(np.delete(codes, k, axis=0), levels).products().moments for k in range(len(codes))]
    )
    jackknife = (len(codes) - 1) * (left.mean(axis=0) - left)
    np.testing.assert_allclose(products.influences.mean(axis=0), 0, atol=1e-12)
    for ours, theirs in zip(products.influences.T, jackknife.T, strict=True):
        assert np.corrcoef(ours, theirs)[0, 1] > 0.995
        assert ours.std() == pytest.approx(theirs.std(), rel=0.1)


def test_a_column_that_does_not_vary_has_no_products(table):
    codes, levels = table
    codes[:, 0] = 5
    codes[:, 1] = 2
    variables = Variables.of(codes, levels)
    firsts, seconds = variables.pairs()
    products = variables.products()
    constant = np.isin(firsts, (0, 1)) | np.isin(seconds, (0, 1))
    assert not products.defined[(firsts == 0) | (seconds == 0)].any()
    assert (products.moments[constant] == 0).all()
    assert products.defined[~constant].all()


def test_theils_u_is_directed_exact_and_centred_without_association():
    rng = np.random.default_rng(0)
    y = rng.integers(0, 6, 5000)
    assert theils_u(y // 2, y) == pytest.approx(1, abs=0.001)
    # Knowing which of three pairs leaves one bit of log2(6).
    assert theils_u(y, y // 2) == pytest.approx(1 - np.log(2) / np.log(6), abs=0.005)
    chance = [theils_u(rng.integers(0, 4, 80), rng.integers(0, 5, 80)) for _ in range(300)]
    assert np.mean(chance) == pytest.approx(0, abs=0.01)
    x, z = rng.integers(0, 3, 200), rng.integers(0, 4, 200)
    cells = np.bincount(4 * x + z, minlength=12).reshape(3, 4)
    conditional = sum(row.sum() / 200 * scipy_stats.entropy(row) for row in cells.T)
    plain = 1 - conditional / scipy_stats.entropy(cells.sum(axis=1))
    own = scipy_stats.entropy(cells.sum(axis=1)) + 2 / 400
    corrected = (plain * scipy_stats.entropy(cells.sum(axis=1)) + (2 + 3 - 11) / 400) / own
    assert theils_u(x, z) == pytest.approx(corrected, abs=1e-12)


def test_theils_u_of_a_constant_or_nearly_missing_column_is_nan():
    assert np.isnan(theils_u(np.zeros(20, int), np.arange(20) % 3))
    assert np.isnan(theils_u(np.full(20, -1), np.arange(20) % 3))
