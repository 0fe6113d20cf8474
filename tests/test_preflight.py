import csv
import os
import shutil
from types import SimpleNamespace

import pytest

from conftest import ROOT, load_paper_config
from dermaflux import planning, preflight
from dermaflux.closed import load
from dermaflux.errors import UserError
from dermaflux.files import write_json
from fake_hub import SHA

HERE = {"sinfo": "#!/bin/sh\nprintf 'cpu\\ngpu\\ngpu\\n'\n", "conda": "#!/bin/sh\necho conda 25.1.0\n"}


@pytest.fixture(autouse=True)
def at_the_root(monkeypatch, tmp_path):
    """At the checkout's root, as somebody without a login."""
    monkeypatch.chdir(ROOT)
    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "KAGGLE_API_TOKEN", "KAGGLE_USERNAME", "KAGGLE_KEY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("HF_HOME", str(tmp_path))


@pytest.fixture
def program(tmp_path, monkeypatch):
    """A function that puts a program of this name and text on an otherwise empty PATH."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))

    def write(name, text):
        (folder / name).write_text(text.replace("#!/bin/sh", f"#!{shutil.which('sh', path=os.defpath)}"))
        (folder / name).chmod(0o755)

    return write


@pytest.fixture
def config():
    return load_paper_config()


@pytest.fixture
def rates():
    return load(planning.Rates, "config/rates.yaml")


def states(checks):
    return [check.state for check in checks]


def with_models(config, **sources):
    """The configuration with only these models."""
    return SimpleNamespace(models=sources, used_models=lambda: list(sources))


def test_logins_that_the_run_will_ask_for_are_named_with_what_to_do(config, tmp_path, monkeypatch):
    descriptors = config.load_descriptors()
    hub, kaggle, captioner = preflight.check_credentials(config, descriptors, tmp_path)
    assert hub.state == "warn" and "for derm_t2im, models: HF_TOKEN is not set" in hub.what and "HF_TOKEN" in hub.to_do
    assert kaggle.state == "fail" and "kaggle_1, kaggle_2" in kaggle.what and "KAGGLE_USERNAME" in kaggle.to_do
    monkeypatch.setenv("HF_TOKEN", "secret")
    monkeypatch.setenv("KAGGLE_USERNAME", "me")
    monkeypatch.setenv("KAGGLE_KEY", "secret")
    checks = preflight.check_credentials(config, descriptors, tmp_path)
    assert states(checks) == ["ok", "ok", "ok"] and "secret" not in str(checks)


def test_logins_for_what_is_here_already_are_not_asked_for(config, tmp_path):
    descriptors = {name: d for name, d in config.load_descriptors().items() if name.startswith("kaggle")}
    for name, descriptor in descriptors.items():
        (tmp_path / "raw" / name).mkdir(parents=True)
        (tmp_path / "raw" / name / descriptor.archives[0].name).touch()
    assert not any("kaggle" in check.what for check in preflight.check_credentials(config, descriptors, tmp_path))


def test_a_captioner_without_its_key_fails(config, tmp_path, monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    asked = config.model_copy(update={"caption": config.caption.model_copy(update={"captioner": "chatgpt"})})
    check = preflight.check_credentials(asked, {}, tmp_path)[-1]
    assert check.state == "fail" and "OPENAI_API_KEY" in check.to_do


def test_models_are_asked_for_at_the_hub_that_the_environment_names(config, tmp_path, hub, monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", hub.url)
    models = with_models(
        config, good="hf:owner/good@main", gated="hf:owner/gated@main", gone="hf:owner/good@nowhere",
        pickled="hf:owner/pickled@main", toy="demo:flux", wrong="good",
    )  # fmt: skip
    good, gated, gone, pickled, toy, wrong = preflight.check_models(models, tmp_path)
    assert good.state == "ok" and f"owner/good@main is {SHA[:12]}" in good.what
    assert gated.state == "fail" and "accept the licence on https://huggingface.co/owner/gated" in gated.to_do
    assert gone.state == "fail" and "has no revision 'nowhere'" in gone.to_do
    assert pickled.state == "fail" and "no safetensors weights" in pickled.to_do
    assert toy.state == "ok" and wrong.state == "fail"
    assert "api/models/owner/good/auth-check" in hub.asked


def test_a_hub_that_cannot_be_reached_fails(config, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    (check,) = preflight.check_models(with_models(config, good="hf:owner/good@main"), tmp_path)
    assert check.state == "fail" and "owner/good cannot be reached" in check.to_do and "network" in check.to_do


def test_a_model_that_is_here_is_not_asked_for(config, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    write_json(tmp_path / "models/good/revision.json", {"source": "hf:owner/good@main", "revision": SHA})
    assert states(preflight.check_models(with_models(config, good="hf:owner/good@main"), tmp_path)) == ["ok"]
    assert states(preflight.check_models(with_models(config, good="hf:owner/good@v2"), tmp_path)) == ["fail"]


def test_a_manual_file_must_be_in_place(config, tmp_path):
    descriptors = {"ddi": config.load_descriptors()["ddi"]}
    place = tmp_path / "state/download/ddi/manual/ddidiversedermatologyimages.zip"
    manual, checksums = preflight.check_archives(config, descriptors, tmp_path)
    assert manual.state == "fail" and f"put the file at {place}" in manual.to_do
    assert checksums.state == "warn" and "not known of 1 file, of ddi" in checksums.what
    place.parent.mkdir(parents=True)
    place.touch()
    assert states(preflight.check_archives(config, descriptors, tmp_path)) == ["ok", "warn"]


def test_a_pinned_checksum_is_a_known_one(config, tmp_path):
    descriptors = {"ddi": config.load_descriptors()["ddi"]}
    pinned = config.model_copy(update={"pins": str(tmp_path / "pins")})
    write_json(tmp_path / "pins/ddi/ddidiversedermatologyimages.zip.json", {"sha256": "0" * 64})
    assert states(preflight.check_archives(pinned, descriptors, tmp_path)) == ["fail"]  # the manual file alone


def test_the_disk_must_hold_what_is_still_to_come(tmp_path):
    results = tmp_path / "not yet"
    assert states(preflight.check_disk({"prepare": 1e3}, results)) == ["ok", "ok"]
    checks = preflight.check_disk({"prepare": 1e18}, results)
    assert states(checks) == ["ok", "fail"] and "pathvars: results" in checks[-1].to_do
    free = shutil.disk_usage(tmp_path).free
    results.mkdir()
    with open(results / "here", "wb") as file:
        file.truncate(2 * free)  # takes no space, but counts as done
    assert states(preflight.check_disk({"prepare": 2 * free}, results)) == ["ok", "ok"]


def test_files_of_unpublished_size_are_named(config, tmp_path):
    (check,) = preflight.check_sizes(config, config.load_descriptors(), tmp_path)
    assert check.state == "warn" and "kaggle_1" in check.what and "isic_2020" not in check.what


def test_gpu_memory_is_asked_of_the_machine_or_else_taken_from_the_configuration(config, rates, program):
    assert preflight.gpu_memory(config, rates) == (80, "planning.gpu: h100")
    program("nvidia-smi", "#!/bin/sh\nprintf '24564\\n24564\\n'\n")
    there, source = preflight.gpu_memory(config, rates)
    assert there == pytest.approx(25.76, abs=0.01) and source == "nvidia-smi"
    by_stage = {check.what.split(":")[0]: check for check in preflight.check_gpu_memory(config, rates, (there, source))}
    assert by_stage["train"].state == "fail" and "lora.gpus" in by_stage["train"].to_do
    assert by_stage["classify"].state == "ok"


def test_an_unknown_gpu_is_refused_and_the_known_ones_listed(config, rates, program):
    planned = config.model_copy(update={"planning": config.planning.model_copy(update={"gpu": "abacus"})})
    with pytest.raises(
        UserError, match="planning.gpu: 'abacus' is not among the gpus of config/rates.yaml .h100, h200"
    ):
        preflight.gpu_memory(planned, rates)


def test_a_run_on_cpus_needs_no_gpu(config, rates):
    on_cpu = config.model_copy(update={"device": "cpu"})
    assert states(preflight.check_gpu_memory(on_cpu, rates, (0, ""))) == ["ok"]


def test_the_project_s_environments_are_pinned_and_a_loose_one_fails(tmp_path):
    files = sorted((ROOT / "envs").glob("*.yaml"))
    assert states(preflight.check_environments(files, conda=False)) == ["ok", "ok"]
    (tmp_path / "loose.yaml").write_text("dependencies: [python=3.11, pip, {pip: [torch>=2]}]\n")
    (tmp_path / "broken.yaml").write_text("dependencies: [\n")
    broken, loose, _ = preflight.check_environments(sorted(tmp_path.glob("*.yaml")), conda=False)
    assert loose.state == "fail" and "torch>=2" in loose.what and "NAME==VERSION" in loose.to_do
    assert broken.state == "fail" and "broken.yaml" in broken.what


def test_where_conda_is_used_it_must_be_there_and_new_enough(program):
    for text, state in ((None, "fail"), ("#!/bin/sh\necho conda 23.11.0\n", "fail"), (HERE["conda"], "ok")):
        if text:
            program("conda", text)
        check = preflight.check_environments([], conda=True)[-1]
        assert check.state == state and (state == "ok" or "24.7.1" in check.to_do)


def test_the_captioner_s_server_must_be_there_where_no_environment_brings_it(config, program):
    (check,) = preflight.check_programs(config, conda=False)
    assert check.state == "fail" and "vllm" in check.what and "--sdm conda" in check.to_do
    assert preflight.check_programs(config, conda=True) == []
    program("vllm", "#!/bin/sh\n")
    assert states(preflight.check_programs(config, conda=False)) == ["ok"]


def test_partitions_must_exist(program):
    (check,) = preflight.check_partitions(["gpu"])
    assert check.state == "fail" and "login node" in check.to_do
    program("sinfo", HERE["sinfo"])
    gpu, fast = preflight.check_partitions(["gpu", "fast"])
    assert gpu.state == "ok" and fast.state == "fail" and "there are: cpu, gpu" in fast.to_do
    assert states(preflight.check_partitions([])) == ["ok"] == states(preflight.check_partitions(None))
    program("sinfo", "#!/bin/sh\necho no controller >&2; exit 1\n")
    (check,) = preflight.check_partitions(["gpu"])
    assert check.state == "fail" and "no controller" in check.what


def test_partitions_come_from_the_profile_and_its_partition_file(tmp_path):
    file = tmp_path / "partitions.yaml"
    file.write_text("partitions: {short: {max_runtime: 60}, gpu: {max_gpu: 4}}\n")
    resources = [{"slurm_partition": "gpu,long", "mem_mb": 4000}, {"slurm_partition": "null"}, {"runtime": 1}]
    assert preflight.partitions_of(resources) == ["gpu", "long"]
    assert preflight.partitions_of(resources, file) == ["gpu", "long", "short"]


def test_the_table_says_all_and_stops_where_a_check_failed(config, tmp_path, capsys, hub, monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", hub.url)
    table = tmp_path / "preflight.csv"
    with pytest.raises(UserError, match=r"\d+ of \d+ checks failed; the table above .*preflight.csv"):
        preflight.preflight(config, config.load_descriptors(), tmp_path / "results", table, None, False)
    shown = capsys.readouterr().out
    assert shown.startswith("CHECK          WHAT") and "KAGGLE_USERNAME" in shown
    assert "https://stanfordaimi.azurewebsites.net/datasets/35866158-8196-48d8-87bf-50dca81df965" in shown
    rows = list(csv.DictReader(table.open()))
    assert {row["state"] for row in rows} == {"ok", "warn", "fail"}
    assert all(row["to_do"] for row in rows if row["state"] != "ok")
