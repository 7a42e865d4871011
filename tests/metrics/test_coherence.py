import dataclasses

import numpy as np
import pandas as pd
import pytest

from mmbench import plugins
from mmbench.api import TABLE, VOLUME, Evidence, PluginError, Trial
from mmbench.metrics.coherence import Coherence
from mmbench.scoring import why_not


def battery(trial, **parameters):
    """Return the scores of a trial by item; the headline has none."""
    return {score.item: score for score in Coherence(**parameters).scores(trial)}


def kappa(trial):
    return battery(trial)[""]


def with_composition(side, change):
    return dataclasses.replace(side, composition=change(side.composition.copy()))


def test_fresh_real_pairs_carry_all_and_are_never_called_incoherent(people):
    for seed in range(0, 30, 3):
        head = kappa(people.trial(seed=seed))
        assert head.low < 1.05
        assert head.high > 0.95
        assert not head.verdict.startswith("INCOHERENT")


def test_broken_pairs_carry_nothing_and_are_called_unpaired(people):
    trial = people.trial()
    for seed in range(5):
        head = kappa(people.trial(people.pairs_broken(trial.synthetic, seed=seed)))
        assert head.low <= 0 <= head.high
        assert head.verdict == "INCOHERENT (unpaired)"


@pytest.mark.parametrize("share", [0.1, 0.3])
def test_a_share_of_broken_pairs_takes_that_share_away(people, share):
    whole, broken, likeliest = [], [], []
    for seed in range(0, 24, 3):
        trial = people.trial(n=300, seed=seed)
        whole.append(kappa(trial).value)
        found = battery(
            dataclasses.replace(trial, synthetic=people.pairs_broken(trial.synthetic, share, seed))
        )
        broken.append(found[""].value)
        likeliest.append(found["share of broken pairs"].value)
    assert np.mean(whole) == pytest.approx(1, abs=0.03)
    assert np.mean(broken) == pytest.approx(1 - share, abs=0.05)
    assert np.mean(likeliest) == pytest.approx(share, abs=0.05)


def test_shuffled_pairs_leave_every_score_of_one_modality_as_it_is(people):
    trial = people.trial(n=60)
    order = np.random.default_rng(0).permutation(60)
    side = trial.synthetic
    others = Evidence(side.cohort, side.composition.iloc[order], side.features[order])
    moved = Evidence(
        dataclasses.replace(side.cohort, table=side.cohort.rows.iloc[order].set_axis(side.cohort.rows.index)),
        side.composition,
        side.features,
    )
    # Each modality keeps its own order in one of the two.
    for needs, synthetic in ((TABLE, others), (VOLUME, moved)):
        for name in (
            "column-shapes",
            "associations",
            "table-coverage",
            "frechet",
            "image-mmd",
            "image-coverage",
        ):
            metric = plugins.build("metrics", name, {})
            if metric.needs != needs:
                continue
            shuffled = Trial(trial.reference, synthetic, trial.train, trial.seed)
            assert why_not(metric, trial) == "" or needs == VOLUME
            before, after = (list(metric.scores(one)) for one in (trial, shuffled))
            assert [(s.output, s.item, s.value) for s in before] == [
                (s.output, s.item, s.value) for s in after
            ]
    assert kappa(people.trial(others, n=60)).value == pytest.approx(0, abs=0.2)


def test_rows_are_read_off_the_volumes_as_in_real_people_or_not_at_all(people):
    trial = people.trial(n=400)
    whole = battery(trial)
    broken = battery(dataclasses.replace(trial, synthetic=people.pairs_broken(trial.synthetic)))
    damped = with_composition(trial.synthetic, lambda c: 0.5 * c + 0.5 * c.mean())
    steep = battery(dataclasses.replace(trial, synthetic=damped))
    for name in ("slope of bmi on the volume", "slope of sex=M on the volume"):
        assert whole[name].low < 1 < whole[name].high
        assert broken[name].low < 0 < broken[name].high
        assert not whole[name].verdict
    assert steep["slope of bmi on the volume"].low > 1.3


def test_another_mix_of_people_is_no_incoherence(people):
    words = []
    for seed in range(0, 24, 3):
        pool = people.draw(900, seed + 50)
        age = pool.cohort.rows["age"].to_numpy(float)
        chosen = np.argsort(age + 8 * np.random.default_rng(seed).standard_normal(900))[-300:]
        trial = people.trial(pool.take(np.sort(chosen)), n=300, seed=seed)
        words.append(kappa(trial).verdict)
    assert not any(word.startswith("INCOHERENT") for word in words)


@pytest.mark.parametrize(
    ("change", "subtype"),
    [
        (lambda c: c.assign(lean_l=c["lean_l"] * 1.2), "biased"),
        (lambda c: c.assign(fat_l=2 * c["fat_l"].mean() - c["fat_l"]), "biased"),
    ],
)
def test_shifted_and_flipped_quantities_are_biased_not_unpaired(people, change, subtype):
    trial = people.trial(n=300)
    head = kappa(dataclasses.replace(trial, synthetic=with_composition(trial.synthetic, change)))
    assert head.verdict == f"INCOHERENT ({subtype})"


def test_too_little_scatter_is_over_coherent(people):
    trial = people.trial(n=300)
    rows = trial.synthetic.cohort.rows
    male, bmi = (rows["sex"] == "M").to_numpy(float), rows["bmi"].to_numpy(float)

    def tighten(composition):
        expected = {"fat_l": bmi - 3 * male, "lean_l": 30 + 8 * male + 0.4 * bmi}
        return pd.DataFrame(
            {name: expected[name] + 0.4 * (composition[name] - expected[name]) for name in composition},
            index=composition.index,
        )

    head = kappa(dataclasses.replace(trial, synthetic=with_composition(trial.synthetic, tighten)))
    assert head.value > 1.05
    assert head.verdict == "INCOHERENT (over-coherent)"


def test_many_real_records_are_shown_to_be_coherent_and_few_leave_it_open(people):
    trial = Trial(people.draw(1500, 1), people.draw(1500, 2), people.draw(3000, 3), 0)
    found = battery(trial)
    assert found[""].verdict == "COHERENT"
    statistics = [score for score in found.values() if score.note.startswith("margin")]
    assert {score.verdict for score in statistics} == {"within"}
    few = kappa(people.trial(n=60))
    assert few.verdict == "INDETERMINATE"
    assert "records are needed" in few.note


def test_primary_statistics_carry_their_margins_and_standing(people):
    trial = people.trial(n=300)
    found = battery(
        dataclasses.replace(trial, synthetic=people.pairs_broken(trial.synthetic)), kappa_margin=0.2
    )
    assert found["kappa"].note == "margin 0.8 to 1.2"
    assert found["kappa"].verdict == "beyond"
    assert found["slope of fat_l"].verdict == "beyond"
    assert found["shift of fat_l"].verdict != "beyond"
    assert found["p"].value <= 0.05


def test_subgroups_are_assessed_where_they_are_large_enough(people):
    found = battery(people.trial(n=300))
    assert found["kappa of sex=F"].value == pytest.approx(1, abs=0.15)
    assert found["kappa of ethnicity=c"].reason.endswith("50 are needed")
    names = [item for item in found if item.startswith("kappa of ")]
    assert sum(name.startswith("kappa of age ") for name in names) == 3


def test_pairs_broken_in_one_group_alone_forbid_coherence(people):
    trial = Trial(people.draw(1500, 1), people.draw(1500, 2), people.draw(3000, 3), 0)
    rows = trial.synthetic.cohort.rows
    group = np.flatnonzero((rows["ethnicity"] == "c").to_numpy())
    order = np.arange(1500)
    order[group] = np.random.default_rng(0).permutation(group)
    broken = Evidence(
        trial.synthetic.cohort, trial.synthetic.composition.iloc[order], trial.synthetic.features[order]
    )
    head = kappa(dataclasses.replace(trial, synthetic=broken))
    assert head.verdict != "COHERENT"


def test_features_take_the_place_of_quantities_that_nobody_measured(people):
    def bare(side):
        # Features that follow the row, as an extractor's would.
        rows = side.cohort.rows
        features = side.features.copy()
        features[:, :, 0] += 0.5 * rows["bmi"].to_numpy(float)[:, None]
        features[:, :, 1] += 3.0 * (rows["sex"] == "M").to_numpy(float)[:, None]
        return Evidence(side.cohort, None, features)

    trial = people.map_trial(people.trial(n=300), bare)
    head = kappa(trial)
    assert "what image features tell" in head.note
    assert head.value == pytest.approx(1, abs=0.15)
    order = np.random.default_rng(0).permutation(300)
    side = trial.synthetic
    shuffled = Evidence(side.cohort, None, side.features[order])
    assert kappa(dataclasses.replace(trial, synthetic=shuffled)).verdict == "INCOHERENT (unpaired)"


def test_what_cannot_be_assessed_says_why(people):
    trial = people.trial()
    noise = np.random.default_rng(0)

    def unrelated(side):
        return with_composition(side, lambda c: c.apply(lambda column: noise.random(len(column))))

    def lost(share):
        def lose(composition):
            composition.iloc[: round(share * len(composition))] = np.nan
            return composition

        return dataclasses.replace(trial, synthetic=with_composition(trial.synthetic, lose))

    cases = {
        "explain less": people.map_trial(trial, unrelated),
        "30% of the volumes of the synthetic sample could not be measured": lost(0.3),
        "nothing was measured": people.map_trial(trial, lambda side: Evidence(side.cohort)),
        "records": Trial(trial.reference.take(np.arange(5)), trial.synthetic, trial.train, 0),
    }
    for reason, case in cases.items():
        head = kappa(case)
        assert np.isnan(head.value)
        assert head.verdict == "NOT ASSESSABLE"
        assert reason in head.reason
    assert kappa(lost(0.1)).value == pytest.approx(kappa(trial).value, abs=0.1)


def test_orders_and_units_do_not_matter(people):
    trial = people.trial(people.draw(80, 9))
    rng = np.random.default_rng(1)

    def scramble(side):
        side = people.columns_reversed(side.take(rng.permutation(len(side))))
        return dataclasses.replace(side, composition=1000 * side.composition[["lean_l", "fat_l"]])

    assert kappa(people.map_trial(trial, scramble)).value == pytest.approx(kappa(trial).value, abs=1e-6)


def test_intervals_of_kappa_cover_one(people):
    held = []
    for seed in range(0, 120, 3):
        head = kappa(people.trial(seed=seed))
        held.append(head.low <= 1 <= head.high)
    assert np.mean(held) >= 0.85


def test_unpaired_is_said_of_those_that_could_be_measured_and_nothing_else(people):
    trial = people.trial(n=300)

    def lose(composition):
        composition.iloc[::3] = np.nan
        return composition

    sound, broken = (
        kappa(dataclasses.replace(trial, synthetic=with_composition(synthetic, lose)))
        for synthetic in (trial.synthetic, people.pairs_broken(trial.synthetic))
    )
    assert sound.verdict == "NOT ASSESSABLE"
    assert np.isnan(sound.value)
    assert broken.verdict == "INCOHERENT (unpaired)"
    assert "33% of the volumes of the synthetic sample" in broken.note


def test_what_the_table_states_itself_is_no_evidence(people):
    trial = people.trial(n=300)

    def repeated(side):
        return with_composition(side, lambda c: c.assign(bmi=side.cohort.rows["bmi"].to_numpy(float)))

    before, after = battery(trial), battery(people.map_trial(trial, repeated))
    assert after[""].value == before[""].value
    assert "limit: bmi measured against stated" in after
    assert "shift of bmi" not in after


def test_limits_that_no_real_person_crosses_are_counted(people):
    trial = people.trial()

    def stated(side):
        # A quantity that the table states too, and one that holds another.
        c = side.composition
        bmi = side.cohort.rows["bmi"].to_numpy(float)
        return dataclasses.replace(
            side, composition=c.assign(bmi=bmi + 0.1, body_l=c["fat_l"] + c["lean_l"] + 10)
        )

    plain = people.map_trial(trial, stated)
    found = battery(plain)
    assert found["limit: a part larger than the whole"].value == 0
    assert found["limit: bmi measured against stated"].value <= 0.05

    def spoil(composition):
        composition.iloc[:12, composition.columns.get_loc("body_l")] = 1.0
        composition.iloc[:30, composition.columns.get_loc("bmi")] += 10
        return composition

    spoilt = battery(dataclasses.replace(plain, synthetic=with_composition(plain.synthetic, spoil)))
    assert spoilt["limit: a part larger than the whole"].value == pytest.approx(0.1)
    assert spoilt["limit: bmi measured against stated"].value == pytest.approx(0.25, abs=0.05)
    assert "of real records" in spoilt["limit: bmi measured against stated"].note


def test_primary_quantities_can_be_named(people):
    trial = people.trial()
    found = battery(trial, primary=("lean_l",))
    assert "slope of lean_l" in found
    assert "slope of fat_l" not in found
    with pytest.raises(PluginError, match="no quantity 'fat'; known: fat_l, lean_l"):
        battery(trial, primary=("fat",))
