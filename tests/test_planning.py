import pytest

from conftest import ROOT, load_paper_config
from dermaflux import planning
from dermaflux.closed import load


@pytest.fixture(scope="module")
def rates():
    return load(planning.Rates, ROOT / "config/rates.yaml")


def paper(**lora):
    config = load_paper_config()
    return config.model_copy(update={"lora": config.lora.model_copy(update=lora)})


@pytest.fixture(autouse=True)
def at_the_root(monkeypatch):
    monkeypatch.chdir(ROOT)


def test_rates_of_other_sizes_are_those_of_the_next_larger_one_or_grow_with_the_area():
    rates = {128: 11.0, 256: 28.0, 512: 97.0}
    assert [planning.at_scale(rates, scale) for scale in (64, 128, 192, 512, 1024)] == [11, 11, 28, 97, 4 * 97]


def test_tiles_count_as_small_images_and_all_others_as_large():
    config = load_paper_config()
    images = planning.images_by_scale(config, config.load_descriptors())
    assert images == {128: 401_059, 512: 519_803 - 401_059}


def test_latents_take_the_bytes_that_encode_shard_writes(rates):
    from flux_corpus import corpus

    config = load_paper_config()
    stages = planning.disk_by_stage(config, config.load_descriptors(), rates)
    assert stages["train: latents"] == 401_059 * 128**2 + 118_744 * 512**2
    written = corpus()["latents"].stat().st_size  # 10 images of 64 px, 6 of 128 px, and a header
    assert 0 < written - (10 * 64**2 + 6 * 128**2) < 3000


def test_the_parameters_counted_are_those_that_are_trained():
    from dermaflux.lora import TARGETS

    assert set(planning.LORA_PARAMETERS) == set(TARGETS)  # whose counts test_lora has
    assert planning.lora_bytes(paper()) == 4 * 64 * 5_369_856


def test_training_on_more_gpus_or_without_checkpointing_needs_other_memory(rates):
    def memory(**lora):
        return planning.gpu_memory_by_stage(paper(**lora), rates)["train"]

    assert memory(gpus=4) < memory() < 80 < memory(gradient_checkpointing=False)
    assert memory() - memory(targets="attention") == pytest.approx(4 * 4 * 64 * (5_369_856 - 1_634_304) / 1e9)


def test_a_captioner_without_a_model_needs_no_gpu(rates):
    config = load_paper_config()
    measured = config.model_copy(update={"caption": config.caption.model_copy(update={"captioner": "measured"})})
    assert "caption" in planning.gpu_memory_by_stage(config, rates)
    assert "caption" not in planning.gpu_memory_by_stage(measured, rates)
