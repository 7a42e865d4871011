"""A bad metric must fail the tests that are there for it, and a sound one pass them."""

import numpy as np
import pytest
from scipy.linalg import sqrtm
from scipy.spatial.distance import cdist

from mmbench.api import TABLE, VOLUME, Card, Metric, Output, Score
from mmbench.validity import model, run
from mmbench.validity.instruments import of_instance
from mmbench.validity.trials import arrays_of

SMALL = model.Profile("small", 2, 80, (8,), (8,), (80,), 0, (1,))
WIDE = model.Profile("wide", 2, 60, (8,), (64,), (60,), 0, (1,))


class OfArrays(Metric):
    card = Card("For tests.")
    kind = "fidelity"
    needs = TABLE
    null = "columns"
    outputs = (Output("value", "Value", "A value.", "Much.", "lower", 0.0),)

    def scores(self, trial):
        return [Score("value", float(self.value(*arrays_of(trial)[:2])))]


class Share(OfArrays):
    outputs = (Output("value", "Value", "A value.", "Much.", "higher", 1.0, range=(0.0, 1.0)),)


class Energy(OfArrays):
    """Unbiased energy distance: sound, but for the order of additions."""

    outputs = (Output("value", "Value", "A value.", "Much.", "lower", 0.0),)

    def scores(self, trial):
        x, y = arrays_of(trial)[:2]
        if min(len(x), len(y)) < 3:
            return [Score("value", float("nan"), reason="too few records")]
        if not np.isfinite(x).all() or not np.isfinite(y).all():
            return [Score("value", float("nan"), reason="a value is missing")]
        if not np.ptp(x, axis=0).any():
            return [Score("value", float("nan"), reason="the reference does not vary")]

        def within(z):
            return cdist(z, z).sum() / (len(z) * (len(z) - 1))

        return [Score("value", float(2 * cdist(x, y).mean() - within(x) - within(y)))]


class PlugInFrechet(OfArrays):
    needs = VOLUME
    null = "noise"

    def scores(self, trial):
        x, y = (np.asarray(side.features)[:, 0] for side in (trial.reference, trial.synthetic))
        a, b = np.cov(x.T), np.cov(y.T)
        gap = x.mean(axis=0) - y.mean(axis=0)
        return [Score("value", float(gap @ gap + np.trace(a + b - 2 * sqrtm(a @ b).real)))]


class Constant(Share):
    def value(self, x, y):
        return 1.0


class MadeUp(Share):
    """Returns a good score where it has nothing to compare."""

    def value(self, x, y):
        return 1.0 if len(x) < 3 or not np.ptp(x) else np.exp(-np.abs(x.mean(axis=0) - y.mean(axis=0)).sum())


class Crashing(Share):
    def value(self, x, y):
        return np.linalg.inv(np.cov(x.T)).sum() and 0.5


class Unseeded(Share):
    def value(self, x, y):
        return np.random.default_rng().random()


class Leaving(Share):
    """Leaves in the trial what it then takes for its own: a wrong key."""

    def scores(self, trial):
        return [Score("value", trial.once("value", lambda: float(len(trial.reference))))]


class Taking(Leaving):
    def scores(self, trial):
        return [Score("value", trial.once("value", lambda: 0.0))]


class FarIsSafe(OfArrays):
    """Calls distance privacy: copies in a crowd do not disturb it."""

    kind = "privacy"
    null = "copies"
    outputs = (Output("value", "Value", "A value.", "Much.", "higher", 1.0, range=(0.0, 1.0)),)

    def scores(self, trial):
        _, y, train = arrays_of(trial)
        return [Score("value", float(min(1.0, np.median(cdist(y, train).min(axis=1)))))]


def passed(metric, *tests, profile=SMALL):
    instrument = of_instance(metric(), metric.__name__)
    return {r.test: r.passed for r in run.run([instrument], profile, run.tests_named(tests))}


def test_a_sound_distance_passes():
    found = passed(Energy, "V0", "V1", "V3", "V4", "V5", "V13", "V19", "V22", "V24")
    assert found == dict.fromkeys(found, True)


def test_the_uncorrected_frechet_distance_prefers_too_narrow_a_law():
    assert passed(PlugInFrechet, "V3", "V4", profile=WIDE) == {"V3": True, "V4": False}


def test_a_constant_sees_neither_a_shift_nor_its_null():
    assert passed(Constant, "V0", "V3", "V5") == {"V0": False, "V3": False, "V5": True}


@pytest.mark.parametrize("metric", [MadeUp, Crashing])
def test_numbers_made_up_and_exceptions_fail_on_degenerate_data(metric):
    assert passed(metric, "V24") == {"V24": False}


def test_what_is_not_seeded_is_found():
    assert passed(Unseeded, "V22") == {"V22": False}


def test_what_another_metric_left_in_the_trial_is_found():
    one, other = (of_instance(metric(), metric.__name__) for metric in (Leaving, Taking))
    found = {r.metric: r.passed for r in run.run([one, other], SMALL, run.tests_named(["V22"]))}
    assert found == {"Leaving": True, "Taking": False}


def test_distance_to_the_closest_record_is_no_alarm():
    assert passed(FarIsSafe, "V18") == {"V18": False}


def test_tests_follow_from_what_is_declared():
    found = passed(FarIsSafe, "V3", "V4", "V18")
    assert found["V3"] is None
    assert found["V4"] is None
    assert found["V18"] is not None


def test_a_metric_of_volumes_is_not_asked_about_tables():
    instrument = of_instance(PlugInFrechet(), "frechet")
    (result,) = run.run([instrument], SMALL, run.tests_named(["V15"]))
    assert result.passed is None
