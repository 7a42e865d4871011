import dataclasses

import pytest

from mmbench.metrics._verdict import Deviation, Statistic, decide

KAPPA = Statistic("kappa", "", 1.0, 0.01, 0.9, 1.1)
SLOPE = Statistic("slope", "fat_l", 1.0, 0.02, 0.9, 1.1)
SCATTER = Statistic("scatter", "fat_l", 1.0, 0.02, 1 / 1.15, 1.15, logarithm=True)
PRIMARY = [KAPPA, SLOPE, SCATTER]
QUIET = {"association": 0.4, "conditional": 0.6, "kappa": 0.9}
LOUD = {"association": 0.4, "conditional": 1e-4, "kappa": 1e-6}


def judged(primary, tests, *, own=1.0, explanation="dependence", weakest=""):
    return decide(primary, tests, Deviation(primary[0], own, explanation), 300, 0.05, weakest)


def changed(statistic, **values):
    return dataclasses.replace(statistic, **values)


def test_equivalence_of_all_statistics_is_coherence_whatever_the_tests_say():
    assert judged(PRIMARY, QUIET).label == "COHERENT"
    assert judged(PRIMARY, LOUD).label == "COHERENT"


def test_nothing_found_is_not_coherence():
    vague = [KAPPA, changed(SLOPE, error=0.1), SCATTER]
    verdict = judged(vague, QUIET)
    assert verdict.label == "INDETERMINATE"
    assert "slope of fat_l" in verdict.why


def test_needed_records_show_coherence_with_the_promised_power():
    vague = changed(SLOPE, error=0.1)
    factor = vague.enlarged(0.05)
    # At that size both one-sided tests reject with probability 0.8 where the slope is 1.
    from scipy.stats import norm

    error = vague.error / factor**0.5
    reach = 0.1 - norm.isf(0.05) * error
    assert 1 - 2 * norm.sf(reach / error) == pytest.approx(0.8, abs=1e-9)


def test_a_test_that_rejects_needs_an_effect_beyond_its_margin():
    trifle = [changed(KAPPA, value=0.95, error=0.04), SLOPE, SCATTER]
    assert judged(trifle, LOUD).label == "INDETERMINATE"
    large = [changed(KAPPA, value=0.7), SLOPE, SCATTER]
    assert judged(large, QUIET).label == "INDETERMINATE"
    assert judged(large, LOUD).word == "INCOHERENT"


@pytest.mark.parametrize(
    ("kappa", "slope", "scatter", "own", "explanation", "subtype"),
    [
        (0.01, 0.0, 2.0, 0.02, "partially paired", "unpaired"),
        (0.01, 0.0, 2.0, 0.02, "dependence", "unpaired"),
        (0.7, 0.7, 1.6, 0.5, "partially paired", "partially paired"),
        (0.0, -0.5, 1.5, 0.8, "dependence", "biased"),
        (0.9, 0.8, 1.0, 0.7, "dependence", "biased"),
        (0.9, 1.0, 1.3, 0.9, "scatter", "biased"),
        (1.1, 1.0, 0.6, 1.0, "scatter", "over-coherent"),
        (1.1, 1.0, 0.6, 1.0, "dependence", "over-coherent"),
        (1.1, 0.7, 0.6, 1.0, "dependence", "biased"),
    ],
)
def test_subtypes_follow_their_precedence(kappa, slope, scatter, own, explanation, subtype):
    primary = [changed(KAPPA, value=kappa), changed(SLOPE, value=slope), changed(SCATTER, value=scatter)]
    assert judged(primary, LOUD, own=own, explanation=explanation).label == f"INCOHERENT ({subtype})"


def test_a_broken_subgroup_forbids_coherence():
    verdict = judged(PRIMARY, QUIET, weakest="ethnicity=c")
    assert verdict.label == "INDETERMINATE"
    assert "ethnicity=c" in verdict.why
