"""What a run reads beside its cohort obeys the cohort's schema and lies on its grid, or is refused."""

import dataclasses

import nibabel
import numpy as np
import pytest
from rich.console import Console

from mmbench.cohort import Cohort, Volumes, save_cohort
from mmbench.config import Config
from mmbench.display import make_display
from mmbench.errors import ConfigError, UsageError
from mmbench.inputs import load_inputs, section_of
from mmbench.schema import Column, Schema
from mmbench.testing import toy_cohort

REAL, SYNTHETIC, TRAINING = toy_cohort(40, 0), toy_cohort(20, 1), toy_cohort(30, 2)


@pytest.fixture
def load(tmp_path):
    """Return a function that reads samples, a cohort or a section, beside a real cohort."""
    count = iter(range(100))

    def section(records):
        if not isinstance(records, Cohort):
            return records
        return {"source": "saved", "path": save_cohort(records, tmp_path / f"saved-{next(count)}")}

    def read(samples=None, training=None, real=REAL, **settings):
        config = Config(
            cohort=section(real),
            training=None if training is None else section(training),
            samples={} if samples is None else {"mine": section(samples)},
            **settings,
        )
        scratch = tmp_path / f"scratch-{next(count)}"
        scratch.mkdir()
        return load_inputs(config, scratch, make_display(Console()))

    return read


@pytest.fixture
def table(tmp_path):
    """Return a function that writes samples as a table with paths to NIfTI volumes, and returns its section."""

    def write(change=lambda frame: frame, cohort=SYNTHETIC, name="table"):
        folder = tmp_path / name
        folder.mkdir()
        frame = cohort.rows.astype(object)
        frame["volume"] = [f"{one}.nii" for one in cohort.ids]
        for one, volume in zip(cohort.ids, cohort.images, strict=True):
            image = nibabel.Nifti1Image(volume[0], cohort.images.geometry.matrix)
            nibabel.save(image, folder / f"{one}.nii")
        change(frame).to_csv(folder / "table.csv", na_rep="n/a")
        return {"source": "folder", "path": folder / "table.csv", "channels": ["c0"]}

    return write


def with_columns(cohort, **attributes):
    """Return a cohort whose columns have other attributes, its table typed by them."""
    columns = tuple(dataclasses.replace(c, **attributes.get(c.name, {})) for c in cohort.schema)
    schema = Schema(columns)
    return dataclasses.replace(cohort, schema=schema, table=schema.coerce(cohort.rows.astype(object)))


def problems(load, *arguments, **settings):
    with pytest.raises(UsageError) as caught:
        load(*arguments, **settings)
    return str(caught.value)


class TestSamples:
    def test_every_form_gives_the_same_records(self, load, table):
        saved = load(SYNTHETIC).samples["mine"].cohort
        files = load(table()).samples["mine"].cohort
        assert saved.rows.equals(files.rows.set_axis(saved.rows.index))
        assert saved.schema == files.schema == REAL.schema
        # Nobody divided the real intensities, so nobody divides these.
        assert np.array_equal(saved.images.stack(), files.images.stack())
        assert not set(saved.ids) & set(REAL.ids)

    def test_files_are_read_as_the_real_ones_were(self, load, table):
        asked = {"normalise": "shared-percentile", "spacing": [40, 40, 60]}
        asked["schema"] = {"children": {"kind": "integer"}}
        found = load(table(), real=table(cohort=REAL, name="real") | asked)
        real, samples = found.cohort.images, found.samples["mine"].cohort.images
        assert real.geometry == samples.geometry
        for volumes in (real, samples):
            assert volumes.geometry.spacing == (40, 40, 60)
            assert volumes.scales is not None

    def test_what_a_generator_made_of_a_column_is_no_mistake(self, load, table):
        def collapsed(frame):
            frame[["sex", "smoker"]] = "F", True
            frame["height_cm"] = 999
            frame.iloc[0, frame.columns.get_loc("activity")] = None
            frame["volume"] = frame["volume"].iloc[0]
            return frame.assign(remark=[f"free text {i}" for i in range(len(frame))])

        found = load(table(collapsed)).samples["mine"].cohort
        assert list(found.rows) == REAL.schema.names
        assert (found.rows["height_cm"] == 999).all()

    def test_own_schema_does_not_matter(self, load):
        other = with_columns(SYNTHETIC, sex={"levels": ("X", "M", "F")}, children={"kind": "continuous"})
        found = load(other).samples["mine"].cohort
        assert found.rows["sex"].cat.categories.tolist() == ["F", "M"]
        assert (found.rows["sex"].to_numpy() == SYNTHETIC.rows["sex"].to_numpy()).all()

    @pytest.mark.parametrize("form", ["saved", "table"])
    def test_values_and_columns_that_the_real_table_cannot_have(self, load, table, form):
        def change(frame):
            frame = frame.drop(columns="weight_kg").astype({"sex": object})
            frame.iloc[3, frame.columns.get_loc("sex")] = "Q"
            return frame

        if form == "table":
            samples, place = table(change), "table.csv"
        else:
            columns = [dataclasses.replace(c, formula=None) for c in REAL.schema if c.name != "weight_kg"]
            columns[0] = Column("sex", "categorical", levels=("F", "M", "Q"))
            schema = Schema(tuple(columns))
            frame = schema.coerce(change(SYNTHETIC.rows))
            samples, place = dataclasses.replace(SYNTHETIC, schema=schema, table=frame), "saved-1"
        message = problems(load, samples)
        assert f"{place}: column 'weight_kg' is absent" in message
        assert f"{place}: column 'sex', row toy-003: 'Q' is not among the levels ['F', 'M']" in message

    def test_a_level_that_the_real_table_does_not_show(self, load, table):
        message = problems(load, table(), real=table(cohort=REAL, name="real"))
        assert "column 'children', row toy-002: '5.0' is not among the levels [0, 1, 2, 3, 4, 7]" in message
        assert "cohort.schema" in message

    def test_another_grid(self, load):
        geometry = SYNTHETIC.images.geometry
        cut = Volumes(SYNTHETIC.images.stack()[:, :, 2:], dataclasses.replace(geometry, shape=(10, 10, 8)))
        message = problems(load, dataclasses.replace(SYNTHETIC, volumes=cut))
        for part in ("samples.mine", "(10, 10, 8)", "(12, 10, 8)", "20 x 20 x 30 mm", "'spacing'"):
            assert part in message
        moved = np.array(geometry.affine)
        moved[0, 3] = 5
        elsewhere = dataclasses.replace(geometry, affine=tuple(map(tuple, moved.tolist())))
        volumes = Volumes(SYNTHETIC.images.stack(), elsewhere)
        assert "affine" in problems(load, dataclasses.replace(SYNTHETIC, volumes=volumes))
        named = Volumes(SYNTHETIC.images.stack(), dataclasses.replace(geometry, channels=("fat",)))
        message = problems(load, dataclasses.replace(SYNTHETIC, volumes=named))
        assert "['fat']" in message
        assert "['c0']" in message

    def test_one_modality_is_enough_and_none_is_not(self, load):
        rows = dataclasses.replace(SYNTHETIC, volumes=None)
        volumes = dataclasses.replace(SYNTHETIC, table=None, schema=Schema(()))
        assert load(rows).samples["mine"].cohort.modalities == {"table"}
        assert load(volumes).samples["mine"].cohort.modalities == {"volume"}
        assert "nothing to compare" in problems(load, volumes, real=dataclasses.replace(REAL, volumes=None))

    @pytest.mark.parametrize(("training", "size"), [(None, 8), (TRAINING, 20)])
    def test_too_few_records_and_the_advice_given(self, load, training, size):
        few = SYNTHETIC.take(range(5))
        message = problems(load, few, training)
        assert f"5 records, but the reference has {size}" in message
        shares = dict(pair.split("=") for pair in message.rstrip(".").split() if pair.startswith("split."))
        split = {role.removeprefix("split."): float(share) for role, share in shares.items()}
        assert len(load(few, training, split=split).roles.reference) <= 5

    def test_copies_of_real_scans_are_known_as_such(self, load):
        assert not load(SYNTHETIC).samples["mine"].copies
        mixed = np.concatenate([SYNTHETIC.images.stack()[:-1], REAL.images.stack()[:1]])
        samples = dataclasses.replace(SYNTHETIC, volumes=Volumes(mixed, REAL.images.geometry))
        assert load(samples).samples["mine"].copies

    def test_the_schema_is_the_cohorts_and_a_name_has_one_meaning(self, load, table):
        with pytest.raises(ConfigError, match=r"samples\.mine\.schema"):
            load(table() | {"schema": {"sex": {"kind": "categorical"}}})
        with pytest.raises(ConfigError, match="a generator has this name"):
            load(SYNTHETIC, generators={"mine": {}})
        with pytest.raises(ConfigError, match=r"samples\.mine: 'source' is required"):
            load({"path": "x"})


class TestTraining:
    def test_given_records_are_the_training_role(self, load, capsys):
        found = load(training=TRAINING)
        roles = found.roles
        assert len(found.cohort) == 70
        assert (len(roles.train), len(roles.reference), len(roles.floor)) == (30, 20, 20)
        train = found.cohort.take(roles.train)
        assert np.array_equal(train.images.stack(), TRAINING.images.stack())
        assert train.rows["bmi"].tolist() == TRAINING.rows["bmi"].tolist()
        held_out = found.cohort.take([*roles.reference, *roles.floor])
        assert {v.tobytes() for v in held_out.images} == {v.tobytes() for v in REAL.images}
        # Both cohorts number their subjects alike, and yet they are different people.
        assert len(set(found.cohort.people)) == 70
        assert "30 identifiers are those of real records (toy-000" in " ".join(
            capsys.readouterr().out.split()
        )

    def test_gaps_are_allowed_where_either_has_some(self, load):
        gaps = TRAINING.rows.copy()
        gaps.iloc[0, gaps.columns.get_loc("smoker")] = None
        schema = Schema(tuple(dataclasses.replace(c, missing=True) for c in TRAINING.schema))
        found = load(training=dataclasses.replace(TRAINING, schema=schema, table=gaps))
        missing = {column.name: column.missing for column in found.cohort.schema}
        assert missing["smoker"]
        assert not missing["sex"]

    def test_records_in_both_are_refused(self, load):
        both = dataclasses.replace(
            TRAINING, volumes=Volumes(np.concatenate([TRAINING.images.stack()[:-1], REAL.images.stack()[:1]]), REAL.images.geometry)
        )  # fmt: skip
        assert "toy-029" in problems(load, training=both)
        assert "40 records" in problems(
            load,
            real=dataclasses.replace(REAL, volumes=None),
            training=dataclasses.replace(REAL, volumes=None),
        )

    def test_all_that_the_real_records_have_is_needed(self, load):
        assert "no volume" in problems(load, training=dataclasses.replace(TRAINING, volumes=None))


def test_what_lies_at_a_path_is_recognised(tmp_path):
    saved = save_cohort(REAL.take(range(3)), tmp_path / "saved")
    bids = tmp_path / "bids"
    (bids / "sub-01").mkdir(parents=True)
    lone = tmp_path / "lone"
    lone.mkdir()
    (lone / "rows.csv").write_text("age\n3\n")
    assert section_of(saved)["source"] == "saved"
    assert section_of(bids)["source"] == "bids"
    for path in (lone, lone / "rows.csv"):
        assert section_of(path) == {"source": "folder", "path": str(lone / "rows.csv")}
    (lone / "other.tsv").write_text("age\n3\n")
    with pytest.raises(UsageError, match=r"2 tables \(other.tsv, rows.csv\)"):
        section_of(lone)
    (lone / "run.json").write_text("{}")
    with pytest.raises(UsageError, match="name one of its draws"):
        section_of(lone)
