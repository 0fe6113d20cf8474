"""Do synthetic images show what their label says? A plain model of measured attributes, trained on real images, judges."""

import numpy as np
from sklearn.ensemble import RandomForestClassifier
from sklearn.metrics import roc_auc_score

from dermaflux.draws import manifest_rows
from dermaflux.files import fraction, write_json
from dermaflux.measure import COLORS, measure_lesion
from dermaflux.pictures import decode
from dermaflux.tables import chosen_rows


def attributes_of(rgb):
    """Measured asymmetry, border, colours and spread of `rgb` (uint8 [H, W, 3]), with mean and deviation of its
    channels: float64 [16]."""
    measured = measure_lesion(rgb)
    shape = [measured.asymmetry, measured.border, measured.spread, measured.area]
    pixels = rgb.reshape(-1, 3) / 255
    return np.array([*shape, *(name in measured.colors for name in COLORS), *pixels.mean(0), *pixels.std(0)], float)


def _features(shards, ids):
    features, labels = [], []
    for row in chosen_rows(shards, ids, ["image", "label"]):
        features.append(attributes_of(decode(row["image"])))
        labels.append(row["label"] == "malignant")
    return np.array(features), np.array(labels)


def audit_separability(manifests, shards, generators, output, images, seed):
    """How well a model trained on real training images tells benign from malignant, by ROC-AUC.

    Args:
        manifests, shards: of the corpus.
        generators: dict name -> (paths of shards, list of (id, label)).
        output: JSON to write: real_test (the same model on the test images) and each generator's AUC, with counts.
        images: at most so many of each kind, chosen by a hash of (seed, id).
    """

    def some(rows):
        return set(sorted((id for id, _ in rows), key=lambda id: fraction("separability", seed, id))[:images])

    model = RandomForestClassifier(300, min_samples_leaf=2, random_state=seed, n_jobs=1)
    model.fit(*_features(shards, some(manifest_rows(manifests, "train"))))
    sets = {"real_test": (shards, manifest_rows(manifests, "test")), **generators}
    result = {}
    for name, (paths, rows) in sets.items():
        features, malignant = _features(paths, some(rows))
        auc = roc_auc_score(malignant, model.predict_proba(features)[:, 1])
        result[name] = {"roc_auc": float(auc), "images": len(malignant)}
    write_json(output, result)
