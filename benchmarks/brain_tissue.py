"""Shows how far the measurer ``brain-tissue`` can be trusted, on a BIDS folder of skull-stripped T1w volumes.

    python benchmarks/brain_tissue.py ../shared/data/oasis1-bids --fine ../shared/data/oasis1-bids-2mm-40

The table must have an ``age``; ``nwbv`` (a published tissue fraction) and ``cdr`` (dementia rating) are compared with
where they are there, second sessions (``retest.tsv``) and a folder of the same subjects at a finer grid likewise.
Yardsticks: without dementia the brain loses 0.45 % of its volume a year after 65, in very mild dementia 0.98 %; loss
begins in early adulthood and accelerates, white matter's later than grey matter's (Fotenos et al. 2005, Neurology 64).
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
from scipy.cluster.vq import kmeans2

from mmbench.api import Geometry, NotMeasurable
from mmbench.metrics.brain_tissue import BrainTissue

OLD = 60
"""Age from which slopes are given apart and dementia is compared."""
THRESHOLD = "threshold only"
"""Baseline: share of the voxels in the mask above the lower threshold of three intensity classes (k-means)."""


def volumes(folder: Path) -> pd.DataFrame:
    """Return subject, session and file of every T1w volume."""
    files = sorted(folder.glob("sub-*/**/*_T1w.nii*"))
    sessions = [next((part for part in file.parts if part.startswith("ses-")), "") for file in files]
    subjects = [file.relative_to(folder).parts[0] for file in files]
    return pd.DataFrame({"subject": subjects, "session": sessions, "file": files})


def measured(files: pd.DataFrame) -> tuple[pd.DataFrame, float]:
    """Return the quantities of every volume, the baseline and the table's file columns; and CPU ms a volume."""
    rows, spent, tool = [], 0.0, BrainTissue()
    for file in files["file"]:
        image = nib.Nifti1Image.from_filename(file)
        geometry = Geometry(image.shape, tuple(map(tuple, image.affine.tolist())), ("T1w",))
        volume = np.asarray(image.dataobj, np.float32)
        begin = time.process_time()
        try:
            row = tool.measure(volume[None], geometry)
        except NotMeasurable as error:
            print(f"{file}: not measurable: {error}")
            row = {}
        spent += time.process_time() - begin
        row[THRESHOLD] = above_threshold(volume)
        rows.append(row)
    table = pd.DataFrame(rows, index=files.index)
    return pd.concat([files, table], axis=1), 1e3 * spent / max(len(files), 1)


def above_threshold(volume: np.ndarray) -> float:
    """Return the baseline of one volume."""
    inside = volume[volume > 0.02 * np.percentile(volume, 99.9)].astype(float)
    inside = np.minimum(inside, np.percentile(inside, 99.5))
    fluid, grey, _ = np.sort(kmeans2(inside, np.percentile(inside, [10, 50, 90]), iter=50)[0])
    return float((inside > (fluid + grey) / 2).mean())


def residual(values: np.ndarray, age: np.ndarray) -> np.ndarray:
    """Return what a parabola in age leaves of the values."""
    return values - np.polyval(np.polyfit(age, values, 2), age)


def percent_a_year(values: np.ndarray, age: np.ndarray) -> float:
    """Return the slope of a line through the values, in per cent of their mean."""
    return 100 * float(np.polyfit(age, values, 1)[0]) / float(np.mean(values))


def icc(first: np.ndarray, second: np.ndarray) -> float:
    """Return the intraclass correlation ICC(2,1), absolute agreement (Shrout and Fleiss 1979)."""
    pairs = np.stack([first, second], axis=1)
    n, grand = len(pairs), pairs.mean()
    rows, columns = pairs.mean(axis=1, keepdims=True), pairs.mean(axis=0, keepdims=True)
    between = 2 * ((rows - grand) ** 2).sum() / (n - 1)
    sessions = n * ((columns - grand) ** 2).sum()
    error = ((pairs - rows - columns + grand) ** 2).sum() / (n - 1)
    return float((between - error) / (between + error + 2 * (sessions - error) / n))


def difference(values: np.ndarray, ill: np.ndarray, age: np.ndarray) -> tuple[float, float]:
    """Return how much the ill differ from the well of the same age, in per cent of the mean, and its t value."""
    design = np.stack([np.ones_like(age), age, ill.astype(float)], axis=1)
    solution, _, _, _ = np.linalg.lstsq(design, values, rcond=None)
    left = values - design @ solution
    variance = left @ left / (len(values) - 3) * np.linalg.inv(design.T @ design)[2, 2]
    return 100 * float(solution[2]) / float(np.mean(values)), float(solution[2] / np.sqrt(variance))


def age_r2(features: np.ndarray, age: np.ndarray, folds: int = 5) -> float:
    """Return the cross-validated share of age's variance that a quadratic model of the features explains."""
    scaled = (features - features.mean(axis=0)) / features.std(axis=0)
    design = np.concatenate([np.ones((len(age), 1)), scaled, scaled**2], axis=1)
    fold = np.random.default_rng(0).permutation(len(age)) % folds
    predicted = np.empty(len(age))
    for k in range(folds):
        solution, _, _, _ = np.linalg.lstsq(design[fold != k], age[fold != k], rcond=None)
        predicted[fold == k] = design[fold == k] @ solution
    return 1 - float(((age - predicted) ** 2).sum() / ((age - age.mean()) ** 2).sum())


def figures(table: pd.DataFrame, names: list[str], retest: pd.DataFrame, fine: pd.DataFrame) -> pd.DataFrame:
    """Return one row of figures for each quantity."""
    age = table["age"].to_numpy(float)
    well = (table["cdr"].fillna(0) == 0).to_numpy() if "cdr" in table else np.ones(len(table), bool)
    rows = {}
    for name in names:
        values = table[name].to_numpy(float)
        row = {"mean": values.mean(), "r age": np.corrcoef(values, age)[0, 1]}
        if "nwbv" in table and name != "nwbv":
            nwbv = table["nwbv"].to_numpy(float)
            row["r nwbv"] = np.corrcoef(values, nwbv)[0, 1]
            row["r nwbv | age"] = np.corrcoef(residual(values, age), residual(nwbv, age))[0, 1]
        for title, group in ((f"%/y < {OLD}", well & (age < OLD)), (f"%/y >= {OLD}", well & (age >= OLD))):
            row[title] = percent_a_year(values[group], age[group])
        old = age >= OLD
        if not well[old].all():
            row["demented %"], row["t"] = difference(values[old], ~well[old], age[old])
        for title, other in (("ICC retest", retest), ("ICC fine", fine)):
            if name in other:
                both = other.index.intersection(table.index)
                row[title] = icc(table.loc[both, name].to_numpy(), other.loc[both, name].to_numpy())
        rows[name] = row
    return pd.DataFrame(rows).T


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, nargs="?", default=Path("../shared/data/oasis1-bids"))
    parser.add_argument("--fine", type=Path, help="the same subjects at a finer grid")
    arguments = parser.parse_args()
    people = pd.read_csv(
        arguments.folder / "participants.tsv", sep="\t", index_col="participant_id", na_values="n/a"
    )
    read, milliseconds = measured(volumes(arguments.folder))
    first = read.drop_duplicates("subject").set_index("subject")
    again = read[read.duplicated("subject")].drop_duplicates("subject").set_index("subject")
    fine = pd.DataFrame()
    if arguments.fine:
        fine = measured(volumes(arguments.fine))[0].drop_duplicates("subject").set_index("subject")
    table = people.join(first, how="inner").dropna(subset=["age", "tissue_fraction"])
    names = [quantity.name for quantity in BrainTissue.quantities]
    shown = [*names, THRESHOLD, *(["nwbv"] if "nwbv" in table else [])]
    print(f"{len(table)} subjects, {len(again)} scanned twice, {len(fine)} on a finer grid; ", end="")
    print(f"{milliseconds:.1f} ms CPU a volume\n")
    with pd.option_context(
        "display.width", 200, "display.max_columns", 20, "display.float_format", "{:.3f}".format
    ):
        print(figures(table, shown, again, fine).to_string(na_rep="-"))
    print("\nage explained, cross-validated R2:")
    age = table["age"].to_numpy(float)
    for features in (
        [THRESHOLD],
        ["tissue_fraction"],
        ["grey_fraction", "white_fraction", "deep_csf_fraction"],
    ):
        print(f"  {', '.join(features)}: {age_r2(table[features].to_numpy(float), age):.3f}")


if __name__ == "__main__":
    main()
