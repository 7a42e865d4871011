import numpy as np
import pytest

from mmbench.metrics._ssim import StructuralSimilarity, coarsened, halvings


def volumes(seed=0, channels=2):
    rng = np.random.default_rng(seed)
    first = rng.random((channels, 20, 18, 16))
    return first, 0.7 * first + 0.3 * rng.random(first.shape)


def similarity(a, b, mask=None, data_range=(1.0, 1.0)):
    mask = np.ones(a.shape[1:], dtype=bool) if mask is None else mask
    ssim = StructuralSimilarity(mask, np.array(data_range[: len(a)]))
    return ssim.similarity(ssim.moments(a), ssim.moments(b))


def test_parity_with_monai():
    torch = pytest.importorskip("torch")
    metrics = pytest.importorskip("monai.metrics")
    a, b = volumes()
    # MONAI takes only windows that lie within the volume whole.
    inner = np.zeros(a.shape[1:], dtype=bool)
    inner[5:-5, 5:-5, 5:-5] = True
    oracle = metrics.SSIMMetric(spatial_dims=3, data_range=1.0, win_size=11, kernel_sigma=1.5)
    expected = float(oracle(torch.tensor(a[None]), torch.tensor(b[None])))
    assert similarity(a, b, inner) == pytest.approx(expected, abs=1e-6)


def test_identical_volumes_are_wholly_alike_and_order_does_not_matter():
    a, b = volumes()
    assert similarity(a, a) == pytest.approx(1, abs=1e-12)
    assert similarity(a, b) == pytest.approx(similarity(b, a), abs=1e-12)
    assert similarity(a, b) < 1


def test_only_the_mask_counts_and_units_do_not():
    a, b = volumes()
    mask = np.zeros(a.shape[1:], dtype=bool)
    mask[:8] = True
    far = b.copy()
    far[:, 14:] = 0
    assert similarity(a, far, mask) == pytest.approx(similarity(a, b, mask), abs=1e-12)
    scaled = similarity(100 * a, 100 * b, data_range=(100.0, 100.0))
    assert scaled == pytest.approx(similarity(a, b), abs=1e-12)


def test_thick_slices_are_merged_last_and_no_axis_gets_shorter_than_the_window():
    assert halvings((80, 64, 16), (5, 5, 30)) == [(0, 1), (0, 1)]
    assert halvings((112, 88, 80), (4, 4, 6)) == [(0, 1, 2), (0, 1, 2)]
    assert halvings((12, 10, 8), (20, 20, 30)) == []
    assert halvings((96, 96, 48), (2, 2, 4)) == [(0, 1), (0, 1, 2), (0, 1, 2)]


def test_coarsening_averages_neighbours_and_leaves_an_odd_one_out():
    image = np.arange(2 * 5 * 4 * 3, dtype=float).reshape(2, 5, 4, 3)
    coarse = coarsened(image, [(0, 1)])
    assert coarse.shape == (2, 2, 2, 3)
    assert coarse[1, 1, 0, 2] == pytest.approx(image[1, 2:4, 0:2, 2].mean())
    assert coarsened(image, []) is image
