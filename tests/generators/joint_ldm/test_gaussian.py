import pytest
import torch

from mmbench.generators.joint_ldm.gaussian import GaussianGuess
from mmbench.generators.joint_ldm.latents import Latents


def linked(n, strength, seed):
    """Both parts of 20 numbers with one factor in common, of unit variance."""
    generator = torch.Generator().manual_seed(seed)
    factor = torch.randn(n, 1, 1, generator=generator)
    parts = [torch.randn(n, 5, 4, generator=generator) for _ in range(2)]
    return Latents(*(strength * factor + (1 - strength**2) ** 0.5 * part for part in parts))


def table_from_image(guess, clean, level=0.999):
    """Error of the table, expected from clean images."""
    one = torch.ones(1, 1, 1)
    noise = torch.randn(clean.table.shape, generator=torch.Generator().manual_seed(9))
    noisy = Latents(clean.image, (1 - level) * clean.table + level * noise)
    signal, noises = Latents(one * 0.999, one * (1 - level)), Latents(one * 0.001, one * level)
    return (guess(noisy, signal, noises).table - clean.table).square().mean().item()


def fitted(clean, **options):
    guess = GaussianGuess((5, 4), (5, 4), 2, **options)
    guess.fit(clean, torch.ones(5, 4))
    return guess


def test_one_part_is_expected_from_the_other_as_well_as_can_be():
    guess = fitted(linked(2000, 0.8, 0))
    error = table_from_image(guess, linked(2000, 0.8, 1))
    # The common factor is all but known from 20 numbers: what is left is each number's own variance, 1 - 0.8 ** 2.
    assert error == pytest.approx(0.36, abs=0.04)


def test_parts_apart_tell_nothing_of_each_other():
    clean = linked(500, 0.9, 0)
    guess = fitted(clean, apart=True)
    assert table_from_image(guess, clean) == pytest.approx(1, abs=0.1)


def test_records_are_independent_of_their_batch():
    guess, clean = fitted(linked(200, 0.8, 0)), linked(6, 0.8, 1)
    levels = torch.linspace(0.1, 0.9, 6)[:, None, None]
    each = Latents(1 - levels, 1 - levels.expand(6, 5, 1)), Latents(levels, levels.expand(6, 5, 1))
    whole = guess(clean, *each)
    for i in range(6):
        one = guess(
            Latents(*(part[i : i + 1] for part in clean)),
            *(Latents(*(part[i : i + 1] for part in scale)) for scale in each),
        )
        torch.testing.assert_close(one.table[0], whole.table[i])
        torch.testing.assert_close(one.image[0], whole.image[i])
