"""Which scan and which row make a record: sessions, runs, and what is left out."""

import numpy as np
import pandas as pd
import pytest


@pytest.fixture
def visits(bids):
    """Three subjects with two sessions each, and a table of sessions for the first two."""
    for i in range(1, 5):
        bids.path(i).unlink()
        bids.path(i).parent.rmdir()
        (bids.root / f"sub-{i}").rmdir()
    for i in range(1, 4):
        for number, session in enumerate(("ses-a", "ses-b")):
            bids.write(bids.path(i, session), bids.image(10 * i + number))
    bids.rows("participant_id\tsex\tage\tweight", "sub-2\tM\t40\t80", "sub-1\tF\t30\t60", "sub-3\tF\t50\t70")
    (bids.root / "sub-1" / "sub-1_sessions.tsv").write_text(
        "session_id\tage\tweight\tpulse\nses-a\t31\tn/a\t64.5\nses-b\t33\t61\t70\n"
    )
    (bids.root / "sub-2" / "sub-2_sessions.tsv").write_text("session_id\tage\nb\t44\na\t41\n")
    (bids.root / "sessions.json").write_text('{"pulse": {"Units": "1/min"}}')
    return bids


class TestSessions:
    def test_values_of_a_session_go_before_those_of_the_participant(self, visits):
        cohort = visits.load()
        in_order = ["sub-2/ses-b", "sub-2/ses-a", *(f"sub-{i}/ses-{s}" for i in (1, 3) for s in "ab")]
        assert cohort.ids.tolist() == in_order
        rows = cohort.rows
        assert rows.loc["sub-1/ses-a", ["sex", "age", "weight", "pulse"]].tolist() == ["F", 31, 60, 64.5]
        assert rows.loc["sub-1/ses-b", ["age", "weight", "pulse"]].tolist() == [33, 61, 70]
        assert rows.loc[["sub-2/ses-a", "sub-2/ses-b"], "age"].tolist() == [41, 44]
        assert rows.loc[["sub-3/ses-a", "sub-3/ses-b"], "age"].tolist() == [50, 50]
        assert rows["pulse"].isna().sum() == 4
        assert cohort.schema["pulse"].unit == "1/min"
        assert cohort.people.tolist() == ["sub-2", "sub-2", "sub-1", "sub-1", "sub-3", "sub-3"]
        for name, volume in zip(cohort.ids, range(6), strict=True):
            subject, session = int(name[4]), "ab".index(name[-1])
            np.testing.assert_allclose(
                cohort.images.original(volume)[0], visits.image(10 * subject + session), rtol=1e-6
            )

    def test_one_session(self, visits):
        cohort = visits.load(session="ses-b", drop=["pulse"])
        assert cohort.ids.tolist() == ["sub-2", "sub-1", "sub-3"]
        assert cohort.rows["age"].tolist() == [44, 33, 50]

    def test_participants_with_a_row_for_each_session(self, visits):
        for i in (1, 2):
            (visits.root / f"sub-{i}" / f"sub-{i}_sessions.tsv").unlink()
        rows = [f"sub-{i}\tses-{s}\t{30 + 10 * i + 5 * (s == 'b')}" for i in (1, 2, 3) for s in "ab"]
        visits.rows("participant_id\tsession_id\tage", *rows)
        cohort = visits.load()
        assert dict(zip(cohort.ids, cohort.rows["age"], strict=True)) == {
            f"sub-{i}/ses-{s}": 30 + 10 * i + 5 * (s == "b") for i in (1, 2, 3) for s in "ab"
        }
        visits.rows("participant_id\tsession_id\tage", *rows[1:])
        (problem,) = visits.problems()
        assert f"{visits.root / 'sub-1' / 'ses-a'}: volumes without a row" in problem
        assert "session_id ses-a" in problem
        visits.rows("participant_id\tsession_id\tage", *rows, rows[2])
        (problem,) = visits.problems()
        assert "sub-2/ses-a in lines 4, 8" in problem

    @pytest.mark.parametrize(
        ("text", "words"),
        [
            ("session_id\tage\nses-a\t31\n", ["ses-b", "without a row in sub-1_sessions.tsv"]),
            ("session\tage\nses-a\t31\n", ["sub-1_sessions.tsv", "no column 'session_id'"]),
            ("session_id\tage\nses-a\t31\nses-b\t32\nses-c\t33\n", ["line 4", "sub-1/ses-c has no T1w"]),
            ("session_id\tage\nses-a\t31\nses-b\t32\nb\t33\n", ["sub-1/ses-b in lines 3, 4", "other values"]),
            ("session_id\tage\nses-a\t31\nses-b\t32\nn/a\t33\n", ["line 4", "no session_id"]),
            ("session_id\tage\n", ["sub-1_sessions.tsv", "no rows"]),
        ],
    )
    def test_defects_of_a_table_of_sessions(self, visits, text, words):
        (visits.root / "sub-1" / "sub-1_sessions.tsv").write_text(text)
        (problem,) = visits.problems()
        for word in words:
            assert word in problem


class TestRuns:
    @pytest.fixture
    def runs(self, bids):
        for i in (3, 4):
            bids.path(i).unlink()
            for run in ("01", "2", "10"):
                bids.write(bids.path(i, suffix=f"run-{run}_T1w"), bids.image(100 * i + int(run)))
        return bids

    @pytest.mark.parametrize(("rule", "number"), [("first", 1), ("last", 10), (2, 2)])
    def test_the_declared_run_is_read(self, runs, rule, number):
        images = runs.load(run=rule, normalise="none").images
        for index, seed in enumerate((1, 2, 300 + number, 400 + number)):
            np.testing.assert_allclose(images[index][0], runs.image(seed), rtol=1e-6)

    def test_several_runs_are_refused_with_advice(self, runs):
        for problem in runs.problems():
            assert "3 runs match 'T1w'" in problem
            assert "set 'run'" in problem

    def test_absent_run_and_unknown_rule(self, runs):
        assert "no run 7" in runs.problems(run=7)[0]
        assert "refuse, first, last or a number" in runs.problems(run="best")[0]

    def test_files_that_differ_by_more_than_the_run(self, runs):
        runs.write(runs.path(3, suffix="acq-fast_run-3_T1w"), runs.image(5))
        (problem,) = runs.problems(run="last")
        assert "4 files match" in problem


class TestIncomplete:
    @pytest.fixture
    def lacking(self, bids):
        """Of eight subjects, one without a folder, one without a channel, one of DICOM, one without a row."""
        lines = ["participant_id\tsex\tage"]
        for i in range(1, 9):
            bids.write(bids.path(i), bids.image(i))
            bids.write(bids.path(i, suffix="T2w"), bids.image(i + 10))
            lines.append(f"sub-{i}\t{'FM'[i % 2]}\t{900 if i == 5 else 20 + i}")
        bids.rows(*lines[:-1], "sub-gone\tX\t30")
        bids.path(3, suffix="T2w").unlink()
        for file in bids.path(5).parent.iterdir():
            file.unlink()
        (bids.path(5).parent / "1.dcm").write_bytes(b"")
        return bids

    def test_left_out_on_demand_and_named(self, lacking):
        cohort = lacking.load(suffix=["T1w", "T2w"], incomplete="leave-out")
        assert cohort.ids.tolist() == ["sub-1", "sub-2", "sub-4", "sub-6", "sub-7"]
        assert set(cohort.left_out) == {"sub-3", "sub-5", "sub-8", "sub-gone"}
        assert "no T2w volume" in cohort.left_out["sub-3"]
        assert "without a row" in cohort.left_out["sub-8"]
        assert "no T1w or T2w volume" in cohort.left_out["sub-gone"]
        assert cohort.schema["age"].levels == (21, 22, 24, 26, 27), "rows left out say nothing of the columns"
        assert cohort.schema["sex"].levels == ("F", "M")
        for index, subject in enumerate((1, 2, 4, 6, 7)):
            np.testing.assert_allclose(
                cohort.images.original(index)[1], lacking.image(subject + 10), rtol=1e-6
            )
        assert cohort.take([0, 1]).left_out == {}

    def test_refused_otherwise(self, lacking):
        assert len(lacking.problems(suffix=["T1w", "T2w"])) == 4

    def test_damage_is_never_left_out(self, lacking):
        lacking.path(2).write_bytes(b"nothing")
        (problem,) = lacking.problems(suffix=["T1w", "T2w"], incomplete="leave-out")
        assert str(lacking.path(2)) in problem

    def test_nobody_left(self, bids):
        (problem,) = bids.problems(suffix=["T1w", "T2w"], incomplete="leave-out")
        assert "no record is left" in problem

    def test_rows_without_a_path(self, bids, context, tmp_path):
        from mmbench import plugins

        frame = pd.DataFrame({"id": list("abcd"), "age": [20.5, 30, 40, 50]})
        frame["volume"] = [str(bids.path(i)) if i != 3 else None for i in range(1, 5)]
        frame.to_csv(tmp_path / "table.csv", index=False)
        values = {"path": tmp_path / "table.csv", "incomplete": "leave-out"}
        cohort = plugins.build("cohorts", "folder", values).load(context)
        assert cohort.ids.tolist() == cohort.people.tolist() == ["a", "b", "d"]
        assert list(cohort.left_out) == ["c"]
        assert len(cohort.images) == 3


def test_padded_numbers_are_recognised(bids):
    bids.rows(*bids.table.read_text().replace("sub-3", "sub-003").splitlines())
    row, folder = bids.problems()
    assert "Is it sub-3?" in row
    assert "sub-3: volumes without a row" in folder
