from __future__ import annotations

import base64
import hashlib
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from mmbench.api import Geometry, Run, Schema
from mmbench.reports import _associations, _coherence, _format, _scores, figures
from mmbench.reports.html import HtmlReport

from .conftest import ANCHORS, HOSTILE, HOSTILE_COLUMN, OUTPUTS, SCHEMA, build_run


class Page(HTMLParser):
    """Collects tags with their attributes, and the text that a reader sees."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.text = ""
        self._silent = ""
        self.source = path.read_text(encoding="utf-8")
        self.feed(self.source)
        self.text = " ".join(self.text.split())

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, {name: value or "" for name, value in attrs}))
        if tag in ("script", "style"):
            self._silent = tag

    def handle_endtag(self, tag):
        if tag == self._silent:
            self._silent = ""

    def handle_data(self, data):
        if not self._silent:
            self.text += f" {data}"

    def find(self, tag: str) -> list[dict[str, str]]:
        return [attributes for name, attributes in self.tags if name == tag]


@pytest.fixture(scope="module")
def shared(shareable_run: Run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return HtmlReport().write([shareable_run], tmp_path_factory.mktemp("report"))


@pytest.fixture(scope="module")
def page(shared: Path) -> Page:
    return Page(shared)


@pytest.fixture(scope="module")
def private_page(private_run: Run, tmp_path_factory: pytest.TempPathFactory) -> Page:
    return Page(HtmlReport().write([private_run], tmp_path_factory.mktemp("report")))


@pytest.fixture(scope="module")
def judged_page(judged_run: Run, tmp_path_factory: pytest.TempPathFactory) -> Page:
    return Page(HtmlReport().write([judged_run], tmp_path_factory.mktemp("report")))


def test_needs_no_network(page: Page):
    links = [
        a[k] for _, a in page.tags for k in ("src", "href", "action", "data", "poster", "srcset") if k in a
    ]
    assert links
    assert all(link.startswith(("data:image/", "#")) for link in links)
    assert not re.search(r"@import|url\(|fetch\(|XMLHttpRequest", page.source)


def test_content_security_policy_allows_only_what_the_file_holds(page: Page):
    policy = next(m["content"] for m in page.find("meta") if m.get("http-equiv") == "Content-Security-Policy")
    assert "default-src 'none'" in policy
    assert "img-src data:" in policy
    script = re.search(r"<script>(.*?)</script>", page.source, re.DOTALL)
    assert script
    digest = base64.b64encode(hashlib.sha256(script[1].encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in policy
    assert not any(name.startswith("on") for _, attributes in page.tags for name in attributes)


def test_names_from_a_run_are_text_and_not_markup(page: Page):
    assert len(page.find("script")) == 1
    assert not page.find("i") or all(
        attributes.get("class", "").startswith("s") for attributes in page.find("i")
    )
    assert HOSTILE in page.text
    assert HOSTILE_COLUMN in page.text
    assert "ValueError: loss is NaN | at <step> 3" in page.text


def test_every_generator_score_and_status_is_there(page: Page, shareable_run: Run):
    for cell in shareable_run.cells:
        assert cell["generator"] in page.text
        assert cell["id"] in page.text
    for output in OUTPUTS:
        assert output["title"] in page.text
        assert output["meaning"] in page.text
        assert f"Blind to: {output['blind']}" in page.text
    for text in ("failed", "not applicable", "needs volume", "LinAlgError: SVD did not converge"):
        assert text in page.text


def test_ceiling_and_null_stand_beside_every_value(page: Page):
    board = page.text.split("Every fit and draw")[0]
    assert "Ceiling (real against real)" in board
    assert "Null (destroyed)" in board
    for ceiling, null in ANCHORS.values():
        # joint, volume-only or table-only, the hostile one and the copier at least.
        assert board.count(f"ceiling {_format.number(ceiling)} · null {_format.number(null)}") >= 3


def test_means_are_over_common_fits_and_show_their_denominator(page: Page):
    # Only joint has a second fit, so the mean that is compared is over the first fit of each.
    assert "1/2 cells (1 more not common to all)" in page.text
    assert "0/1 cells" in page.text


def test_summary_tells_which_generators_are_coherent(page: Page):
    assert "joint and copier: better than broken pairs on every score (1)" in page.text
    assert f"{HOSTILE}: no better than broken pairs on any of 1 score" in page.text
    assert (
        "worse than what unseen real subjects score, in every fit and draw, for copier (Copied records)"
        in (page.text)
    )
    assert "joint (mean scaled score 0.80 over 2 of 2 scores)" in page.text


def test_verdicts_stand_in_short_after_copies_and_in_a_section(judged_page: Page):
    short = judged_page.text.split("In short")[1]
    assert short.index("Copies.") < short.index("Coherence. INCOHERENT:") < short.index("Fidelity.")
    assert "better than broken pairs" not in judged_page.text
    section = judged_page.text.split(_coherence.TITLE)[1].split("Mid")[0]
    assert "Nothing is called coherent because nothing was found." in section
    for word, meaning in _coherence.MEANING:
        assert f"{word} {meaning}" in section
    assert "fresh real sample (ceiling) – INDETERMINATE 1.01 [0.96, 1.06] 0.004 about 900 records" in section
    assert (
        "broken pairs (null) – – 0.00 [−0.05, 0.05] – pairs broken on purpose; mean and range over 20 draws"
        in section
    )
    assert "joint 1, 0 INDETERMINATE 0.93 [0.88, 0.98]" in section
    assert "association of fat_l ~ bmi −0.2 to 0.2" in section
    assert "open in 1 of 2" in section
    assert "Without a verdict: table-only (needs table and volume)" in section


def test_what_a_metric_notes_is_text_and_not_markup(judged_page: Page):
    assert "the kappa test <b>rejects</b> & kappa lies beyond" in judged_page.text
    assert "<b>rejects" not in judged_page.source
    assert len(judged_page.find("script")) == 1


def test_figures_of_coherence_have_titles_captions_and_texts(judged_page: Page):
    texts = [image["alt"] for image in judged_page.find("img")]
    assert sum(text.startswith("Coherence score of every generator") for text in texts) == 1
    for start in (
        "Heat-maps of fresh real sample",
        "kappa with intervals for 1 group",
        "Histograms of ranks",
    ):
        assert any(text.startswith(start) for text in texts)
    assert f"their rows say too little: {HOSTILE_COLUMN}=<i>high</i>." in judged_page.text
    ids = [attributes["id"] for _, attributes in judged_page.tags if "id" in attributes]
    assert len(set(ids)) == len(ids)
    assert {link["href"][1:] for link in judged_page.find("a")} <= set(ids)


def test_without_verdicts_there_is_no_such_section(page: Page):
    assert _coherence.TITLE not in page.text
    assert "run1-verdicts" not in page.source


def test_findings_stand_at_the_top_and_copies_first(page: Page):
    short = page.text.split("In short")[1]
    assert short.lstrip().startswith(
        "Copies. copier looks as good as real subjects on fidelity (2 of 2 scores"
    )
    assert "exposed by Copied records (100; copies score 100, unseen real subjects 0)" in short
    assert "its records are copies of training records." in short
    assert "broken: 1 fit failed (ValueError: loss is NaN | at <step> 3)." in short
    assert "Volumes on which nothing could be measured: joint 4 of 20" in short
    assert page.text.index("In short") < page.text.index("learned from 12 training subjects")


def test_p_values_stand_beside_their_score_and_not_among_the_worst_items(page: Page):
    assert "p = 0.002" in page.text
    assert "p = 0.03" in page.text
    assert _format.p_values([0.002, 0.4]) == "p from 0.002 to 0.40"
    assert _format.p_values([1e-9]) == "p = 0.0001 or less"
    # The only details of this run are p-values.
    assert "Worst columns" not in page.text


def test_failed_validity_tests_stand_with_what_a_score_means(page: Page):
    assert "Fails validity test V4: lowest at spread 0.7" in page.text
    assert page.text.count("Passes every validity test that it was put to") == 1


def test_every_score_names_its_source(page: Page):
    for output in OUTPUTS:
        assert f"Source: {output['card']['reference']}." in page.text


def test_volumes_that_could_not_be_measured_are_counted_with_the_reason(page: Page):
    assert "Volumes on which nothing could be measured" in page.text
    assert "joint: 4 of 20; the body fills 3% of the volume (4)" in page.text


def test_pictures_and_tables_can_be_read_aloud(page: Page):
    assert all(image.get("alt") for image in page.find("img"))
    assert all(cell.get("scope") in ("col", "row") for cell in page.find("th"))
    assert len(page.find("caption")) == len(page.find("table"))
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(set(ids)) == len(ids)
    assert {link["href"][1:] for link in page.find("a")} <= set(ids)


def test_figures_are_also_files(shared: Path, page: Page):
    names = {path.name for path in (shared.parent / "figures").iterdir()}
    assert names == {
        "run1-montage.png",
        "run1-composition.png",
        "run1-associations.png",
        "run1-coherence.svg",
        "run1-distributions.svg",
        "run1-training.svg",
    }
    for name in names:
        data = base64.b64encode((shared.parent / "figures" / name).read_bytes()).decode()
        assert data in page.source


def test_writing_twice_gives_the_same_bytes(shared: Path, shareable_run: Run, tmp_path: Path):
    again = HtmlReport().write([Run.open(shareable_run.folder)], tmp_path)
    assert again.read_bytes() == shared.read_bytes()


def test_private_cohort_shows_no_subject(private_page: Page, private_run: Run):
    assert not any(name in private_page.source for name in private_run.cohort.ids)
    assert "neither volumes nor single records of real subjects" in private_page.text
    assert "real (reference): volumes of real subjects, not shown" in private_page.text
    assert "copier: its samples are copies of real subjects, not shown" in private_page.text
    montage = next(image["alt"] for image in private_page.find("img") if "mid-slices" in image["alt"])
    assert "real" not in montage
    assert "copier" not in montage


@pytest.mark.parametrize("private", [True, False])
def test_montage_depends_on_real_voxels_only_where_they_may_be_shown(
    private_run: Run, private_page: Page, shareable_run: Run, page: Page, tmp_path: Path, private: bool
):
    run, before = (private_run, private_page) if private else (shareable_run, page)
    shutil.copytree(run.folder, tmp_path / "run")
    path = tmp_path / "run" / "cohort" / "volumes.npy"
    # Shifted volumes have the same values, so the common window stays and only the picture could change.
    np.save(path, np.roll(np.load(path), 5, axis=2))
    HtmlReport().write([Run.open(tmp_path / "run")], tmp_path)
    after = base64.b64encode((tmp_path / "figures" / "run1-montage.png").read_bytes()).decode()
    assert (after in before.source) is private


def test_private_records_are_never_drawn_as_points(monkeypatch: pytest.MonkeyPatch):
    from matplotlib.axes import Axes

    drawn = []
    scatter = Axes.scatter
    monkeypatch.setattr(
        Axes,
        "scatter",
        lambda self, x, *rest, **named: (drawn.append(len(x)), scatter(self, x, *rest, **named)),
    )
    frame = pd.DataFrame({"bmi": np.arange(20.0), " fat_l": np.arange(20.0) ** 2})
    for private, expected in ((True, []), (False, [20])):
        drawn.clear()
        curve = figures.Curve("real", "#000000", frame, private, True)
        figures.composition("bmi", [" fat_l"], {"bmi": "bmi", " fat_l": "fat"}, [curve], {})
        assert drawn == expected


def test_every_line_has_its_band_real_or_not(monkeypatch: pytest.MonkeyPatch):
    from matplotlib.axes import Axes

    bands = []
    fill = Axes.fill_between
    monkeypatch.setattr(
        Axes,
        "fill_between",
        lambda self, x, low, high, **named: (
            bands.append((x, high - low)),
            fill(self, x, low, high, **named),
        ),
    )
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"bmi": np.arange(40.0), " fat_l": np.arange(40.0) + rng.normal(0, 3, 40)})
    curves = [
        figures.Curve(name, "#000000", frame, name == "real", name == "real") for name in ("real", "made")
    ]
    line = _associations.fit_line(frame["bmi"].to_numpy(), frame[" fat_l"].to_numpy())
    lines = {(" fat_l", curve.name): line for curve in curves}
    figures.composition("bmi", [" fat_l"], {"bmi": "bmi", " fat_l": "fat"}, curves, lines)
    assert len(bands) == 3  # real; real and own beside it
    assert all((width > 0).all() for _, width in bands)
    # The ends of what is private are quantiles, so that no single record can be read off.
    assert bands[0][0].min() > frame["bmi"].min()
    assert bands[0][0].max() < frame["bmi"].max()


def test_the_band_of_a_line_is_that_of_least_squares():
    rng = np.random.default_rng(3)
    x = rng.normal(5, 2, 30)
    y = 1 + 2 * x + rng.normal(0, 1, 30)
    line = _associations.fit_line(x, y)
    assert line is not None
    design = np.column_stack([np.ones(30), x])
    residual = y - design @ np.linalg.lstsq(design, y)[0]
    at = np.array([[1.0, 0.0], [1.0, 9.0]])
    variance = residual @ residual / 28 * (at @ np.linalg.inv(design.T @ design) * at).sum(axis=1)
    np.testing.assert_allclose(line.half_band(at[:, 1]), 2.048407 * np.sqrt(variance), rtol=1e-6)


def test_include_real_is_said(tmp_path: Path):
    run = build_run(tmp_path / "run", shareable=False, include_real=True)
    page = Page(HtmlReport().write([run], tmp_path / "report"))
    assert "Handle it like the cohort itself" in page.text
    assert "real (reference): volumes" not in page.text


def test_runs_on_one_cohort_get_a_combined_leaderboard(shareable_run: Run, private_run: Run, tmp_path: Path):
    page = Page(HtmlReport().write([shareable_run, private_run], tmp_path))
    assert "Combined leaderboard: toy bodies" in page.text
    assert "joint · toy (1)" in page.text
    assert "joint · toy (2)" in page.text
    assert {attributes["id"] for attributes in page.find("section")} == {"combined1", "run1", "run2"}


def test_a_run_that_ended_before_any_score_is_reported(shareable_run: Run, tmp_path: Path):
    folder = tmp_path / "run"
    shutil.copytree(shareable_run.folder, folder)
    pd.read_parquet(folder / "scores.parquet").iloc[:0].to_parquet(folder / "scores.parquet")
    for cell in shareable_run.cells:
        shutil.rmtree(folder / "cells" / cell["id"])
    page = Page(HtmlReport().write([Run.open(folder)], tmp_path / "report"))
    assert "0 of 7 fits ended well; 7 interrupted" in page.text
    assert "never started" in page.text


def test_no_scaled_score_where_ceiling_and_null_overlap(shareable_run: Run, tmp_path: Path):
    folder = tmp_path / "run"
    shutil.copytree(shareable_run.folder, folder)
    scores = pd.read_parquet(folder / "scores.parquet")
    blunt = scores["score"] == "coverage"
    scores.loc[blunt, ["ceiling", "ceiling_low", "ceiling_high"]] = 0.12, 0.05, 0.2
    inverted = scores["score"] == "frechet"
    scores.loc[inverted, ["ceiling", "ceiling_low", "ceiling_high"]] = 60.0, 55.0, 65.0
    scores.to_parquet(folder / "scores.parquet")
    boards = {board.kind: board for board in _scores.boards([Run.open(folder)])}
    assert boards["diversity"].mean_scaled("joint")[1] == 0
    mean, count = boards["fidelity"].mean_scaled("joint")
    assert (mean, count) == (pytest.approx(0.8), 1)


def test_mid_slices_put_superior_up_and_the_subjects_right_on_the_left():
    affine = np.diag([-2.0, 3.0, 4.0, 1.0])
    geometry = Geometry((4, 6, 8), tuple(map(tuple, affine.tolist())), ("t1",))
    volume = np.zeros((1, 4, 6, 8))
    volume[0, 0, 3, 7] = 1.0  # x runs to the left here: index 0 is the far right; index 7 is the top
    turned, spacing = figures.to_ras(volume, geometry)
    image, width, height = figures.mid_slice(turned[0], spacing, "coronal")
    assert image.shape == (8, 4)
    assert image[0, 0] == 1.0
    assert (width, height) == (8.0, 32.0)


def test_swapped_axes_are_put_in_anatomical_order():
    affine = ((0, 0, 1.0, 0), (2.0, 0, 0, 0), (0, -3.0, 0, 0), (0, 0, 0, 1))
    volume = np.random.default_rng(0).random((1, 4, 5, 6))
    turned, spacing = figures.to_ras(volume, Geometry((4, 5, 6), affine, ("t1",)))
    assert turned.shape == (1, 6, 4, 5)
    assert spacing == (1.0, 2.0, 3.0)
    assert turned[0, 1, 2, 0] == volume[0, 2, 4, 1]


def test_planes_follow_the_shape_of_the_body():
    assert figures.planes(Geometry.regular((40, 48, 40), (4, 4, 4), ("t1",))) == (
        "coronal",
        "axial",
        "sagittal",
    )
    assert figures.planes(Geometry.regular((50, 40, 100), (9, 9, 10), ("fat",))) == ("coronal", "axial")


def test_associations_are_signed_for_ordered_columns_and_vanish_for_independent_ones():
    rng = np.random.default_rng(1)
    n = 4000
    sex = rng.choice(["F", "M"], n)
    bmi = rng.normal(27, 4, n)
    frame = SCHEMA.coerce(
        pd.DataFrame(
            {
                "age": np.round(90 - 2 * bmi),
                "bmi": bmi,
                "sex": sex,
                HOSTILE_COLUMN: np.where(sex == "F", "low", "50 %"),
            }
        )
    )
    names = ["age", "bmi", "sex", HOSTILE_COLUMN]
    matrix = _associations.associations(frame, [*names, " absent"], {"age", "bmi", " absent"}, SCHEMA)
    assert matrix[0, 1] == pytest.approx(-1, abs=0.01)
    assert matrix[1, 2] == pytest.approx(0, abs=0.05)
    assert matrix[2, 3] == pytest.approx(1, abs=0.01)
    assert np.isnan(matrix[4]).all()
    np.testing.assert_array_equal(matrix, matrix.T)


def test_correlation_ratio_matches_its_definition():
    levels = ("a", "b")
    schema = Schema.from_dict(
        [{"name": "g", "kind": "categorical", "levels": list(levels)}, {"name": "v", "kind": "continuous"}]
    )
    frame = schema.coerce(pd.DataFrame({"g": ["a", "a", "b", "b"], "v": [1.0, 2.0, 3.0, 4.0]}))
    # Between 4, within 1, n 4, k 2: eta² = 0.8, corrected 1 - 0.2 * 3 / 2 = 0.7.
    assert _associations.associations(frame, ["g", "v"], {"v"}, schema)[0, 1] == pytest.approx(0.7**0.5)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.81234, "0.812"),
        (-12.345, "−12.3"),
        (1234.5, "1234"),
        (float("nan"), "–"),
        (None, "–"),
        (0.0, "0"),
        (3e-7, "3.00e−07"),
    ],
)
def test_numbers_have_three_significant_digits(value: float | None, text: str):
    assert _format.number(value) == text


def test_ends_of_an_interval_have_the_decimals_of_its_value():
    assert _format.estimate(0.0123, -0.4, 0.5) == ("0.012", "[−0.400, 0.500]")
    assert _format.estimate(12.0, float("nan"), 1.0) == ("12.0", "")
