import csv
import json
import math
import os
import re
import signal
import subprocess
import sys
import time

import pytest
from safetensors.torch import load_file

from conftest import ROOT
from dermaflux import flux
from dermaflux.errors import UserError
from dermaflux.latents import Latents
from dermaflux.lora import (
    TARGETS,
    add_lora,
    epoch_batches,
    load_lora,
    steps_per_epoch,
    train_lora,
    training_rows,
    training_texts,
)
from dermaflux.tables import CAPTIONS, read_table, write_table
from dermaflux.torch_setup import torch
from flux_corpus import SETTINGS, corpus, toy_flux, train, trained

WEIGHTS = "pytorch_lora_weights.safetensors"


def read_log(folder):
    return list(csv.DictReader((folder / "log.csv").read_text().splitlines()))


def equal_bits(first, second):
    first, second = load_file(first), load_file(second)
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize(("targets", "count"), [("all_linear", 5_369_856), ("attention", 1_634_304)])
def test_the_paper_s_parameter_counts(targets, count):
    from diffusers import FluxTransformer2DModel

    with torch.device("meta"):
        transformer = FluxTransformer2DModel(guidance_embeds=True)  # the defaults are FLUX.1-dev's
    linear = {n: m for n, m in transformer.named_modules() if isinstance(m, torch.nn.Linear)}
    adapted = [name for name in linear if re.fullmatch(TARGETS[targets], name)]
    assert sum(linear[name].in_features + linear[name].out_features for name in adapted) == count
    if targets == "all_linear":
        assert adapted == [name for name in linear if "transformer_blocks." in name]


def test_peft_adapts_what_the_expression_names():
    transformer = flux.load_module(toy_flux(), "transformer", torch.float32, "cpu")
    names = [n for n, m in transformer.named_modules() if isinstance(m, torch.nn.Linear) and "transformer_blocks." in n]
    parameters = add_lora(transformer, "all_linear", 2, 2, 0)
    assert {name.split(".lora_")[0] for name in parameters} == set(names)


def test_an_epoch_has_every_row_once_in_batches_of_one_scale():
    latents = Latents([corpus()["latents"]])
    rows, left_out = training_rows([corpus()["manifest"]], [corpus()["captions"]], latents)
    batches = epoch_batches(rows, 4, 0, 0)
    assert left_out == 0 and len(batches) == steps_per_epoch(rows, 4) == 3 + 2
    assert all({latents.scale(i) for i, *_ in batch} == {scale} for scale, batch in batches)
    assert sorted(i for _, batch in batches for i, *_ in batch) == sorted(latents.where)
    assert batches == epoch_batches(rows, 4, 0, 0) != epoch_batches(rows, 4, 0, 1)


def test_stopped_and_continued_is_the_same_bit_for_bit(tmp_path):
    assert train(tmp_path / "whole")
    assert not train(tmp_path / "parts", stop_at=3)
    assert not (tmp_path / "parts" / "toy").exists()
    assert not train(tmp_path / "parts", stop_at=6)
    assert train(tmp_path / "parts")
    assert equal_bits(tmp_path / "whole" / "toy" / WEIGHTS, tmp_path / "parts" / "toy" / WEIGHTS)
    logs = [read_log(tmp_path / run / "toy") for run in ("whole", "parts")]
    assert [row["loss"] for row in logs[0]] == [row["loss"] for row in logs[1]] and len(logs[0]) == 10
    assert not list((tmp_path / "parts" / "state").glob("*"))


def test_killed_and_continued_is_the_same_bit_for_bit(tmp_path):
    script = f"import torch; torch.set_num_threads({torch.get_num_threads()})\nimport sys, flux_corpus\n"
    script += "flux_corpus.train(sys.argv[1], epochs=6)"
    paths = f"{ROOT / 'workflow_scripts'}:{ROOT / 'tests'}"
    process = subprocess.Popen(
        [sys.executable, "-c", script, tmp_path / "killed"],
        env={**os.environ, "PYTHONPATH": paths},
        stderr=subprocess.DEVNULL,
    )
    train(tmp_path / "whole", epochs=6)
    while process.poll() is None and not list(tmp_path.glob("killed/state/*/state.safetensors")):
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL and not (tmp_path / "killed" / "toy").exists()
    done = int(load_file(next(tmp_path.glob("killed/state/*/state.safetensors")))["step"])
    assert 0 < done < 30 and done % 2 == 0
    assert train(tmp_path / "killed", epochs=6)
    assert equal_bits(tmp_path / "whole" / "toy" / WEIGHTS, tmp_path / "killed" / "toy" / WEIGHTS)
    assert not list(tmp_path.glob("killed/state/*"))


def test_the_loss_falls():
    rows = read_log(trained())
    losses = [float(row["loss"]) for row in rows]
    assert all(map(math.isfinite, losses)) and {row["scale"] for row in rows} == {"64", "128"}
    assert sum(losses[-6:]) < sum(losses[:6])


@pytest.mark.parametrize("file", [WEIGHTS, "toy_kohya.safetensors"])
def test_our_loader_gives_the_pipeline_s_output(file):
    from diffusers import FluxPipeline

    pipe = FluxPipeline.from_pretrained(toy_flux(), dtype=torch.float32)
    x, t = torch.randn(1, 16, 64, generator=torch.Generator().manual_seed(0)), torch.tensor([0.5])
    text = flux.TextEncoders(toy_flux(), torch.float32, "cpu").encode(["a benign lesion"], 32)
    run = lambda transformer: flux.velocity(transformer, x, t, 3.5, *text, flux.image_ids(64, "cpu")).detach()  # noqa: E731
    base = run(pipe.transformer)
    pipe.load_lora_weights(trained(), weight_name=WEIGHTS)
    expected = run(pipe.transformer)
    ours = run(load_lora(flux.load_module(toy_flux(), "transformer", torch.float32, "cpu"), trained() / file))
    assert torch.allclose(ours, expected, atol=1e-5) and not torch.allclose(ours, base, atol=1e-3)


def test_the_outputs(tmp_path):
    card = (trained() / "README.md").read_text()
    assert "base_model: demo:flux" in card and "| small | 10 |" in card and "| large | 6 |" in card
    assert "16 images" in card and "toy of the dermaflux project" in card
    assert {p.name for p in trained().iterdir()} == {WEIGHTS, "toy_kohya.safetensors", "log.csv", "README.md"}


def test_the_card_of_a_real_model_names_its_licence(tmp_path):
    from dermaflux.lora import _card

    model = {
        "source": "hf:black-forest-labs/FLUX.1-dev@main",
        "repo": "black-forest-labs/FLUX.1-dev",
        "revision": "abc",
    }
    card = _card("x", SETTINGS, [[0, 1.0, 1e-4, 128, 4, 0.1]], {128: [("ddi/1", "c")]}, 0, model)
    assert "Non-Commercial" in card and "license: other" in card and "base_model: black-forest-labs/FLUX.1-dev" in card


def test_images_without_a_caption_are_left_out(tmp_path):
    table = read_table(corpus()["captions"]).to_pylist()
    table[0].update(caption=None, error="no answer")
    write_table(tmp_path / "captions.parquet", table, CAPTIONS)
    rows, left_out = training_rows(
        [corpus()["manifest"]], [tmp_path / "captions.parquet"], Latents([corpus()["latents"]])
    )
    assert left_out == 1 and sum(map(len, rows.values())) == 15


def test_latents_that_are_missing_or_foreign_are_refused(tmp_path):
    with pytest.raises(UserError, match="has no latents"):
        training_rows([corpus()["manifest"]], [corpus()["captions"]], Latents([]))
    model = tmp_path / "model"
    model.mkdir()
    (model / "revision.json").write_text(json.dumps({"revision": "other"}))
    files = [[corpus()[name]] for name in ("manifest", "captions", "latents")]
    with pytest.raises(UserError, match="encoded by model"):
        train_lora(*files, model, tmp_path / "toy", tmp_path / "state", SETTINGS, "cpu", "fp32", 2)


def test_checkpointing_changes_nothing_and_settings_do(tmp_path):
    for name, changes in {"a": {}, "b": {"gradient_checkpointing": True}, "c": {"timesteps": "uniform"}}.items():
        train(tmp_path / name, epochs=0.4, **changes)
    a, b, c = (load_file(tmp_path / name / "toy" / WEIGHTS) for name in "abc")
    assert all(torch.allclose(a[name], b[name], atol=1e-6) for name in a)
    assert any(not torch.allclose(a[name], c[name], atol=1e-5) for name in a)


def test_a_share_of_the_captions_is_the_label_alone():
    batch = [(f"d/{i}", f"caption {i}", "benign") for i in range(400)]
    settings = SETTINGS | {"label_only": 0.25, "label_prompt": "a {label} lesion"}
    texts = training_texts(batch, settings, torch.Generator().manual_seed(0))
    short = [text == "a benign lesion" for text in texts]
    assert 70 < sum(short) < 130
    assert all(text == caption for text, alone, (_, caption, _) in zip(texts, short, batch, strict=True) if not alone)
    none = training_texts(batch, settings | {"label_only": 0.0}, torch.Generator().manual_seed(0))
    assert none == [caption for _, caption, _ in batch]
