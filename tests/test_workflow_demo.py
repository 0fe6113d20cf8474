"""The README's commands in a fresh clone, and what runs again after a change. Minutes long: one demo for all tests."""

import json
import os
import re
import subprocess

import pandas as pd
import pytest
import yaml

from dermaflux.tables import read_frame
from workflow import fresh_clone, plan, planned, snakemake

pytestmark = pytest.mark.slow
DEMO = ("--profile", "profiles/demo")


def run_command(clone, command):
    """A command of the README, in a shell without this test's virtual environment."""
    environment = {
        k: v for k, v in os.environ.items() if k not in ("VIRTUAL_ENV", "PYTHONPATH", "MAKEFLAGS", "MAKELEVEL")
    }
    done = subprocess.run(command, shell=True, cwd=clone, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, (done.stdout + done.stderr)[-5000:]
    return done.stdout + done.stderr


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    """A fresh clone in which `make demo` has run; it sets up its own .venv."""
    clone = fresh_clone(tmp_path_factory.mktemp("demo"))
    readme = (clone / "README.md").read_text()
    assert "\nmake demo" in readme and "\nmake test" in readme
    output = run_command(clone, "make demo")
    assert "Done. Open results/demo/report/report.html" in output
    return clone


@pytest.fixture(scope="module")
def results(demo):
    return demo / "results/demo"


@pytest.fixture
def edit(demo):
    """A function that edits a file of the clone; the old text comes back after the test."""
    before = {}

    def change(name, old, new, count=1):
        path = demo / name
        before.setdefault(path, path.read_text() if path.exists() else None)
        text = (before[path] or "").replace(old, new, count) if path.exists() else new
        assert text != before[path]
        path.write_text(text)

    yield change
    for path, text in before.items():
        path.unlink() if text is None else path.write_text(text)


def test_a_second_demo_has_nothing_to_do(demo):
    assert "Nothing to be done" in run_command(demo, "make demo")


def test_the_planning_commands_of_the_readme_work(demo):
    blocks = "\n".join(re.findall(r"```sh\n(.*?)```", (demo / "README.md").read_text(), re.S))
    commands = [line.split("#")[0].strip() for line in blocks.splitlines()]
    plans = [c for c in commands if " -n" in c or "--rulegraph" in c or "--lint" in c]
    assert len(plans) >= 2
    for command in plans:
        run_command(demo, "PATH=$PWD/.venv/bin:$PATH; " + command.split("|")[0])


# What the run made


def test_the_summary_holds_every_headline_number(results):
    summary = json.loads((results / "report/summary.json").read_text())
    assert summary["toy"] and summary["corpus"]["datasets"] == 11
    assert summary["corpus"]["rows"] == summary["corpus"]["train"] + summary["corpus"]["test"] + sum(
        summary["corpus"]["excluded"].values()
    )
    assert summary["samples"] == {"dermaflux": 160}
    assert summary["lora"]["loss_last_tenth"] < summary["lora"]["loss_first_tenth"]
    assert {row["classifier"] for row in summary["arms"]} == {"resnext", "vit"}
    assert summary["captions"]["label_contradictions"] == 0 and summary["captions"]["spearman_border"] > 0.8
    assert set(summary["revisions"]) == {"flux", "resnext", "vit", "clip"}
    assert {row["rule"] for row in summary["rules"]} >= {"train_lora", "prepare_shard", "train_classifier"}


def test_benign_and_malignant_samples_look_different(results):
    separability = json.loads((results / "audit/separability.json").read_text())
    assert separability["dermaflux"]["roc_auc"] >= 0.8
    assert separability["real_test"]["roc_auc"] >= 0.7


def test_classifiers_learned_something_from_real_images(results):
    arms = pd.read_csv(results / "tables/arms.csv").set_index(["classifier", "arm"])
    assert arms.loc[("resnext", "real160"), "roc_auc"] > 0.7


def test_every_planted_copy_is_found_and_no_other(results):
    planted = [p for path in results.glob("mirror/*/planted.json") for p in json.loads(path.read_text())]
    copies = {"exact", "same_pixels", "resized", "central_square", "cropped"}
    expected = {frozenset(p["image_ids"]) for p in planted if p["kind"] in copies}
    found = pd.read_csv(results / "audit/leakage.csv")
    found = found[found["exclude_reason"] != "lesion_in_test"]
    pairs = {frozenset(pair) for pair in found[["image_id", "duplicate_of"]].itertuples(index=False, name=None)}
    assert pairs == expected and len(pairs) >= 6


def test_every_awkward_image_is_kept_or_dropped_for_its_reason(results):
    planted = [p for path in results.glob("mirror/*/planted.json") for p in json.loads(path.read_text())]
    images = read_frame(sorted(results.glob("images/*/*.parquet")), ["image_id", "drop_reason"]).set_index("image_id")
    kept = {"exif_rotated", "cmyk", "transparent", "16_bit"}
    dropped = {"too_small", "truncated", "undecodable", "no_image", "no_metadata", "no_label", "ambiguous_label"}
    kinds = {p["kind"] for p in planted}
    assert kinds >= kept | {"too_small", "truncated"}
    for p in planted:
        reasons = set(images.loc[[i for i in p["image_ids"] if i in images.index], "drop_reason"].fillna("kept"))
        if p["kind"] in kept:
            assert reasons == {"kept"}, p
        elif p["kind"] in dropped:
            assert reasons == {p["kind"]}, p


def test_the_report_is_one_file_that_asks_for_nothing(results):
    page = (results / "report/overview.html").read_text()
    assert not re.search(r"(src|href)=[\"']?https?://(?![^\"']*\">)", page.replace("http://www.w3.org", ""))
    assert page.count("<svg") == 3 and page.count("data:image/jpeg") >= 14
    assert "models of this run are toys, and its lesions are painted" in page
    assert (results / "report/report.html").stat().st_size > 10**6


def test_the_study_of_captioners_runs_beside_the_demo(demo, results):
    snakemake(demo, *DEMO, "captioner_study")
    assert list(pd.read_csv(results / "captioners/comparison.csv")["captioner"]) == ["measured"]
    for name in ("comparison", "review"):
        assert (results / f"captioners/{name}.html").read_text().count("data:image/jpeg") == 12
    key = pd.read_csv(results / "captioners/review_key.csv")
    assert len(key) == 12
    # two experts send their sheets back, and the same command counts them
    (demo / "reviews").mkdir()
    for name, rejects in (("Ada", 3), ("Bo", 2)):
        sheet = key[["review_id"]].assign(reviewer=name, verdict=["reject"] * rejects + ["accept"] * (12 - rejects))
        sheet.assign(comment="").to_csv(demo / f"reviews/{name}.csv", index=False)
    snakemake(demo, *DEMO, "captioner_study", "--config", "caption_comparison={reviews: reviews}")
    reviews = pd.read_csv(results / "captioners/reviews.csv").set_index(["captioner", "reviewer"])
    assert reviews.loc["measured", "accepted"].to_dict() == {"Ada": 9, "Bo": 10, "both": 9}
    assert reviews.loc[("measured", "both"), "kappa"] == pytest.approx(0.75)


# What runs again


def test_nothing_runs_again_when_nothing_has_changed(demo):
    assert planned(demo, *DEMO) == {}


@pytest.mark.parametrize("name", ["train_lora.py", "dermaflux/images.py", "dermaflux/lora.py", "dermaflux/tables.py"])
def test_a_comment_costs_nothing(demo, edit, name):
    path = f"workflow_scripts/{name}"
    edit(path, (demo / path).read_text(), "# a comment\n" + (demo / path).read_text())
    assert planned(demo, *DEMO) == {}


def test_adding_a_dataset_reruns_only_it_and_what_trains_on_it(demo, edit):
    descriptor = yaml.safe_load((demo / "config/datasets/med_node.yaml").read_text()) | {"name": "our_clinic"}
    edit("config/datasets/our_clinic.yaml", "", yaml.safe_dump(descriptor))
    edit("config.yaml", "  - isic_2024\n", "  - isic_2024\n  - our_clinic\n")
    todo = plan(demo, *DEMO)
    jobs = todo.counts
    assert jobs["download_archive"] == 1 and " of our_clinic: " in "".join(todo.messages)
    for rule in ("index_dataset", "prepare_shard", "caption_shard", "encode_shard", "decide_rows"):
        assert jobs[rule] == 1 and "our_clinic" in todo.jobs[rule][0]
    assert jobs["train_lora"] == 1 and jobs["sample_shard"] == 4
    assert "fetch_model" not in jobs and "collect_test_images" not in jobs and "score_zero_shot" not in jobs


def test_editing_a_label_mapping_reruns_the_dataset_and_what_looks_at_it(demo, edit):
    edit("config/datasets/isic_2020.yaml", "lentigo NOS: benign", "lentigo NOS: ambiguous")
    todo = plan(demo, *DEMO)
    jobs = todo.counts
    assert "download_archive" not in jobs and "fetch_model" not in jobs
    for rule in ("index_dataset", "prepare_shard", "caption_shard", "encode_shard"):
        assert jobs[rule] == 1 and "isic_2020" in todo.jobs[rule][0]
    # its own slice and those of the datasets listed after it
    assert len(todo.jobs["decide_rows"]) == jobs["decide_rows"] == 7
    assert jobs["train_lora"] == 1


def test_editing_a_training_setting_touches_no_data(demo, edit):
    edit("config/demo.yaml", "learning_rate:", "weight_decay: 0.5\n  learning_rate:")
    todo = plan(demo, *DEMO)
    jobs = todo.counts
    assert jobs["train_lora"] == 1 and jobs["sample_shard"] == 4
    data = {"download_archive", "index_dataset", "prepare_shard", "caption_shard", "encode_shard", "decide_rows"}
    assert not data & set(jobs) and "score_zero_shot" not in jobs
    # real images are drawn as before, and so are their arms
    assert ["source=dermaflux" in job for job in todo.jobs["draw_images"]] == [True, True]
    arms = {job.split("arm=")[1].split(",")[0] for job in todo.jobs["train_classifier"]}
    assert arms == {"real160_dermaflux160", "dermaflux160"}


def test_a_changed_prompt_does_not_go_unnoticed(demo, edit):
    edit("workflow_scripts/dermaflux/captions.py", "Its border is", "Its edge is")
    jobs = planned(demo, *DEMO)
    assert jobs["caption_shard"] == 12 and jobs["train_lora"] == 1 and "prepare_shard" not in jobs
