import numpy as np
import pandas as pd
import pytest

from mmbench.api import CohortError, Interrupted
from mmbench.sources.phantom import PhantomSource
from mmbench.sources.phantom.population import SCHEMA, draw_population

SMALL = {"subjects": 10, "shape": (44, 32, 9), "spacing": (10.0, 10.0, 56.0)}


class Context:
    device, seed = "cpu", 0

    def __init__(self, folder, stop_after=None, interrupt_at=None):
        self.folder, self.stop_after, self.interrupt_at = folder, stop_after, interrupt_at

    def steps(self, total, label):
        for step in range(total):
            if step == self.interrupt_at:
                raise Interrupted("stopped")
            if step == self.stop_after:
                return
            yield step

    def log(self, name, value, step):
        raise AssertionError("a source trains nothing")


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    return PhantomSource(**SMALL).load(Context(tmp_path_factory.mktemp("phantom")))


@pytest.fixture(scope="module")
def population():
    table, composition = draw_population(6000, seed=3)
    return pd.concat([table, composition], axis=1)


def test_volumes_have_the_declared_grid_and_channels(cohort):
    volume = cohort.images[0]
    assert volume.shape == (2, 44, 32, 9)
    assert volume.dtype == np.float32
    assert cohort.images.geometry.channels == ("water", "fat")
    assert cohort.images.geometry.spacing == pytest.approx((10.0, 10.0, 56.0))
    assert cohort.shareable
    assert cohort.ids[0] == "phantom-00001"


def test_same_seed_gives_the_same_bits_whatever_the_workers(cohort, tmp_path):
    again = PhantomSource(**SMALL, workers=3).load(Context(tmp_path))
    assert again.fingerprint() == cohort.fingerprint()
    pd.testing.assert_frame_equal(again.truth, cohort.truth)
    other = PhantomSource(**SMALL, seed=2).load(Context(tmp_path))
    assert other.fingerprint() != cohort.fingerprint()


def test_subjects_do_not_depend_on_how_many_there_are(cohort, tmp_path):
    fewer = PhantomSource(**{**SMALL, "subjects": 3}).load(Context(tmp_path))
    assert fewer.fingerprint() == cohort.take([0, 1, 2]).fingerprint()


def test_truth_adds_up(cohort):
    truth = cohort.truth
    np.testing.assert_allclose(truth.fat_l + truth.lean_l + truth.lung_l, truth.body_l)
    assert (truth.visceral_fat_l + truth.subcutaneous_fat_l < truth.fat_l).all()
    assert (truth.muscle_l + truth.liver_l < truth.body_l - truth.lung_l).all()
    assert (truth > 0).all().all()


def test_scratch_folder_is_left_empty(tmp_path):
    cohort = PhantomSource(**{**SMALL, "subjects": 2}).load(Context(tmp_path))
    assert list(tmp_path.iterdir()) == []
    assert np.isfinite(cohort.images.stack()).all()


def test_rendered_volumes_are_the_drawn_ones(tmp_path):
    source = PhantomSource(subjects=24, shape=(80, 64, 16), spacing=(5.5, 5.5, 32.0))
    cohort = source.load(Context(tmp_path))
    _, drawn = draw_population(24, seed=1)
    for truth, wanted in (("visceral_fat_l", "visceral_l"), ("liver_l", "liver_l")):
        ratio = cohort.truth[truth].to_numpy() / drawn[wanted].to_numpy()
        assert np.median(np.abs(ratio - 1)) < 0.01
        assert np.mean(np.abs(ratio - 1) < 0.05) >= 0.9


def test_without_noise_air_is_zero_and_pure_fat_is_one(tmp_path):
    source = PhantomSource(**{**SMALL, "subjects": 4}, noise=0.0, bias_field=0.0)
    water, fat = np.moveaxis(source.load(Context(tmp_path)).images.stack(), 1, 0)
    assert (fat[:, 0, 0] == 0).all()
    assert (water[:, 0, 0] == 0).all()
    assert fat.max() == pytest.approx(1.0, abs=0.02)


def test_noise_in_air_is_rayleigh(cohort):
    air = np.concatenate([cohort.images[i][:, :3, :3].ravel() for i in range(len(cohort))])
    # A little tolerance: the coil's shading multiplies signal, not noise.
    assert air.mean() == pytest.approx(0.03 * np.sqrt(np.pi / 2), rel=0.03)


def test_table_obeys_its_schema(population):
    table = population[SCHEMA.names]
    pd.testing.assert_frame_equal(SCHEMA.derive(table), table)
    for column in SCHEMA:
        values = table[column.name]
        assert values.isna().any() == column.missing
        if column.discrete:
            assert set(values.dropna().unique()) == set(column.levels)
        else:
            assert values.min() >= column.minimum
            assert values.max() <= column.maximum
            np.testing.assert_allclose(values, np.round(values, column.decimals or 0), atol=1e-9)


def test_population_meets_published_targets(population):
    european = population[population.ethnicity == "European"]
    men, women = european[european.sex == "M"], european[european.sex == "F"]
    # NAKO: heights, and obesity of 23.5 and 21.2 % at a little higher age.
    assert men.height_cm.mean() == pytest.approx(178, abs=0.6)
    assert women.height_cm.mean() == pytest.approx(165, abs=0.6)
    assert (men.bmi >= 30).mean() == pytest.approx(0.225, abs=0.045)
    assert (women.bmi >= 30).mean() == pytest.approx(0.205, abs=0.045)
    # UK Biobank MRI: 3.57 and 7.19 L.
    elder = european[european.age.between(55, 70)]
    assert elder.visceral_l.mean() == pytest.approx(3.57, rel=0.1)
    assert elder.abdominal_subcutaneous_l.mean() == pytest.approx(7.19, rel=0.1)
    # Janssen 2000: 33.0 and 21.0 kg.
    assert men.muscle_kg.mean() == pytest.approx(33.0, rel=0.1)
    assert women.muscle_kg.mean() == pytest.approx(21.0, rel=0.1)
    # R2 of visceral fat on BMI .36 and .40, on waist .48 and .56.
    for group, on_bmi, on_waist in ((men, 0.36, 0.48), (women, 0.40, 0.56)):
        assert np.corrcoef(group.visceral_l, group.bmi)[0, 1] ** 2 == pytest.approx(on_bmi, abs=0.09)
        assert np.corrcoef(group.visceral_l, group.waist_cm)[0, 1] ** 2 == pytest.approx(on_waist, abs=0.09)


def test_clinical_columns_hang_together(population):
    assert population.groupby("diabetes", observed=True).visceral_l.mean().diff().iloc[-1] > 2
    assert np.corrcoef(population.age, population.systolic_bp.fillna(123))[0, 1] > 0.3
    bmi = population.groupby("activity", observed=True).bmi.mean()
    assert bmi["low"] > bmi["moderate"] > bmi["high"]
    visceral = population[population.sex == "M"].groupby("ethnicity", observed=True).visceral_l.mean()
    assert visceral["African"] < visceral["European"]


def test_gaps_are_not_completely_at_random(population):
    gaps = population.systolic_bp.isna()
    assert gaps.mean() == pytest.approx(0.05, abs=0.012)
    assert population.age[gaps].mean() < population.age[~gaps].mean() - 5
    assert population.bmi[population.activity.isna()].mean() > population.bmi.mean()


def test_no_gaps_when_none_are_asked_for():
    table, _ = draw_population(300, seed=1, missing=0.0)
    assert not table.isna().any().any()


def test_composition_shows_in_the_volume(tmp_path):
    cohort = PhantomSource(**{**SMALL, "subjects": 40}).load(Context(tmp_path))
    fat = np.array([volume[1].sum() for volume in cohort.images])
    assert np.corrcoef(fat, cohort.truth.fat_l)[0, 1] > 0.98
    assert np.corrcoef(fat, cohort.rows.bmi)[0, 1] > 0.7


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"shape": (80, 64)}, "three numbers"),
        ({"shape": (80, 64, 2)}, "at least 4"),
        ({"spacing": (5.5, 0.0, 32.0)}, "positive"),
        ({"spacing": (2.0, 2.0, 20.0)}, "cuts the torso"),
    ],
)
def test_a_grid_that_holds_no_torso_is_refused(change, message, tmp_path):
    with pytest.raises(CohortError, match=message):
        PhantomSource(**{**SMALL, **change}).load(Context(tmp_path))


def test_a_spent_time_budget_is_an_error(tmp_path):
    with pytest.raises(CohortError, match="after 2 of 10 subjects"):
        PhantomSource(**SMALL).load(Context(tmp_path, stop_after=2))


def test_an_interruption_passes_through(tmp_path):
    with pytest.raises(Interrupted):
        PhantomSource(**SMALL).load(Context(tmp_path, interrupt_at=1))
