import math

import numpy as np
import pytest
import torch

from mmbench.api import Interrupted
from mmbench.generators.joint_ldm.optimisation import Pace, Randomness, Task, Training, learning_rate


def task(randomness, steps=40, validate=None):
    torch.manual_seed(0)
    module = torch.nn.Linear(3, 1)
    optimiser = torch.optim.AdamW(module.parameters(), 0.1)

    def loss(progress):
        x = torch.randn(8, 3, generator=randomness.torch)
        x = x + torch.from_numpy(randomness.numpy.normal(size=(8, 3))).float()
        picked = randomness.rows(3, 8)
        error = (module(x)[picked] - x[picked].sum(dim=1, keepdim=True)).square().mean()
        return error, {"loss": error}

    return Task("toy", module, optimiser, steps, 0.9, loss, validate)


def randomness():
    return Randomness(torch.Generator().manual_seed(1), np.random.default_rng(1))


def test_an_interrupted_training_ends_with_the_same_weights(kit, tmp_path):
    source = randomness()
    whole = task(source)
    Training(whole, source, tmp_path / "whole", "key").run(kit.Context(tmp_path))
    for stop in (1, 17, 39):
        folder = tmp_path / str(stop)
        source = randomness()
        with pytest.raises(Interrupted):
            Training(task(source), source, folder, "key").run(kit.Context(tmp_path, stop_at=stop))
        source, context = randomness(), kit.Context(tmp_path)
        again = task(source)
        Training(again, source, folder, "key").run(context)
        torch.testing.assert_close(again.module.weight, whole.module.weight, rtol=0, atol=0)
        assert [step for _, _, step in context.logged] == [0, 10, 20, 30]
        # What is finished is not trained again, and the next training draws what it would have drawn.
        after = source.torch.get_state()
        source = randomness()
        third = task(source)
        Training(third, source, folder, "key").run(kit.Context(tmp_path, budget=0))
        torch.testing.assert_close(third.module.weight, whole.module.weight, rtol=0, atol=0)
        assert torch.equal(source.torch.get_state(), after)


def test_a_checkpoint_of_something_else_is_ignored(kit, tmp_path):
    for key in ("one", "other"):
        source, context = randomness(), kit.Context(tmp_path)
        Training(task(source), source, tmp_path, key).run(context)
        assert len(context.logged) == 4


def test_the_best_averaged_weights_come_back_and_training_ends_early(kit, tmp_path):
    source, context = randomness(), kit.Context(tmp_path)
    seen = []

    def validate():
        seen.append(watched.module.weight.detach().clone())
        return abs(len(seen) - 3.0)

    watched = task(source, 200)
    watched.validate = validate
    Training(watched, source, tmp_path, "key").run(context)
    assert len(seen) < 20
    torch.testing.assert_close(watched.module.weight, seen[2])
    assert not watched.module.training


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


@pytest.mark.parametrize(("seconds", "expected"), [(None, 100), (1000.0, 100), (30.0, 30), (0.0, 4)])
def test_the_pace_ends_with_the_budget(seconds, expected):
    clock = Clock()
    pace = Pace(100, seconds, clock)
    while pace.progress < 1:
        clock.now += 1
        pace.step()
    assert pace.done == pytest.approx(expected, abs=2)


def test_the_learning_rate_rises_and_falls_to_nothing():
    rates = [learning_rate(p) for p in np.linspace(0, 1, 101)]
    assert rates[0] == pytest.approx(0.1)
    assert max(rates) == pytest.approx(1, abs=0.01)
    assert rates[-1] < 0.01
    assert all(math.isfinite(rate) for rate in rates)
