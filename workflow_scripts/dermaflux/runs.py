"""Predictions of finished classifier runs, gathered by classifier and arm."""

from dataclasses import dataclass

import numpy as np

from dermaflux.errors import UserError
from dermaflux.files import read_json
from dermaflux.tables import read_frame


@dataclass(frozen=True)
class Runs:
    """All runs of one classifier on one arm (or one zero-shot model, whose arm has no images).

    malignant: bool [n]; scores: float [runs, n], in the order of image_id; seeds: one a run.
    """

    name: str
    arm: dict
    seeds: tuple
    malignant: np.ndarray
    scores: np.ndarray


def _read_scores(path):
    frame = read_frame(path).sort_values("image_id")
    return frame["image_id"].to_numpy(), (frame["label"] == "malignant").to_numpy(), frame["score"].to_numpy()


def _gather(name, arm, seeds, paths):
    ids, malignant, scores = zip(*map(_read_scores, paths), strict=True)
    if any((other != ids[0]).any() for other in ids):
        raise UserError(f"the predictions of {name} are over different test images: {', '.join(paths)}")
    return Runs(name, arm, tuple(seeds), malignant[0], np.stack(scores))


def load_runs(predictions, metrics):
    """Runs by (classifier, arm name).

    Args:
        predictions, metrics: paths of the files of train_classifier, in the same order.
    """
    groups = {}
    for prediction, metric in zip(predictions, metrics, strict=True):
        facts = read_json(metric)
        groups.setdefault((facts["classifier"], facts["arm"]["name"]), []).append((facts, prediction))
    return {
        key: _gather(key[0], files[0][0]["arm"], [facts["seed"] for facts, _ in files], [path for _, path in files])
        for key, files in groups.items()
    }


def load_zero_shot(predictions):
    """Runs of the zero-shot models by name.

    Args:
        predictions: dict name -> path.
    """
    return {name: _gather(name, {"name": name}, [None], [path]) for name, path in predictions.items()}


def best_arm(runs, classifier):
    """The runs of `classifier` with the highest mean ROC-AUC among the arms with synthetic images (all if there are none)."""
    from dermaflux.metrics import roc_auc

    own = [r for (name, _), r in runs.items() if name == classifier]
    synthetic = [r for r in own if r.arm["synthetic"]] or own
    return max(synthetic, key=lambda r: np.mean([roc_auc(r.malignant, s) for s in r.scores]))
