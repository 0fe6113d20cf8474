import numpy as np
import pytest
from sklearn.metrics import accuracy_score, roc_auc_score

from dermaflux.metrics import accuracy, difference, resampled, roc_auc, summarize

RNG = np.random.default_rng(0)
MALIGNANT = RNG.random(400) < 0.4
SCORES = np.clip(np.stack([MALIGNANT * 0.3 + RNG.random(400) * 0.7 for _ in range(3)]).round(2), 0, 1)


def test_figures_are_those_of_scikit_learn_also_with_ties():
    for scores in SCORES:
        assert accuracy(MALIGNANT, scores) == accuracy_score(MALIGNANT, scores >= 0.5)
        assert roc_auc(MALIGNANT, scores) == pytest.approx(roc_auc_score(MALIGNANT, scores))


def test_resamples_are_the_figures_of_resampled_images():
    drawn = resampled(MALIGNANT, SCORES[:1], 300, 0)
    by_hand = []
    for _ in range(300):
        rows = np.concatenate(
            [RNG.choice(np.flatnonzero(side == MALIGNANT), (side == MALIGNANT).sum()) for side in (0, 1)]
        )
        by_hand.append(roc_auc_score(MALIGNANT[rows], SCORES[0][rows]))
    assert np.mean(drawn["roc_auc"]) == pytest.approx(np.mean(by_hand), abs=0.005)
    assert np.std(drawn["roc_auc"]) == pytest.approx(np.std(by_hand), rel=0.2)


def test_a_summary_has_the_mean_its_interval_and_the_spread_over_runs():
    result = summarize(MALIGNANT, SCORES, 200, 0)
    assert result["roc_auc"] == pytest.approx(np.mean([roc_auc_score(MALIGNANT, s) for s in SCORES]))
    assert result["roc_auc_low"] < result["roc_auc"] < result["roc_auc_high"]
    assert result["accuracy_sd"] == pytest.approx(np.std([accuracy(MALIGNANT, s) for s in SCORES], ddof=1))
    assert result == summarize(MALIGNANT, SCORES, 200, 0) != summarize(MALIGNANT, SCORES, 200, 1)


def test_paired_differences_are_narrower_than_separate_intervals():
    worse = np.clip(SCORES - 0.05 * MALIGNANT, 0, 1)
    gain, low, high = difference(MALIGNANT, SCORES, worse, "roc_auc", 500, 0)
    own = summarize(MALIGNANT, SCORES, 500, 0)
    assert 0 < low < gain < high
    assert high - low < own["roc_auc_high"] - own["roc_auc_low"]
