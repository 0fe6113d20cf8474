"""The paper's run, planned on a fresh clone without data, network or GPU."""

import os
import re
import subprocess

import pytest

from conftest import load_paper_config
from workflow import SNAKEMAKE, fresh_clone, plan, planned, snakemake


@pytest.fixture(scope="module")
def clone(tmp_path_factory):
    return fresh_clone(tmp_path_factory.mktemp("clone"))


@pytest.fixture(scope="module")
def jobs(clone):
    return planned(clone)


def test_the_whole_run_of_the_paper_is_planned(jobs):
    assert jobs["index_dataset"] == jobs["decide_rows"] + 1 == 12  # eleven datasets, and Derm-T2IM's released images
    # 519,803 images in shards of 4,096, and Derm-T2IM's 6,000 images in two
    assert jobs["caption_shard"] == jobs["encode_shard"] == jobs["prepare_shard"] - 2 == 134
    assert jobs["train_lora"] == 1
    assert jobs["sample_shard"] == 2 * 20000 / 500
    # 4 sizes x 8 ratios; synthetic only at 4 sizes and 2 of Derm-T2IM; the comparison at 2 sizes
    assert jobs["train_classifier"] == 2 * (4 * 8 + 4 + 2 + 2) * 5
    assert jobs["score_zero_shot"] == 4
    assert jobs["fetch_model"] == 8
    assert jobs["audit_captions"] == 1


def test_the_server_is_verified_before_it_captions_in_bulk(clone, jobs):
    assert jobs["verify_captioner"] == 1
    output = snakemake(clone, "-n").stdout
    captions = [block for block in output.split("\nrule ")[1:] if block.startswith("caption_shard:")]
    assert len(captions) == 134
    assert all("results/captions/gate.json" in block.split("output:")[0] for block in captions)
    assert output.index("\nrule verify_captioner:") < output.index("\nrule caption_shard:")


@pytest.mark.parametrize("change", ["captioner: measured", "gate: null"])
def test_captioners_without_a_server_and_runs_without_a_gate_are_planned(clone, tmp_path, change):
    overlay = tmp_path / "overlay.yaml"
    overlay.write_text(f"caption: {{{change}}}\n")
    jobs = planned(clone, "--configfile", overlay)
    assert jobs["caption_shard"] == 134 and "verify_captioner" not in jobs


def test_gpu_jobs_and_only_they_ask_for_a_gpu(clone):
    output = snakemake(clone, "-n").stdout
    asks = {
        rule: []
        for rule in ("prepare_shard", "caption_shard", "encode_shard", "train_lora", "sample_shard", "decide_rows")
    }
    for block in output.split("\nrule ")[1:]:
        rule = block.split(":")[0]
        if rule in asks:
            asks[rule].append(" gpu=1" in block)
    gpu = {rule for rule, found in asks.items() if all(found)}
    assert gpu == {"caption_shard", "encode_shard", "train_lora", "sample_shard"}
    assert not any(any(found) for rule, found in asks.items() if rule not in gpu)


def test_a_training_on_several_gpus_is_one_job_that_determines_the_same_lora(clone):
    output = snakemake(clone, "-n", "lora", "--config", "lora={gpus: 4}").stdout
    (job,) = [block for block in output.split("\nrule ")[1:] if block.startswith("train_lora:")]
    assert " gpu=4" in job
    assert "gpus" not in load_paper_config().lora.training_settings()


@pytest.mark.parametrize("target", ["download", "corpus", "lora", "samples", "classifiers", "report"])
def test_each_target_asks_for_its_stage_and_what_it_needs(clone, jobs, target):
    own = {
        "download": "download_archive",
        "corpus": "write_corpus_shard",
        "lora": "train_lora",
        "samples": "sample_shard",
        "classifiers": "train_classifier",
        "report": "write_report",
    }
    some = planned(clone, target)
    assert some[own[target]] == jobs[own[target]]
    later = list(own.values())[list(own).index(target) + 1 :]
    assert not set(later) & set(some) - {"write_corpus_shard"}


def test_images_that_may_not_be_redistributed_are_used_but_not_published(clone):
    published = plan(clone, "corpus").jobs["write_corpus_shard"]
    assert not any("ddi" in job for job in published)
    assert any("dataset=ddi" in job for job in plan(clone, "lora").jobs["encode_shard"])


def test_the_study_of_captioners_is_planned_beside_the_run(clone, jobs):
    study = plan(clone, "captioner_study")
    assert study.jobs["caption_compared"] == ["captioner=llama", "captioner=measured"]
    own = {"draw_comparison_images", "caption_compared", "compare_captioners"}
    assert own <= set(study.counts) and not (own | {"score_reviews"}) & set(jobs)
    assert not {"caption_shard", "train_lora", "score_reviews"} & set(study.counts)
    assert planned(clone, "captioner_study", "--config", "caption_comparison={reviews: reviews}")["score_reviews"] == 1


def test_the_study_of_captioners_uses_a_gpu_for_a_model_and_only_images_that_may_be_redistributed(clone):
    blocks = snakemake(clone, "-n", "captioner_study").stdout.split("\nrule ")
    asks = {block.split("captioner=")[1].split()[0]: " gpu=1" in block for block in blocks if "captioner=" in block}
    assert asks == {"llama": True, "measured": False}
    (drawn,) = [block for block in blocks if block.startswith("draw_comparison_images")]
    assert "images/hiba/0.parquet" in drawn and "images/ddi/0.parquet" not in drawn


def test_the_rule_graph_can_be_drawn(clone):
    graph = subprocess.run([SNAKEMAKE, "--rulegraph"], cwd=clone, capture_output=True, text=True).stdout
    assert "digraph" in graph and "train_lora" in graph and "write_report" in graph


def test_the_slurm_profile_works_by_its_name(clone):
    assert planned(clone, "--profile", "slurm")["train_lora"] == 1


def test_a_misspelt_key_stops_the_plan_and_names_the_right_one(clone):
    done = snakemake(clone, "-n", "--config", "prepare={shard_sise: 5}", check=False)
    assert done.returncode and "prepare.shard_sise: unknown key; did you mean `shard_size`?" in done.stdout


def test_an_unknown_dataset_stops_the_plan_and_lists_those_there_are(clone):
    done = snakemake(clone, "-n", "--config", "datasets=[isic_2091]", "manifest={test_sets: [isic_2091]}", check=False)
    assert (
        done.returncode and "has no descriptor config/datasets/isic_2091.yaml; there are: ddi, derm12345" in done.stdout
    )


def test_a_run_without_a_manual_file_stops_before_its_first_job(clone):
    done = snakemake(clone, "-c1", "download", check=False)
    assert done.returncode and "Stanford Research Use Agreement" in done.stdout
    assert "results/state/download/ddi/manual/ddidiversedermatologyimages.zip" in done.stdout
    assert not (clone / "results/raw").exists()


def test_the_preflight_is_no_part_of_the_run_and_stops_with_its_table(clone, jobs):
    assert "preflight" not in jobs
    closed = {"HF_ENDPOINT": "http://127.0.0.1:9", "HF_HOME": str(clone / "nobody"), "KAGGLE_CONFIG_DIR": str(clone)}
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("HF_", "KAGGLE_"))} | closed
    done = snakemake(clone, "-c1", "preflight", check=False, env=environment)
    assert done.returncode and "checks failed; the table above (results/preflight.csv) says what to do" in done.stdout
    assert "CHECK          WHAT" in done.stdout and "KAGGLE_USERNAME" in done.stdout
    assert (clone / "results/preflight.csv").read_text().startswith("check,what,state,to_do\n")


def test_the_preflight_of_the_demo_finds_all_in_place(clone):
    demo = snakemake(clone, "--profile", "profiles/demo", "preflight").stdout
    assert "painted" in demo and "no GPU is used" in demo and " fail " not in demo


def test_the_plan_names_every_file_to_download_with_its_size_and_licence(clone):
    output = snakemake(clone, "-n", "download", "--quiet", "host").stdout
    lines = dict(re.findall(r"Download (\S+) of \w+: (.*)", output))
    files = [archive.name for d in load_paper_config().load_descriptors().values() for archive in d.archives]
    assert sorted(lines) == sorted(files)
    assert lines["ISIC_2020_Training_JPEG.zip"] == "about 23,000 MB, licence CC-BY-NC-4.0, access https"
    assert lines["ddidiversedermatologyimages.zip"].endswith("access manual")
