import dataclasses

import numpy as np
import pandas as pd
import pytest

from mmbench.api import Column, Evidence, Schema, Trial
from mmbench.metrics._skill import MIN_ROWS
from mmbench.metrics.utility import CrossModalUtility, FeatureUtility, Utility, linked
from mmbench.testing import check_metric, toy_trial

QUICK = {"trees": 10, "resamples": 50}
LOST = "(lost against real)"
METRICS = {
    "utility": Utility,
    "table-from-image": CrossModalUtility,
    "image-from-table": CrossModalUtility,
    "table-from-features": FeatureUtility,
}


def details(metric, trial):
    return {(score.output, score.item): score for score in metric.scores(trial) if score.item}


def items(metric, trial):
    return {item: score.value for (_, item), score in details(metric, trial).items()}


def value(headline, trial, name="utility", **parameters):
    return headline(METRICS[name](**(QUICK | parameters)), trial)[name]


def by_target(people, scores):
    return {score.item: score for score in scores if score.item in people.schema.names}


def edited(people, evidence, **columns):
    return people.with_table(evidence, people.schema.coerce(evidence.cohort.rows.assign(**columns)))


def test_fresh_real_rows_teach_and_permuted_columns_do_not(people, headline):
    trial = people.trial()
    real = value(headline, trial)
    assert 0.05 < real.low < real.value < real.high < 1
    draws = [
        value(headline, people.trial(people.columns_permuted(trial.synthetic, seed))) for seed in range(8)
    ]
    assert np.mean([draw.value for draw in draws]) == pytest.approx(0, abs=0.07)
    assert max(draw.value for draw in draws) < real.low


def test_real_rows_teach_as_much_as_other_real_rows(people, headline):
    """A perfect generator reaches the ceiling: both are draws of the same law."""
    scores = [value(headline, people.trial(people.draw(300, seed), n=300)).value for seed in (50, 51, 52, 53)]
    ceiling = value(headline, people.trial(n=300)).value
    assert np.mean(scores) == pytest.approx(ceiling, abs=0.03)


def test_a_number_scores_as_in_a_plain_pipeline(people):
    """On a nearly normal column normal scores are nearly its standardised values."""
    from sklearn.compose import make_column_transformer
    from sklearn.ensemble import ExtraTreesRegressor, VotingRegressor
    from sklearn.impute import SimpleImputer
    from sklearn.linear_model import RidgeCV
    from sklearn.metrics import r2_score
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder, StandardScaler

    trial = people.trial(n=400)
    known, fresh = trial.synthetic.cohort.rows, trial.reference.cohort.rows
    numbers = make_pipeline(SimpleImputer(strategy="median", add_indicator=True), StandardScaler())
    pipeline = make_pipeline(
        make_column_transformer(
            (numbers, ["age", "hba1c", "activity"]), (OneHotEncoder(), ["sex", "ethnicity", "diabetes"])
        ),
        VotingRegressor(
            [
                ("ridge", RidgeCV(np.logspace(-2, 4, 13))),
                ("trees", ExtraTreesRegressor(200, min_samples_leaf=5, random_state=0)),
            ]
        ),
    )
    expected = r2_score(fresh["bmi"], pipeline.fit(known, known["bmi"]).predict(fresh))
    assert expected > 0.2
    assert items(Utility(**QUICK | {"trees": 100}), trial)["bmi"] == pytest.approx(expected, abs=0.02)


def test_a_level_scores_as_in_a_plain_pipeline(people):
    from sklearn.ensemble import ExtraTreesRegressor
    from sklearn.linear_model import RidgeCV
    from sklearn.metrics import brier_score_loss

    trial = people.trial(n=400)
    male = [side.cohort.rows["sex"].eq("M").to_numpy(float) for side in (trial.synthetic, trial.reference)]
    known, fresh = trial.synthetic.composition.to_numpy(), trial.reference.composition.to_numpy()
    learners = (
        RidgeCV(np.logspace(-2, 4, 13)),
        ExtraTreesRegressor(200, min_samples_leaf=5, random_state=0),
    )
    predicted = np.mean(
        [learner.fit(known, male[0]).predict(fresh).clip(0, 1) for learner in learners], axis=0
    )
    constant = trial.train.cohort.rows["sex"].eq("M").mean()
    expected = 1 - brier_score_loss(male[1], predicted) / np.mean((male[1] - constant) ** 2)
    found = details(CrossModalUtility(**QUICK | {"trees": 100}), trial)["table-from-image", "sex"].value
    assert found == pytest.approx(expected, abs=0.03)


def test_a_linear_law_has_the_skill_that_it_should(people):
    """Bmi is 3 standard normal draws around 0.06 age: age explains 0.9 of 9.9, hba1c more."""
    sides = [people.draw(n, seed) for n, seed in ((360, 0), (2000, 1), (2000, 2))]
    schema = Schema((Column("age", "continuous"), Column("bmi", "continuous")))
    train, synthetic, reference = (
        Evidence(
            dataclasses.replace(side.cohort, schema=schema, table=side.cohort.rows[["age", "bmi"]].copy())
        )
        for side in sides
    )
    share = np.var(0.06 * np.linspace(20, 75, 1001))
    found = items(Utility(**QUICK), Trial(reference, synthetic, train, 0))
    assert found["bmi"] == pytest.approx(share / (share + 9), abs=0.035)


def test_a_broken_association_lowers_its_own_target(people):
    trial = people.trial(n=300)
    rows = trial.synthetic.cohort.rows
    shuffled = rows["hba1c"].to_numpy()[np.random.default_rng(0).permutation(len(rows))]
    whole = items(Utility(**QUICK), trial)
    broken = items(Utility(**QUICK), people.trial(edited(people, trial.synthetic, hba1c=shuffled), n=300))
    assert whole["hba1c"] > 0.15
    assert broken["hba1c"] < 0.02
    assert broken["sex"] == pytest.approx(whole["sex"], abs=0.08)


def test_a_wrong_average_costs_and_no_target_costs_more_than_one(people):
    trial = people.trial()
    bmi = trial.synthetic.cohort.rows["bmi"]
    values = [
        items(Utility(**QUICK), people.trial(edited(people, trial.synthetic, bmi=bmi + shift)))["bmi"]
        for shift in (0, 2, 100)
    ]
    assert values[0] > values[1] + 0.1
    assert values[2] == -1


def test_columns_linked_by_formulas_are_no_features_of_each_other():
    def number(name, formula=None):
        return Column(name, "continuous", formula=formula)

    schema = Schema(
        (
            *(number(name) for name in ("age", "height", "weight", "waist", "hip", "e5")),
            number("bmi", "weight / (height / 100) ** 2"),
            number("whr", "waist / hip"),
            number("whtr", "waist / height + 1e5"),
            number("risk", "2 * bmi + age"),
        )
    )
    links = linked(schema)
    assert links["age"] == {"risk"}
    assert links["e5"] == set()
    assert links["weight"] == {"bmi", "risk"}
    assert links["hip"] == {"whr"}
    assert links["bmi"] == {"weight", "height", "whtr", "risk"}
    assert links["whr"] == {"waist", "hip", "whtr"}
    assert links["risk"] == {"bmi", "age", "weight", "height", "whtr"}


def test_arithmetic_is_no_utility():
    trial = toy_trial(120)
    hidden = items(Utility(**QUICK), trial)

    def undeclared(side):
        columns = tuple(dataclasses.replace(column, formula=None) for column in side.cohort.schema)
        return dataclasses.replace(side, cohort=dataclasses.replace(side.cohort, schema=Schema(columns)))

    sides = (undeclared(side) for side in (trial.reference, trial.synthetic, trial.train))
    assert hidden["bmi"] < 0.1
    assert items(Utility(**QUICK), Trial(*sides, trial.seed))["bmi"] > 0.7


@pytest.mark.parametrize("name", METRICS)
def test_orders_sizes_and_units_do_not_matter(people, headline, name):
    trial = people.trial(people.draw(70, 9))
    expected = value(headline, trial, name).value
    rng = np.random.default_rng(1)

    def scramble(side):
        side = people.columns_reversed(side.take(rng.permutation(len(side))))
        rows = side.cohort.rows
        rows = rows.assign(age=rows["age"] * 12, hba1c=rows["hba1c"] * 10.93 - 23.5)
        composition = side.composition[["lean_l", "fat_l"]] * 1000
        return dataclasses.replace(people.with_table(side, rows), composition=composition)

    assert np.isfinite(expected)
    assert value(headline, people.map_trial(trial, scramble), name).value == pytest.approx(expected, abs=1e-9)


def test_names_of_levels_do_not_matter(people, headline):
    trial = people.trial()
    renamed = {"a": "z", "b": "y", "c": "x"}
    columns = tuple(
        dataclasses.replace(column, levels=("x", "y", "z")) if column.name == "ethnicity" else column
        for column in people.schema
    )

    def rename(side):
        rows = side.cohort.rows
        table = Schema(columns).coerce(rows.assign(ethnicity=rows["ethnicity"].astype(object).map(renamed)))
        cohort = dataclasses.replace(side.cohort, schema=Schema(columns), table=table)
        return dataclasses.replace(side, cohort=cohort)

    expected = value(headline, trial).value
    assert value(headline, people.map_trial(trial, rename)).value == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("n", [40, 360])
def test_unequal_sizes_are_fine(people, headline, n):
    score = value(headline, people.trial(people.draw(n, 9)))
    assert 0 < score.value < 0.4


def test_trees_learn_from_no_more_records_than_they_may(people):
    trial = people.trial(n=200)
    by = [items(Utility(**QUICK, tree_records=limit), trial) for limit in (100, 200, 2000)]
    assert by[0]["(by trees)"] != by[1]["(by trees)"] == by[2]["(by trees)"]
    assert by[0]["(by ridge)"] == by[1]["(by ridge)"]


def test_one_wild_value_changes_little(people, headline):
    trial = people.trial()
    expected = value(headline, trial).value
    for name in ("synthetic", "reference"):
        side = getattr(trial, name)
        bmi = side.cohort.rows["bmi"].to_numpy(copy=True)
        bmi[0] = 1e6
        wild = dataclasses.replace(trial, **{name: edited(people, side, bmi=bmi)})
        assert value(headline, wild).value == pytest.approx(expected, abs=0.05)


def test_missing_features_are_filled_and_their_absence_is_a_feature(people):
    trial = people.trial(n=300)

    def telling(side):
        rows = side.cohort.rows
        return edited(people, side, hba1c=rows["hba1c"].mask(rows["diabetes"].astype(bool), np.nan))

    assert items(Utility(**QUICK), trial)["diabetes"] < 0.1
    assert items(Utility(**QUICK), people.map_trial(trial, telling))["diabetes"] > 0.25


def test_a_column_that_teaches_nothing_counts_as_nothing(people):
    trial = people.trial()
    lost = edited(people, trial.synthetic, hba1c=np.nan)
    head, *rest = Utility(**QUICK).scores(people.trial(lost))
    found = by_target(people, rest)
    assert np.isnan(found["hba1c"].value)
    assert found["hba1c"].reason == f"0 synthetic rows have a value; at least {MIN_ROWS} are needed"
    assert head.value == pytest.approx(np.nansum([score.value for score in found.values()]) / 7)


def test_a_target_that_the_reference_cannot_judge_is_left_out(people):
    trial = people.trial()
    healthy = np.arange(120) < 3
    reference = edited(people, trial.reference, diabetes=healthy)
    head, *rest = Utility(**QUICK).scores(dataclasses.replace(trial, reference=reference))
    found = by_target(people, rest)
    assert "3 differ from the commonest" in found["diabetes"].reason
    assert head.value == pytest.approx(np.nanmean([score.value for score in found.values()]))


def test_an_absent_level_costs_and_is_no_failure(people):
    trial = people.trial(n=300)
    men = edited(people, trial.synthetic, sex="M")
    whole, broken = (
        details(CrossModalUtility(**QUICK), trial)["table-from-image", "sex"].value
        for trial in (trial, people.trial(men, n=300))
    )
    assert whole > 0.5
    assert broken <= -0.7


def test_too_few_targets_give_a_reason(people, headline):
    trial = people.trial()
    constants = {"age": 50.0, "bmi": 25.0, "hba1c": 5.0, "activity": 1.0}
    flat = dataclasses.replace(trial, reference=edited(people, trial.reference, **constants))
    score = value(headline, flat)
    assert np.isnan(score.value)
    assert "only 3 of 7 targets could be learned and judged" in score.reason
    assert "age: 120 reference rows have a value and 0 differ from the commonest" in score.reason


@pytest.mark.parametrize("metric", [Utility, CrossModalUtility, FeatureUtility])
def test_too_few_rows_and_no_table_give_a_reason(people, headline, metric):
    trial = people.trial()
    small = dataclasses.replace(trial, synthetic=trial.synthetic.take(np.arange(MIN_ROWS - 1)))
    bare = dataclasses.replace(trial, synthetic=people.with_table(trial.synthetic, None))
    for broken, reason in ((small, "19 records"), (bare, "no table")):
        for score in headline(metric(), broken).values():
            assert np.isnan(score.value)
            assert reason in score.reason


@pytest.mark.parametrize("metric", [Utility, CrossModalUtility, FeatureUtility])
def test_contract(metric):
    check_metric(metric(**QUICK), toy_trial())
    tiny = toy_trial(6)
    check_metric(metric(**QUICK), dataclasses.replace(tiny, synthetic=tiny.synthetic.take(np.arange(2))))


def test_the_same_seed_gives_the_same_score_and_another_another(people, headline):
    trial = people.trial()
    first = value(headline, trial)
    assert value(headline, trial) == first
    assert value(headline, dataclasses.replace(trial, seed=7)).value != first.value
    assert value(headline, trial, trees=11).value != first.value


def test_the_interval_covers_what_other_records_give(people, headline):
    def scores(change):
        sides = ((people.draw(120, seed), people.draw(120, seed + 1)) for seed in range(200, 230, 2))
        trial = people.trial()
        return [
            value(headline, dataclasses.replace(trial, reference=reference, synthetic=change(synthetic)))
            for reference, synthetic in sides
        ]

    for change in (lambda side: side, people.columns_permuted):
        found = scores(change)
        mean = np.mean([score.value for score in found])
        # 3 standard errors below 95 % at 15 draws.
        assert np.mean([score.low <= mean <= score.high for score in found]) >= 0.78


def test_broken_pairs_teach_nothing_about_the_other_modality(people, headline):
    trial = people.trial()
    metric = CrossModalUtility(**QUICK)
    real = headline(metric, trial)
    rng = np.random.default_rng(0)
    draws = [
        headline(
            metric,
            people.trial(
                dataclasses.replace(
                    trial.synthetic, composition=trial.synthetic.composition.iloc[rng.permutation(120)]
                )
            ),
        )
        for _ in range(8)
    ]
    for name, least in (("table-from-image", 0.15), ("image-from-table", 0.5)):
        assert real[name].value > least
        values = [draw[name].value for draw in draws]
        assert np.mean(values) == pytest.approx(0, abs=0.1)
        assert max(values) < real[name].low


def test_details_of_either_direction_are_named_by_target(people):
    found = details(CrossModalUtility(**QUICK), people.trial())
    columns = {("table-from-image", name) for name in people.schema.names}
    quantities = {("image-from-table", "fat_l"), ("image-from-table", "lean_l")}
    assert {key for key in found if not key[1].startswith("(")} == columns | quantities
    assert found["table-from-image", "bmi"].value > 0.5
    assert found["table-from-image", "ethnicity"].value == pytest.approx(0, abs=0.1)


def test_volumes_that_cannot_be_measured_are_left_out_up_to_a_share(people, headline):
    trial = people.trial()

    def lose(share):
        composition = trial.synthetic.composition.copy()
        composition.iloc[: round(share * len(composition))] = np.nan
        return people.trial(dataclasses.replace(trial.synthetic, composition=composition))

    some = headline(CrossModalUtility(**QUICK), lose(0.1))["image-from-table"]
    kept = people.trial(trial.synthetic.take(np.arange(12, 120)))
    assert some.value == headline(CrossModalUtility(**QUICK), kept)["image-from-table"].value
    for score in headline(CrossModalUtility(), lose(0.3)).values():
        assert np.isnan(score.value)
        assert "30% of the volumes of the synthetic sample could not be measured" in score.reason
    for composition in (None, pd.DataFrame(index=range(120))):
        unmeasured = dataclasses.replace(trial.synthetic, composition=composition)
        for score in headline(CrossModalUtility(), people.trial(unmeasured)).values():
            assert "nothing was measured on the volumes of the synthetic sample" in score.reason


def test_what_real_rows_teach_is_what_they_would_score_as_synthetic_ones(people, headline):
    """With as many synthetic as training rows models of real rows see all of these."""
    train = people.draw(120, 0)
    trial = dataclasses.replace(people.trial(people.columns_permuted(people.draw(120, 2))), train=train)
    as_synthetic = value(headline, dataclasses.replace(trial, synthetic=train), trees=50)
    found = details(Utility(**QUICK | {"trees": 50}), trial)["utility", "(trained on real)"]
    assert found.value == pytest.approx(as_synthetic.value, abs=1e-9)
    assert (found.low, found.high) == pytest.approx((as_synthetic.low, as_synthetic.high), abs=1e-9)


def test_the_loss_is_paired_and_judged_against_the_margin(people):
    trial = people.trial(n=300)
    real = details(Utility(**QUICK), trial)
    loss = real["utility", LOST]
    head = Utility(**QUICK).scores(trial)[0]
    assert loss.value == pytest.approx(real["utility", "(trained on real)"].value - head.value)
    assert loss.high - loss.low < 1.2 * (head.high - head.low)  # 2**0.5 for independent subjects
    assert loss.low < 0.03
    assert real["utility", "(p of losing 0.05 or more)"].value < 0.1
    broken = details(Utility(**QUICK), people.trial(people.columns_permuted(trial.synthetic), n=300))
    assert broken["utility", LOST].low > 0.05
    assert broken["utility", "(p of losing 0.05 or more)"].value > 0.9
    assert ("utility", "(p of losing 0.5 or more)") in details(Utility(**QUICK, margin=0.5), trial)


def test_models_of_real_rows_predict_real_looking_rows_only(people):
    trial = people.trial(n=300)
    item = "(trained on real, tested on synthetic)"
    real = items(Utility(**QUICK), trial)
    broken = items(Utility(**QUICK), people.trial(people.columns_permuted(trial.synthetic), n=300))
    assert real[item] == pytest.approx(real["(trained on real)"], abs=0.06)
    assert broken[item] < -0.05


def test_training_on_real_and_testing_on_synthetic_is_as_in_a_plain_pipeline(people):
    from sklearn.ensemble import ExtraTreesRegressor
    from sklearn.linear_model import RidgeCV
    from sklearn.metrics import mean_squared_error
    from sklearn.preprocessing import QuantileTransformer

    trial = dataclasses.replace(people.trial(n=400), train=people.draw(400, 0))
    known, fresh = (side.composition.to_numpy() for side in (trial.train, trial.synthetic))
    scores = QuantileTransformer(n_quantiles=400, output_distribution="normal")
    told, truth = (
        scores.fit(trial.train.cohort.rows[["bmi"]]).transform(side.cohort.rows[["bmi"]]).ravel().clip(-3, 3)
        for side in (trial.train, trial.synthetic)
    )
    learners = (RidgeCV(np.logspace(-2, 4, 13)), ExtraTreesRegressor(200, min_samples_leaf=5, random_state=0))
    predicted = np.mean([learner.fit(known, told).predict(fresh) for learner in learners], axis=0)
    expected = 1 - mean_squared_error(truth, predicted) / np.mean((truth - told.mean()) ** 2)
    schema = Schema((people.schema["bmi"],))
    trial = people.map_trial(
        trial,
        lambda side: dataclasses.replace(
            side,
            cohort=dataclasses.replace(side.cohort, schema=schema, table=side.cohort.rows[["bmi"]].copy()),
        ),
    )
    found = details(CrossModalUtility(**QUICK | {"trees": 100}), trial)
    assert found["table-from-image", "(trained on real, tested on synthetic)"].value == pytest.approx(
        expected, abs=0.03
    )


def test_a_network_is_a_third_learner(people):
    trial = people.trial()
    two, three = (items(Utility(**QUICK, network=network), trial) for network in (False, True))
    assert "(by network)" not in two
    assert three["(by network)"] > 0.02
    assert three["(by ridge)"] == two["(by ridge)"]


def test_image_features_tell_what_they_show_and_broken_pairs_do_not(people):
    trial = people.trial(n=300)
    real = items(FeatureUtility(**QUICK), trial)
    broken = items(FeatureUtility(**QUICK), people.trial(people.pairs_broken(trial.synthetic), n=300))
    assert real["bmi"] > 0.1
    assert abs(real["ethnicity"]) < 0.1
    assert broken["bmi"] < 0.03
    assert broken[LOST] > real[LOST] + 0.01


def test_no_features_give_a_reason(people, headline):
    trial = people.trial()
    bare = dataclasses.replace(trial.synthetic, features=None)
    score = value(headline, people.trial(bare), "table-from-features")
    assert "no image features" in score.reason
    flat = people.map_trial(trial, lambda side: dataclasses.replace(side, features=0 * side.features))
    assert "no other column varies" in value(headline, flat, "table-from-features").reason
