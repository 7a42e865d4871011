"""Regressions that predict points: one that is linear, one that is not, and a neural network."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

Learner = Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]
"""Takes features (n, p) and answers (n, dimensions) to learn from, features (m, p), and returns (m, dimensions)."""

_PENALTIES = np.logspace(-4, 2, 13)  # a record; from next to none to one that leaves only the mean
_FIRM = 0.5
"""Firmest penalty a record of the jackknife: where the chosen one leaves nothing to vary, the trees beside it still
do. Chosen such that intervals hold for permuted columns too."""
_LEAF = 5  # scikit-learn's default of 1 learns noise; 5 is the customary size for regression (Breiman 2001)
_HIDDEN, _DECAY, _STEPS = 32, 10.0, 200  # a network that 100 records can teach: chosen


def learners(trees: int, network: bool, tree_records: int, seed: int) -> dict[str, Learner]:
    """Return the learners by name.

    Args:
        trees: Number of randomised trees.
        network: Whether a neural network is one of them.
        tree_records: Most records that trees and network learn from; the first so many are taken.
        seed: Seed of trees and network.
    """

    def grown(known: np.ndarray, answers: np.ndarray, fresh: np.ndarray) -> np.ndarray:
        return randomised_trees(*in_order(known[:tree_records], answers[:tree_records]), fresh, trees, seed)

    def trained(known: np.ndarray, answers: np.ndarray, fresh: np.ndarray) -> np.ndarray:
        return neural_network(*in_order(known[:tree_records], answers[:tree_records]), fresh, seed)

    chosen: dict[str, Learner] = {"ridge": ridge, "trees": grown}
    return chosen | {"network": trained} if network else chosen


def in_order(known: np.ndarray, answers: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return records in an order that their values set: splits that are equally good are told apart by rounding."""
    order = np.lexsort(np.concatenate([answers, known], axis=1).T)
    return known[order], answers[order]


def ridge(known: np.ndarray, answers: np.ndarray, fresh: np.ndarray) -> np.ndarray:
    """Return predictions of a ridge regression (Hoerl, Kennard 1970, Technometrics 12).

    Of 13 penalties the one with the least squared error when each record in turn is left out is taken, which a
    single decomposition gives for all (Golub, Heath, Wahba 1979, Technometrics 21).
    """
    centre, middle = known.mean(axis=0), answers.mean(axis=0)
    penalty = len(known) * ridge_penalty(known, answers)
    known, answers = known - centre, answers - middle
    coefficients = np.linalg.solve(known.T @ known + penalty * np.eye(known.shape[1]), known.T @ answers)
    return np.asarray((fresh - centre) @ coefficients + middle)


def ridge_penalty(known: np.ndarray, answers: np.ndarray) -> float:
    """Return the penalty a record with which ridge regression predicts left-out records best."""
    known, answers, n = known - known.mean(axis=0), answers - answers.mean(axis=0), len(known)
    variances, directions = np.linalg.eigh(known.T @ known)
    variances, turned = np.maximum(variances, 0), known @ directions
    projected, squares = turned.T @ answers, turned**2
    errors = []
    for penalty in n * _PENALTIES:
        shrunk = 1 / (variances + penalty)
        kept = 1 - 1 / n - squares @ shrunk
        errors.append((((answers - turned @ (shrunk[:, None] * projected)) / kept[:, None]) ** 2).sum())
    return float(_PENALTIES[int(np.argmin(errors))])


def ridge_without(
    known: np.ndarray, answers: np.ndarray, fresh: np.ndarray, group: np.ndarray, groups: int
) -> Iterator[np.ndarray]:
    """Yield predictions of ridge regressions that were not taught one group of records each.

    All have the penalty of the whole. Sums over a group are taken off those over all: time does not grow with
    the number of groups.

    Args:
        known: Features to learn from, of shape (n, p).
        answers: Points to learn, of shape (n, dimensions).
        fresh: Features to predict from, of shape (m, p).
        group: Group of each record, from 0, of shape (n,).
        groups: Number of groups.
    """
    penalty = min(ridge_penalty(known, answers), _FIRM)
    known, fresh = (np.hstack([np.ones((len(points), 1)), points]) for points in (known, fresh))
    shrink = np.diag([0.0] + [1.0] * (known.shape[1] - 1))
    squares, products = known.T @ known, known.T @ answers
    for left in range(groups):
        out = group == left
        a, b = known[out], answers[out]
        system = squares - a.T @ a + penalty * (~out).sum() * shrink
        yield fresh @ np.linalg.solve(system, products - a.T @ b)


def randomised_trees(
    known: np.ndarray, answers: np.ndarray, fresh: np.ndarray, trees: int, seed: int
) -> np.ndarray:
    """Return the mean prediction of extremely randomised trees (Geurts, Ernst, Wehenkel 2006, Mach Learn 63)."""
    from sklearn import config_context
    from sklearn.tree import ExtraTreeRegressor

    known, fresh = (np.ascontiguousarray(points, dtype=np.float32) for points in (known, fresh))
    answers = np.ascontiguousarray(answers)
    total = np.zeros((len(fresh), answers.shape[1]))
    # scikit-learn's forest clones and checks each tree, which at 100 records takes longer than to grow it.
    with config_context(skip_parameter_validation=True):
        for state in np.random.default_rng(seed).integers(0, 2**31, trees):
            tree = ExtraTreeRegressor(min_samples_leaf=_LEAF, max_features=1.0, random_state=int(state))
            tree.fit(known, answers, check_input=False)
            total += tree.predict(fresh, check_input=False).reshape(total.shape)
    return total / trees


def neural_network(known: np.ndarray, answers: np.ndarray, fresh: np.ndarray, seed: int) -> np.ndarray:
    """Return predictions of a network with one hidden layer of 32 units and weight decay."""
    import warnings

    from sklearn.exceptions import ConvergenceWarning
    from sklearn.neural_network import MLPRegressor

    centre, spread = known.mean(axis=0), known.std(axis=0)
    spread[spread == 0] = 1
    model = MLPRegressor(
        hidden_layer_sizes=(_HIDDEN,),
        alpha=_DECAY,
        solver="lbfgs",
        max_iter=_STEPS,
        random_state=seed % 2**32,
    )
    outcome = answers[:, 0] if answers.shape[1] == 1 else answers
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit((known - centre) / spread, outcome)
    return np.asarray(model.predict((fresh - centre) / spread)).reshape(len(fresh), -1)
