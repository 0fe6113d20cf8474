import numpy as np

from dermaflux.runs import Runs, best_arm


def runs(name, synthetic, scores):
    arm = {"name": f"{name}{synthetic}", "real": 10, "generator": "g", "synthetic": synthetic}
    return Runs(name, arm, (0,), np.array([False, True]), np.array([scores]))


def test_the_best_arm_is_the_best_of_those_with_synthetic_images():
    study = {("vit", "a"): runs("vit", 0, [0.1, 0.9]), ("vit", "b"): runs("vit", 5, [0.9, 0.1])}
    assert best_arm(study, "vit").arm["synthetic"] == 5


def test_without_synthetic_images_it_is_the_best_of_all():
    study = {("vit", "a"): runs("vit", 0, [0.9, 0.1]), ("vit", "b"): runs("vit", 0, [0.1, 0.9])}
    assert best_arm(study, "vit").scores[0, 1] == 0.9
