"""A picture of ten phantoms, BMI 19 to 42, women and men in turn: python examples/phantoms.py PICTURE.jpg."""

import sys
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from mmbench.api import Geometry
from mmbench.sources.phantom.artefacts import Artefacts
from mmbench.sources.phantom.physics import PROTOCOLS, Scanner
from mmbench.sources.phantom.population import draw_population
from mmbench.sources.phantom.source import FIELD_OF_VIEW_MM, Studio, subjects_of

SEED, SUBJECTS = 5, 5000
SPACING = dx, dy, dz = 2.5, 2.5, 4.0
SHAPE = [round(extent / step) for extent, step in zip(FIELD_OF_VIEW_MM, SPACING, strict=True)]
BRIGHTEST = {"water": 0.75, "fat": 1.25}


def chosen(table: pd.DataFrame) -> list[int]:
    """Return the rows whose BMI is nearest to each of ten steps from 19 to 42."""
    bmi = [table.bmi.to_numpy(float).copy() for _ in range(2)]
    bmi[0][table.sex == "M"] = bmi[1][table.sex == "F"] = np.inf
    return [int(np.abs(bmi[k % 2] - wanted).argmin()) for k, wanted in enumerate(np.linspace(19, 42, 10))]


def views(water: np.ndarray, fat: np.ndarray) -> dict[str, tuple[np.ndarray, float]]:
    """Return planes as radiologists see them, the subject's right on the left, with height over width of a voxel."""
    low, high = round(0.30 * SHAPE[2]), round(0.55 * SHAPE[2])
    middle, front = SHAPE[0] // 2, round(0.52 * SHAPE[1])
    return {
        "water, L4": (water[::-1, :, low], dy / dx),
        "fat, L4": (fat[::-1, :, low], dy / dx),
        "water, liver": (water[::-1, :, high], dy / dx),
        "fat, coronal": (fat[::-1, front], dz / dx),
        "water, sagittal": (water[middle, ::-1], dz / dy),
    }


def main(path: Path) -> None:
    """Draw the picture."""
    population = draw_population(SUBJECTS, SEED)
    people = list(subjects_of(population))
    scanner = Scanner(
        Geometry.regular(SHAPE, SPACING, ("water", "fat")), PROTOCOLS["nako"], Artefacts(noise=0.02, swap=0)
    )
    studio = Studio(SEED, scanner)
    x, y, z = FIELD_OF_VIEW_MM
    figure = Figure(figsize=(18, 8.9), facecolor="black", layout="constrained")
    axes = figure.subplots(5, 10, height_ratios=[y / x, y / x, y / x, z / x, z / x])
    for column, index in zip(axes.T, chosen(population.table), strict=True):
        volume, truth = studio.scan(people[index])
        for axis, (name, (plane, aspect)) in zip(column, views(*volume).items(), strict=True):
            brightest = BRIGHTEST[name.partition(",")[0]]
            axis.imshow(plane.T, origin="lower", cmap="gray", vmin=0, vmax=brightest, aspect=aspect)
            axis.set(xticks=[], yticks=[])
            if axis in axes[:, 0]:
                axis.set_ylabel(name, color="white")
        row = population.table.iloc[index]
        column[0].set_title(
            f"{row.sex}, {row.age:.0f} y, BMI {row.bmi:.0f}\nwaist {row.waist_cm:.0f} cm\n"
            f"visceral fat {truth['visceral_fat_l']:.1f} L",
            color="white",
            fontsize=10,
        )
    figure.savefig(path, dpi=80, pil_kwargs={"quality": 88})


if __name__ == "__main__":
    main(Path(sys.argv[1]))
