"""The anatomy: drawn volumes and waist come out, one person on every grid, and organs where they belong."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy.ndimage import binary_fill_holes, label, map_coordinates

from mmbench.sources.phantom.anatomy import TISSUES, Anatomy, Person, render
from mmbench.sources.phantom.population import draw_population

COARSE = (88, 72, 16), (5.0, 5.0, 30.0)
FINE = (112, 88, 80), (4.0, 4.0, 6.0)
FAT = [TISSUES.index(name) for name in ("subcutaneous", "visceral", "other_fat")]
MAN = Person(
    woman=False,
    height_cm=178,
    waist_cm=96,
    hip_cm=102,
    visceral_l=4.0,
    abdominal_subcutaneous_l=6.5,
    trunk_muscle_l=7.5,
    liver_l=1.6,
)
WOMAN = Person(
    woman=True,
    height_cm=165,
    waist_cm=80,
    hip_cm=100,
    visceral_l=1.8,
    abdominal_subcutaneous_l=6.0,
    trunk_muscle_l=4.6,
    liver_l=1.3,
)


Grid = tuple[tuple[int, int, int], tuple[float, float, float]]


def draw(person: Person, grid: Grid = FINE, seed: int = 0) -> Anatomy:
    return render(person, grid[0], grid[1], np.random.default_rng(seed))


def drawn_people(subjects: int, seed: int) -> list[Person]:
    population = draw_population(subjects, seed)
    drawn = {
        **population.table[["height_cm", "waist_cm", "hip_cm"]],
        **population.composition[["visceral_l", "abdominal_subcutaneous_l", "trunk_muscle_l", "liver_l"]],
    }
    sizes = pd.DataFrame(drawn).to_numpy(float)
    return [Person(sex == "F", *size) for sex, size in zip(population.table["sex"], sizes, strict=True)]


def measured_waist(anatomy: Anatomy, spacing: tuple[float, float, float]) -> float:
    """Return the circumference of the contour where half of a voxel is body, at the waist, in centimetres."""
    body = anatomy.shares.sum(axis=0)[:, :, int(anatomy.waist_mm / spacing[2])]
    middle = np.array([[axis.mean()] for axis in np.nonzero(body > 0.5)])
    reach = np.arange(0, 300, 0.25)
    contour = []
    for angle in np.deg2rad(np.arange(0, 360, 1.0)):
        steps = np.array([[np.cos(angle) / spacing[0]], [np.sin(angle) / spacing[1]]]) * reach
        along_ray = map_coordinates(body, middle + steps, order=1)
        contour.append(reach[np.argmax(along_ray < 0.5)] * np.exp(1j * angle))
    return float(np.abs(np.diff(contour, append=contour[:1])).sum()) / 10


def centre(anatomy: Anatomy, *names: str) -> np.ndarray:
    """Return the centre of tissues in voxels."""
    share = sum(anatomy.shares[TISSUES.index(name)] for name in names)
    return np.array(
        [
            np.average(np.arange(n), weights=share.sum(axis=tuple({0, 1, 2} - {k})))
            for k, n in enumerate(share.shape)
        ]
    )


@pytest.fixture(scope="module")
def man() -> Anatomy:
    return draw(MAN)


@pytest.fixture(scope="module")
def woman() -> Anatomy:
    return draw(WOMAN, seed=1)


def test_drawn_people_have_their_volumes_and_waists() -> None:
    off = []
    for index, person in enumerate(drawn_people(20, 11)):
        anatomy = draw(person, COARSE, index)
        wanted = {
            "visceral": person.visceral_l,
            "abdominal_subcutaneous": person.abdominal_subcutaneous_l,
            "trunk_muscle": person.trunk_muscle_l,
            "liver": person.liver_l,
        }
        off += [abs(anatomy.litres[name] / litres - 1) for name, litres in wanted.items()]
        assert anatomy.waist_cm == pytest.approx(person.waist_cm, rel=0.005)
        assert 1.0 < sum(anatomy.litres[name] for name in ("bowel", "contents", "gas")) < 4.2
    assert np.quantile(off, 0.98) < 0.02


@pytest.mark.parametrize(("person", "seed"), [(MAN, 0), (WOMAN, 1)])
def test_waist_is_seen_in_the_image(person: Person, seed: int) -> None:
    anatomy = draw(person, FINE, seed)
    assert measured_waist(anatomy, FINE[1]) == pytest.approx(person.waist_cm, rel=0.015)


def test_one_person_on_every_grid(woman: Anatomy) -> None:
    fine = draw(WOMAN, ((144, 120, 160), (3.0, 3.0, 3.0)), 1)
    direct = draw(WOMAN, ((72, 60, 80), (6.0, 6.0, 6.0)), 1)
    averaged = fine.shares.reshape(len(TISSUES), 72, 2, 60, 2, 80, 2).mean(axis=(2, 4, 6))
    for tissues in (FAT, [TISSUES.index("muscle")], [TISSUES.index("liver")], [TISSUES.index("lung")]):
        one, other = averaged[tissues].sum(axis=0), direct.shares[tissues].sum(axis=0)
        assert np.corrcoef(one.ravel(), other.ravel())[0, 1] > 0.98
    for name in ("visceral", "abdominal_subcutaneous", "trunk_muscle", "liver", "subcutaneous"):
        assert fine.litres[name] == pytest.approx(direct.litres[name], rel=0.02)
        assert woman.litres[name] == pytest.approx(direct.litres[name], rel=0.02)


def test_field_of_view_shows_a_part_of_the_same_person(man: Anatomy) -> None:
    part = draw(MAN, ((112, 88, 40), FINE[1]))
    assert np.abs(part.shares - man.shares[..., :40]).mean() < 1e-3
    np.testing.assert_allclose(part.shares.sum(axis=0), man.shares[..., :40].sum(axis=0), atol=0.01)


def test_thick_slices_average_thin_ones(man: Anatomy) -> None:
    thick = draw(MAN, ((112, 88, 20), (4.0, 4.0, 24.0)))
    thin = draw(MAN, FINE).shares.reshape(len(TISSUES), 112, 88, 20, 4).mean(axis=-1)
    assert np.abs(thick.shares - thin).sum(axis=0).mean() < 0.02
    assert thick.litres["liver"] == pytest.approx(man.litres["liver"], rel=0.01)


def test_same_seed_same_body_other_seed_another(man: Anatomy) -> None:
    np.testing.assert_array_equal(draw(MAN).shares, man.shares)
    other = draw(MAN, seed=2)
    assert other.litres["visceral"] == pytest.approx(man.litres["visceral"], rel=0.02)
    assert np.abs(other.shares - man.shares).max() == 1


def test_shares_are_shares_and_the_body_is_whole(man: Anatomy, woman: Anatomy) -> None:
    for anatomy in (man, woman):
        assert anatomy.shares.dtype == np.float32
        assert anatomy.shares.min() >= 0
        body = anatomy.shares.sum(axis=0)
        assert body.max() <= 1 + 1e-5
        inside = body > 0.5
        assert label(inside)[1] == 1
        for k in range(inside.shape[2]):
            np.testing.assert_array_equal(binary_fill_holes(inside[:, :, k]), inside[:, :, k])


def test_litres_are_what_the_shares_sum_to(man: Anatomy) -> None:
    for name, share in zip(TISSUES, man.shares, strict=True):
        assert man.litres[name] == pytest.approx(share.sum(dtype=float) * 96e-6, rel=1e-4)
        assert man.litres[name] > 0


def test_subcutaneous_fat_lies_outside_of_the_rest(man: Anatomy) -> None:
    skin = man.shares[TISSUES.index("subcutaneous")]
    rest = man.shares.sum(axis=0) - skin
    for k in range(0, 80, 8):
        outline = man.shares.sum(axis=0)[:, :, k] > 0.5
        edge = outline & ~(
            np.roll(outline, 1, 0)
            & np.roll(outline, -1, 0)
            & np.roll(outline, 1, 1)
            & np.roll(outline, -1, 1)
        )
        assert rest[:, :, k][edge].mean() < 0.15


def test_organs_lie_where_they_belong(man: Anatomy, woman: Anatomy) -> None:
    for anatomy in (man, woman):
        body = centre(anatomy, *TISSUES)
        liver, spleen, lung, heart = (centre(anatomy, name) for name in ("liver", "spleen", "lung", "heart"))
        assert spleen[0] < body[0] - 10 < body[0] + 6 < liver[0]
        assert lung[2] > liver[2] + 8
        assert heart[0] < body[0]
        assert heart[2] > liver[2] + 8
        assert centre(anatomy, "disc")[1] < body[1] - 2
        assert spleen[1] < centre(anatomy, "pancreas")[1]
        kidneys = anatomy.shares[TISSUES.index("kidney")]
        right, left = (
            np.average(np.arange(80), weights=half.sum(axis=(0, 1))) for half in (kidneys[56:], kidneys[:56])
        )
        assert right < left + 2
        assert kidneys[56:].sum() == pytest.approx(kidneys[:56].sum(), rel=0.3)
        contents, gas = centre(anatomy, "contents"), centre(anatomy, "gas")
        assert liver[2] > contents[2]
        assert gas[1] > contents[1]


def test_body_wall_is_thin_in_front_and_has_gaps(man: Anatomy) -> None:
    level = int(man.waist_mm / 6)
    muscle = man.shares[TISSUES.index("muscle")][:, :, level - 4 : level + 2].sum(axis=2) / 6
    front = muscle[:, 56:]  # before psoas
    middle = front[54:58].sum(axis=1).mean() * 4
    beside = np.array([front[56 + k].sum() * 4 for k in (*range(-12, -6), *range(6, 12))])
    assert middle < 0.6 * beside.mean()
    assert 5 < beside.mean() < 20


def test_women_have_breasts_and_broader_hips_for_their_waist(man: Anatomy, woman: Anatomy) -> None:
    def breadth(anatomy: Anatomy, k: int) -> float:
        return float(anatomy.shares.sum(axis=0)[:, :, k].max(axis=1).sum())

    def waist_to_hip(anatomy: Anatomy) -> float:
        return breadth(anatomy, int(anatomy.waist_mm / 6)) / breadth(anatomy, 2)

    assert waist_to_hip(woman) < waist_to_hip(man)


def test_arms_lie_outside_of_the_trunk_and_leave_its_litres_alone(man: Anatomy) -> None:
    wide = (152, 88, 80), FINE[1]
    without, arms = draw(MAN, wide), draw(replace(MAN, arms=True), wide)
    trunk = without.shares.sum(axis=0)
    np.testing.assert_array_equal(arms.shares[..., trunk == 1], without.shares[..., trunk == 1])
    assert arms.shares.sum(axis=0).max() <= 1 + 1e-5
    for name in ("abdominal_subcutaneous", "trunk_muscle", "visceral", "liver"):
        assert arms.litres[name] == pytest.approx(man.litres[name], rel=1e-3)
    assert 1.5 < arms.litres["muscle"] - without.litres["muscle"] < 6
    added = (arms.shares - without.shares).sum(axis=(0, 2, 3))
    assert added[:76].sum() == pytest.approx(added[76:].sum(), rel=0.1)
    assert draw(replace(MAN, arms=True)).litres["muscle"] < arms.litres["muscle"]


def test_impossible_people_come_as_near_as_they_can() -> None:
    # More visceral fat and liver than an abdomen of this girth can hold.
    anatomy = draw(replace(WOMAN, waist_cm=62, visceral_l=9.0, liver_l=2.5), COARSE)
    assert anatomy.waist_cm == pytest.approx(62, rel=0.005)
    assert np.isfinite(anatomy.shares).all()
    assert anatomy.shares.sum(axis=0).max() <= 1 + 1e-5
    assert 1 < anatomy.litres["visceral"] < 9
