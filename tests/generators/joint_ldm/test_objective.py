import pytest
import torch

from mmbench.generators.joint_ldm.latents import Known, Latents, Levels, draw_known
from mmbench.generators.joint_ldm.objective import OBJECTIVES, draw_levels, loss, solve

MEAN, SPREAD, LINK = 1.5, 0.7, 0.9
N = 4000


def gaussian(objective):
    """The exact velocity of one number in each part: normal, of mean 1.5, spread 0.7 and correlation 0.9."""
    covariance = SPREAD**2 * torch.tensor([[1.0, LINK], [LINK, 1.0]])

    def network(noisy, levels):
        level = torch.cat([levels.image[:, None], levels.table], dim=1)
        s = objective.scales(level)
        floor = s.noise.clamp(min=1e-3)
        state = torch.cat([noisy.image[:, 0], noisy.table[:, 0]], dim=1)
        gain = s.signal[:, :, None] * covariance * s.signal[:, None, :] + torch.diag_embed(floor**2)
        pull = torch.linalg.solve(gain, (state - s.signal * MEAN)[:, :, None])
        clean = MEAN + (covariance @ (s.signal[:, :, None] * pull))[:, :, 0]
        pure = (state - s.signal * clean) / floor
        velocity = s.signal_rate * clean + s.noise_rate * pure
        return Latents(velocity[:, :1, None], velocity[:, 1:, None])

    return network


def draw(name, columns, table=None, image=None, **options):
    generator = torch.Generator().manual_seed(0)
    noise = Latents(*(torch.randn(N, 1, 1, generator=generator) for _ in range(2)))
    table = torch.zeros(N, 1, 1) if table is None else table
    known = Known(image, table, torch.tensor([[columns]]))
    return solve(gaussian(OBJECTIVES[name]), OBJECTIVES[name], noise, known, 40, **options)


@pytest.mark.parametrize("name", OBJECTIVES)
def test_the_sampler_reaches_the_distribution_that_the_network_knows(name):
    found = draw(name, columns=False)
    for part in found:
        assert part.mean() == pytest.approx(MEAN, abs=0.05)
        assert part.std() == pytest.approx(SPREAD, abs=0.05)
    pair = torch.stack([part.flatten() for part in found])
    assert torch.corrcoef(pair)[0, 1] == pytest.approx(LINK, abs=0.03)


@pytest.mark.parametrize("name", OBJECTIVES)
def test_what_is_known_is_kept_and_decides_the_rest(name):
    value = MEAN + SPREAD
    found = draw(name, columns=True, table=torch.full((N, 1, 1), value))
    assert (found.table == value).all()
    assert found.image.mean() == pytest.approx(MEAN + LINK * SPREAD, abs=0.05)
    assert found.image.std() == pytest.approx(SPREAD * (1 - LINK**2) ** 0.5, abs=0.05)
    found = draw(name, columns=False, image=torch.full((N, 1, 1), value))
    assert (found.image == value).all()
    assert found.table.mean() == pytest.approx(MEAN + LINK * SPREAD, abs=0.05)


def test_a_part_alone_has_its_own_distribution_and_the_other_stays_noise():
    found = draw("flow", columns=False, absent="image")
    assert found.table.mean() == pytest.approx(MEAN, abs=0.05)
    assert found.table.std() == pytest.approx(SPREAD, abs=0.05)
    assert found.image.std() == pytest.approx(1, abs=0.05)


def test_guidance_exaggerates_what_is_known():
    table = torch.full((N, 1, 1), MEAN + SPREAD)
    plain, guided = (draw("flow", columns=True, table=table, guidance=g).image.mean() for g in (0.0, 1.0))
    assert guided > plain + 0.1
    free = [draw("flow", columns=False, guidance=g).image for g in (0.0, 1.0)]
    torch.testing.assert_close(*free)


@pytest.mark.parametrize("name", OBJECTIVES)
def test_the_loss_is_that_of_the_best_denoiser(name):
    generator = torch.Generator().manual_seed(0)
    first, other = torch.randn(2, N, generator=generator)
    image, table = first, LINK * first + (1 - LINK**2) ** 0.5 * other
    clean = Latents(*((MEAN + SPREAD * x)[:, None, None] for x in (image, table)))
    noise = Latents(*(torch.randn(N, 1, 1, generator=generator) for _ in range(2)))
    levels, _ = draw_levels(N, 1, OBJECTIVES[name], generator)
    network, one = gaussian(OBJECTIVES[name]), torch.ones(1, 1)

    def biased(noisy, levels):
        return Latents(*(velocity + 0.3 for velocity in network(noisy, levels)))

    best, worse = (loss(n, OBJECTIVES[name], clean, levels, noise, one).item() for n in (network, biased))
    assert worse == pytest.approx(best + 2 * 0.3**2, abs=0.05)


def test_known_parts_are_left_out_of_the_loss():
    zeros = Latents(torch.zeros(2, 1, 1), torch.zeros(2, 2, 1))
    noise = Latents(torch.ones(2, 1, 1), torch.ones(2, 2, 1))
    levels = Levels(torch.tensor([0.0, 1.0]), torch.tensor([[0.0, 0.5], [1.0, 0.5]]))

    def network(noisy, levels):
        return Latents(torch.full((2, 1, 1), 9.0), torch.tensor([[[9.0], [1.0]], [[9.0], [1.0]]]))

    assert loss(network, OBJECTIVES["flow"], zeros, levels, noise, torch.ones(1, 1)) == 0


def test_training_meets_every_kind_of_question():
    generator = torch.Generator().manual_seed(0)
    levels, known = draw_levels(2000, 6, OBJECTIVES["flow"], generator)
    assert ((levels.table == 0) == known).all()
    count = known.sum(dim=1)
    assert {0, 1, 3, 6} <= set(count.tolist())
    assert (levels.image == 0).float().mean() == pytest.approx(0.07, abs=0.02)
    equal = (levels.table == levels.image[:, None]).all(dim=1).float().mean()
    assert equal == pytest.approx(0.45, abs=0.04)
    shared, _ = draw_levels(2000, 6, OBJECTIVES["flow"], generator, shared=True)
    assert set(shared.table.unique().tolist()) == {0.0, 1.0}
    assert (draw_known(2000, 6, generator).sum(dim=1) == 1).float().mean() == pytest.approx(0.58, abs=0.04)
