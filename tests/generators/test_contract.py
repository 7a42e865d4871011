"""Every installed generator sits the same exam."""

import importlib.util

import numpy as np
import pytest

from mmbench import plugins
from mmbench.testing import check_generator, toy_cohort

QUICK = {
    "ctgan": {"epochs": 2},
    "tvae": {"epochs": 2},
    "joint-ldm": {
        "autoencoder_steps": 3,
        "steps": 3,
        "sampling_steps": 3,
        "cells": 64,
        "width": 16,
        "depth": 1,
    },
    "mri-ldm": {"autoencoder_steps": 3, "steps": 3},
}


@pytest.mark.parametrize("name", plugins.names("generators"))
def test_generator_keeps_the_contract(name, tmp_path):
    for package in plugins.load("generators", name).card.requires:
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"{name} needs {package}, which is not installed")
    generator = plugins.build("generators", name, QUICK.get(name, {}))
    check_generator(generator, toy_cohort(30), tmp_path)


def test_bootstrap_returns_training_pairs_and_permuted_does_not(tmp_path):
    train = toy_cohort(30)
    originals = {
        volume.tobytes(): row.weight_kg
        for volume, row in zip(train.images, train.rows.itertuples(), strict=True)
    }

    def paired_share(name):
        generator = plugins.build("generators", name, {})
        drawn = check_generator(generator, train, tmp_path / name)
        weights = drawn.rows["weight_kg"]
        return np.mean([originals[v.tobytes()] == w for v, w in zip(drawn.images, weights, strict=True)])

    for name in ("bootstrap", "permuted"):
        (tmp_path / name).mkdir()
    assert paired_share("bootstrap") == 1
    assert paired_share("permuted") < 0.5
