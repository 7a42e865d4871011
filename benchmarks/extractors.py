"""Shows how well image features see graded defects, for the extractors that need no weights of the user's.

    python benchmarks/extractors.py [--subjects 900] [--seed 3]

Phantoms of the demonstration's grid are damaged in five steps and compared with as many untouched ones. The table gives,
for image-mmd and frechet-distance, Spearman's correlation of the score with the step (an untouched sample of the same
subjects is step 0), and the first step that scores worse than every one of four untouched samples. It is printed
and written into ``benchmarks/results/extractors.md``.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from scipy import ndimage
from scipy.stats import spearmanr

from mmbench import plugins
from mmbench.api import Cohort, Evidence, Extractor, Trial, Volumes
from mmbench.context import WorkContext, derive_seed, seed_everything
from mmbench.measuring import compose, features
from mmbench.plan import Planned

RESULTS = Path(__file__).parent / "results" / "extractors.md"
EXTRACTORS = ("random-cnn", "composition", "autoencoder")
SCORES = {"image-mmd": "image-mmd", "frechet": "frechet-distance"}
MEASURER = Planned("dixon-composition", {})
UNTOUCHED = 4
Defect = Callable[[np.ndarray, float, np.random.Generator], np.ndarray]


def noise(volume: np.ndarray, level: float, rng: np.random.Generator) -> np.ndarray:
    """Rician noise of this standard deviation; subcutaneous fat has signal 1."""
    real, imaginary = level * rng.standard_normal((2, *volume.shape))
    return np.hypot(volume + real, imaginary)


def blur(volume: np.ndarray, level: float, rng: np.random.Generator) -> np.ndarray:
    """Gaussian blur in the slices, its standard deviation in voxels."""
    return ndimage.gaussian_filter(volume, (0, level, level, 0))


def bias(volume: np.ndarray, level: float, rng: np.random.Generator) -> np.ndarray:
    """Gain that rises exponentially in a random direction, by exp(level) from the middle to the edge."""
    axes = np.meshgrid(*(np.linspace(-1, 1, size) for size in volume.shape[1:]), indexing="ij")
    direction = rng.standard_normal(3)
    direction /= np.linalg.norm(direction)
    return volume * np.exp(level * sum(w * axis for w, axis in zip(direction, axes, strict=True)))


def ghost(volume: np.ndarray, level: float, rng: np.random.Generator) -> np.ndarray:
    """Copy shifted by a third of the field of view from front to back, with this share of the signal."""
    return (1 - level) * volume + level * np.roll(volume, volume.shape[2] // 3, axis=2)


def growth(volume: np.ndarray, level: float, rng: np.random.Generator) -> np.ndarray:
    """Bodies larger by this share in the slices."""
    matrix = np.diag([1, 1 / (1 + level), 1 / (1 + level), 1])
    middle = (np.array(volume.shape) - 1) / 2
    return np.asarray(ndimage.affine_transform(volume, matrix, middle - matrix @ middle, order=1))


DEFECTS: dict[str, tuple[Defect, Sequence[float]]] = {
    "noise": (noise, (0.01, 0.02, 0.04, 0.08, 0.16)),
    "blur": (blur, (0.3, 0.45, 0.6, 0.9, 1.4)),
    "bias field": (bias, (0.2, 0.35, 0.5, 0.8, 1.2)),
    "ghost": (ghost, (0.02, 0.04, 0.08, 0.15, 0.3)),
    "larger bodies": (growth, (0.01, 0.02, 0.04, 0.07, 0.12)),
}
ALIKE = (0.8, 0.6, 0.45, 0.3, 0.2)
"""For under-dispersion: share of the subjects, those nearest to the median body volume, that are drawn from."""


@dataclass(frozen=True)
class Damaged:
    """Volumes that are damaged as they are read."""

    volumes: Volumes
    defect: Defect
    level: float

    def __len__(self) -> int:
        return len(self.volumes)

    def __getitem__(self, index: int) -> np.ndarray:
        rng = np.random.default_rng([7, index])
        return self.defect(self.volumes[index], self.level, rng).astype(np.float32)


def damaged(cohort: Cohort, defect: Defect, level: float) -> Cohort:
    """Return a cohort with every volume damaged."""
    store = Damaged(cohort.images, defect, level)
    return Cohort(
        cohort.name, cohort.schema, cohort.ids, cohort.table, Volumes(store, cohort.images.geometry)
    )


def samples(cohort: Cohort, n: int) -> tuple[Cohort, Cohort, dict[str, list[Cohort]]]:
    """Return training subjects, a reference, and for each defect the samples of rising strength.

    Under the key of an empty name stand untouched samples.
    """
    train, reference = cohort.take(np.arange(3 * n)), cohort.take(np.arange(3 * n, 4 * n))
    fresh = np.arange(4 * n, len(cohort))
    untouched = [cohort.take(fresh[start : start + n]) for start in range(0, UNTOUCHED * n, n)]
    found = {"": untouched}
    for name, (defect, levels) in DEFECTS.items():
        found[name] = [damaged(untouched[0], defect, level) for level in levels]
    if cohort.truth is None:
        raise ValueError("only a cohort of phantoms knows the bodies' volumes")
    size = cohort.truth["body_l"].to_numpy()
    found["too alike"] = []
    for share in ALIKE:
        pool = fresh[: round(n / share)]
        nearest = np.argsort(np.abs(size[pool] - np.median(size)))[:n]
        found["too alike"].append(cohort.take(np.sort(pool[nearest])))
    return train, reference, found


class Bench:
    """Reads every sample with one extractor after another; quantities are measured once."""

    def __init__(self, cohort: Cohort, n: int, folder: Path) -> None:
        self.train, self.reference, self.found = samples(cohort, n)
        self.context = WorkContext(folder=folder)
        self.composed: dict[int, pd.DataFrame | None] = {}

    def evidence(self, cohort: Cohort, extractor: Extractor) -> Evidence:
        """Return a sample with its features."""
        composition = None
        if extractor.uses_composition:
            if id(cohort) not in self.composed:
                self.composed[id(cohort)] = compose(cohort, MEASURER, self.context)[0]
            composition = self.composed[id(cohort)]
        return Evidence(cohort, None, features(cohort, extractor, composition, self.context))

    def rows(self, name: str) -> list[str]:
        """Return the table rows of one extractor."""
        extractor: Extractor = plugins.build("measurers", name, {})
        start = time.process_time()
        if extractor.learns:
            seed = derive_seed("extractor", name)
            seed_everything(seed)
            quantities = (
                compose(self.train, MEASURER, self.context)[0] if extractor.uses_composition else None
            )
            fit_start = time.process_time()
            extractor.fit(self.train.images, quantities, WorkContext(seed=seed, folder=self.context.folder))
            start = fit_start
        fitting, start = time.process_time() - start, time.process_time()
        train, reference = (self.evidence(side, extractor) for side in (self.train, self.reference))
        each = (time.process_time() - start) / (len(self.train) + len(self.reference))

        def scores(sample: Cohort) -> list[float]:
            trial = Trial(reference, self.evidence(sample, extractor), train, 0)
            return [
                next(
                    s.value for s in plugins.build("metrics", metric, {}).scores(trial) if s.output == output
                )
                for metric, output in SCORES.items()
            ]

        untouched = np.array([scores(sample) for sample in self.found[""]])
        made = f"{fitting:.0f} s; {1000 * each:.0f} ms"
        result = []
        for defect, levels in self.found.items():
            if not defect:
                continue
            curve = np.array([untouched[0], *(scores(sample) for sample in levels)])
            cells = []
            for column in range(len(SCORES)):
                rank = float(spearmanr(np.arange(len(curve)), curve[:, column]).statistic)
                worse = np.flatnonzero(curve[1:, column] > untouched[:, column].max())
                cells.append(f"{rank:.2f}, from step {worse[0] + 1}" if len(worse) else f"{rank:.2f}, never")
            result.append(f"| {name} | {made} | {defect} | {' | '.join(cells)} |")
            print(result[-1], flush=True)
        return result


def main() -> None:
    """Render, damage, compare, and write the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--subjects", type=int, default=900, help="at least 9 for each subject of a sample")
    parser.add_argument("--seed", type=int, default=3)
    asked = parser.parse_args()
    n = asked.subjects // 9
    levels = "; ".join(f"{name} {', '.join(f'{x:g}' for x in found)}" for name, (_, found) in DEFECTS.items())
    lines = [
        f"{n} damaged subjects against {n}, {3 * n} for training. Steps: {levels}; too alike {', '.join(map(str, ALIKE))}.",
        "",
        f"| extractor | fit; a volume (CPU) | defect | {' | '.join(SCORES.values())} |",
        "| --- | --- | --- | --- | --- |",
    ]
    print("\n".join(lines))
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        source = {"subjects": asked.subjects, "seed": asked.seed}
        cohort = plugins.build("cohorts", "phantom", source).load(WorkContext(folder=folder))
        bench = Bench(cohort, n, folder)
        for name in EXTRACTORS:
            lines += bench.rows(name)
    RESULTS.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
