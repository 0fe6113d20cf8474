import re

import pytest
import yaml

from conftest import ROOT
from dermaflux.closed import ConfigError, load
from dermaflux.config import Config, parse_config


@pytest.fixture
def paper():
    return yaml.safe_load((ROOT / "config.yaml").read_text())


def test_the_papers_configuration_is_valid(paper):
    config = parse_config(paper)
    assert len(config.datasets) == 11
    assert config.lora.rank == config.lora.alpha == 64


def test_every_key_of_the_papers_configuration_has_a_comment():
    lines = (ROOT / "config.yaml").read_text().splitlines()
    keys = [line for line in lines if re.match(r" *(- )?[a-z_]+: +[^#{ ]", line)]
    assert len(keys) > 60
    assert [line for line in keys if " #" not in line and "skin lesion" not in line] == []


@pytest.mark.parametrize(
    ("section", "key", "hint"),
    [("lora", "rnak", "`rank`"), ("prepare", "min_sid", "`min_side`"), (None, "dataset", "`datasets`")],
)
def test_a_misspelt_key_is_refused_and_the_nearest_right_one_named(paper, section, key, hint):
    (paper[section] if section else paper)[key] = 1
    with pytest.raises(ConfigError, match=f"{key}: unknown key; did you mean {hint}"):
        parse_config(paper)


def test_a_misspelt_key_in_a_list_of_alternatives_is_named(paper):
    paper["generators"][0]["step"] = 20
    with pytest.raises(ConfigError, match="generators.0.sampler.step: unknown key; did you mean `steps`"):
        parse_config(paper)


def test_a_shard_size_of_0_is_refused(paper):
    paper["prepare"]["shard_size"] = 0
    with pytest.raises(ConfigError, match="prepare.shard_size: Input should be greater than 0"):
        parse_config(paper)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("images", 99, "caption_comparison.images: Input should be a multiple of 2"),
        ("captioners", ["measured", "measured"], "caption_comparison.captioners: .*a captioner stands twice"),
        ("captioners", [], "caption_comparison.captioners: List should have at least 1 item"),
        ("captioners", ["gpt"], "caption_comparison.captioners: 'gpt' is not in `captioners`"),
    ],
)
def test_a_comparison_of_captioners_that_cannot_be_made_is_refused(paper, key, value, message):
    paper["caption_comparison"][key] = value
    with pytest.raises(ConfigError, match=message):
        parse_config(paper)


def test_a_model_that_is_not_listed_is_named(paper):
    paper["lora"]["model"] = "flx"
    with pytest.raises(ConfigError, match="lora.model: 'flx' is not in `models`"):
        parse_config(paper)


def test_a_missing_file_and_broken_yaml_say_so(tmp_path):
    with pytest.raises(ConfigError, match="does not exist"):
        load(Config, tmp_path / "none.yaml")
    (tmp_path / "broken.yaml").write_text("a: [1")
    with pytest.raises(ConfigError, match="not valid YAML"):
        load(Config, tmp_path / "broken.yaml")


def test_the_reviews_that_were_sent_back_are_the_csv_files_of_their_folder(paper, tmp_path):
    for name in ("review_bo.csv", "review_ada.csv", "notes.txt"):
        (tmp_path / name).touch()
    assert parse_config(paper).caption_comparison.filled_in_reviews() == []
    paper["caption_comparison"]["reviews"] = str(tmp_path)
    found = parse_config(paper).caption_comparison.filled_in_reviews()
    assert found == [f"{tmp_path}/review_ada.csv", f"{tmp_path}/review_bo.csv"]
