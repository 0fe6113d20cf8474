"""Accuracy and ROC-AUC, with bootstrap intervals over the test images."""

import numpy as np

THRESHOLD = 0.5


def accuracy(malignant, scores):
    """Share of images whose score is on the right side of 0.5.

    Args:
        malignant: bool [n].
        scores: float [n], probability of malignant.
    """
    return float(np.mean((np.asarray(scores) >= THRESHOLD) == np.asarray(malignant)))


def _weighted_auc(malignant, scores, weights):
    """ROC-AUC for each row of weights [b, n]: the chance that a malignant image scores above a benign one, ties half."""
    order = np.argsort(scores, kind="stable")
    group = np.unique(np.asarray(scores)[order], return_index=True)[1]  # where each distinct score starts
    positive = np.add.reduceat(weights[:, order] * malignant[order], group, axis=1)
    negative = np.add.reduceat(weights[:, order] * ~malignant[order], group, axis=1)
    below = np.cumsum(negative, axis=1) - negative
    wins = (positive * (below + negative / 2)).sum(axis=1)
    return wins / (positive.sum(axis=1) * negative.sum(axis=1))


def roc_auc(malignant, scores):
    """Area under the ROC curve; equal to scikit-learn's roc_auc_score."""
    malignant = np.asarray(malignant, bool)
    return float(_weighted_auc(malignant, np.asarray(scores), np.ones((1, len(malignant))))[0])


def resampled(malignant, scores, resamples, seed, batch=100):
    """Bootstrap distribution of both metrics, averaged over runs.

    Test images are resampled within their class (the test set's balance is a choice, not a sample); all runs see the
    same resample, and equal seeds draw equal resamples, so differences of two calls are paired.

    Args:
        malignant: bool [n].
        scores: float [runs, n].

    Returns:
        dict: accuracy, roc_auc, each float64 [resamples].
    """
    malignant, scores = np.asarray(malignant, bool), np.atleast_2d(scores)
    rng = np.random.default_rng(seed)
    right = (scores >= THRESHOLD) == malignant
    drawn = {"accuracy": [], "roc_auc": []}
    for start in range(0, resamples, batch):
        count = min(batch, resamples - start)
        weights = np.zeros((count, len(malignant)))
        for members in (np.flatnonzero(malignant), np.flatnonzero(~malignant)):
            weights[:, members] = rng.multinomial(len(members), np.full(len(members), 1 / len(members)), count)
        drawn["accuracy"].append((weights @ right.T / len(malignant)).mean(axis=1))
        drawn["roc_auc"].append(np.mean([_weighted_auc(malignant, s, weights) for s in scores], axis=0))
    return {name: np.concatenate(values) for name, values in drawn.items()}


def summarize(malignant, scores, resamples, seed):
    """Accuracy and ROC-AUC averaged over runs, with 95 % bootstrap intervals over the test images (see `resampled`).

    Args:
        malignant: bool [n].
        scores: float [runs, n].

    Returns:
        dict: accuracy, roc_auc, each with _low and _high, and _sd over runs (0 for one run).
    """
    malignant, scores = np.asarray(malignant, bool), np.atleast_2d(scores)
    drawn = resampled(malignant, scores, resamples, seed)
    points = {
        "accuracy": [accuracy(malignant, s) for s in scores],
        "roc_auc": [roc_auc(malignant, s) for s in scores],
    }
    result = {}
    for name, values in points.items():
        low, high = np.quantile(drawn[name], [0.025, 0.975])
        sd = np.std(values, ddof=1) if len(values) > 1 else 0.0
        result |= {
            name: float(np.mean(values)),
            f"{name}_low": float(low),
            f"{name}_high": float(high),
            f"{name}_sd": float(sd),
        }
    return result


def difference(malignant, better, worse, metric, resamples, seed):
    """How much higher `metric` (accuracy | roc_auc) is with scores `better` than with `worse`, both float [runs, n].

    The bootstrap is paired: both see the same resampled test images.

    Returns:
        (difference, low, high): the mean over runs and its 95 % interval.
    """
    malignant = np.asarray(malignant, bool)
    measure = {"accuracy": accuracy, "roc_auc": roc_auc}[metric]
    point = np.mean([measure(malignant, s) for s in better]) - np.mean([measure(malignant, s) for s in worse])
    drawn = resampled(malignant, better, resamples, seed)[metric] - resampled(malignant, worse, resamples, seed)[metric]
    low, high = np.quantile(drawn, [0.025, 0.975])
    return float(point), float(low), float(high)
