from conftest import load_paper_config
from dermaflux.arms import Arm, all_arms, needed


def test_arms_are_named_after_what_they_train_on():
    assert Arm(2500, "dermaflux", 4375).name == "real2500_dermaflux4375"
    assert Arm(2500, None, 0).name == "real2500"
    assert Arm(0, "dermaflux", 2500).name == "dermaflux2500"


def test_the_papers_study_has_its_sweep_and_comparisons_each_arm_once():
    arms = all_arms(load_paper_config().classify)
    names = [arm.name for arm in arms]
    assert len(names) == len(set(names)) == 32 + 4 + 2 + 2
    assert {"real2500", "real10000_dermaflux40000", "dermaflux10000", "real5000_derm_t2im5000"} <= set(names)


def test_the_largest_arm_says_how_many_images_are_drawn():
    arms = all_arms(load_paper_config().classify)
    assert [needed(arms, source) for source in ("real", "dermaflux", "derm_t2im", "none")] == [10000, 40000, 5000, 0]
