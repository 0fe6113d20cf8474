"""Training of the LoRA: rectified flow on stored latents, text encoded in the loop. Paper section 2.3.

A training that is killed at any step continues: its state (weights, optimizer, log) lies in a folder under a fingerprint
of all that determines the result, and the randomness of step k depends on (seed, k) alone, so that k and k steps are
2 k steps. Several processes (dermaflux.ranks) make the same steps as one: each draws the whole batch's randomness, takes
its own rows, and their gradients are added up.
"""

import csv
import math
import os
import shutil
import time
from collections import Counter, defaultdict
from dataclasses import dataclass
from pathlib import Path

from dermaflux.torch_setup import DTYPES, seeded, torch, torch_device

# isort: split
import torch.nn.functional as F
from diffusers import FluxPipeline
from peft import LoraConfig
from peft.utils import get_peft_model_state_dict
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from dermaflux import flux, lora_formats
from dermaflux.errors import UserError
from dermaflux.files import atomic_path, fingerprint, read_json, sha256_file, write_text
from dermaflux.job import duration, say
from dermaflux.latents import Latents, latent_shape
from dermaflux.models import RECORD, model_revision
from dermaflux.ranks import ALONE, Ranks
from dermaflux.tables import read_table

_ATTENTION = r"attn\.(to_q|to_k|to_v|to_out\.0|add_q_proj|add_k_proj|add_v_proj|to_add_out)"
_OTHERS = r"ff\.net\.0\.proj|ff\.net\.2|ff_context\.net\.0\.proj|ff_context\.net\.2|proj_mlp|proj_out|norm1?(_context)?\.linear"
# Regular expressions for the names of the adapted layers, in diffusers' split layout. Parameters per rank on FLUX.1-dev:
TARGETS = {
    "attention": rf"(single_)?transformer_blocks\.\d+\.{_ATTENTION}",  # 1,634,304
    "all_linear": rf"(single_)?transformer_blocks\.\d+\.({_ATTENTION}|{_OTHERS})",  # 5,369,856: every block Linear
}
LOG_COLUMNS = ("step", "loss", "learning_rate", "scale", "images", "seconds")


def add_lora(transformer, targets, rank, alpha, seed):
    """Add a fresh LoRA (B = 0, so that nothing changes yet) to the transformer.

    Args:
        targets: attention | all_linear.

    Returns:
        dict of name -> trainable parameter (float32), in the model's order.
    """
    torch.manual_seed(seed)
    transformer.add_adapter(LoraConfig(r=rank, lora_alpha=alpha, target_modules=TARGETS[targets]))
    trained = {name: p for name, p in transformer.named_parameters() if p.requires_grad}
    for parameter in trained.values():
        parameter.data = parameter.data.float()  # bf16 cannot hold small updates
    return trained


def training_rows(manifest, captions, latents):
    """What is trained on: dict of scale -> list of (image_id, caption, label), in the order of the manifest.

    Args:
        manifest, captions: lists of paths (tables.MANIFEST, tables.CAPTIONS).
        latents: Latents.

    Returns:
        (rows, left_out): the second counts the training images without a caption, which are left out.

    Raises:
        UserError: no rows; a training image that has no latents.
    """
    table = read_table(captions, ["image_id", "caption", "error"])
    captioned = {
        image_id: caption
        for image_id, caption, error in zip(*[column.to_pylist() for column in table.columns], strict=True)
        if error is None and caption
    }
    rows, left_out = defaultdict(list), 0
    slices = read_table(manifest, ["image_id", "use", "label"])
    for image_id, use, label in zip(*[column.to_pylist() for column in slices.columns], strict=True):
        if use != "train":
            continue
        if image_id not in captioned:
            left_out += 1
        elif image_id not in latents:
            raise UserError(
                f"{image_id} is to be trained on, but has no latents: run encode_shard again for its dataset"
            )
        else:
            rows[latents.scale(image_id)].append((image_id, captioned[image_id], label))
    if not rows:
        raise UserError("the manifest has no captioned training images: nothing to train on")
    return dict(sorted(rows.items())), left_out


def steps_per_epoch(rows, batch_size):
    """Batches that hold every row once, each of one scale; the last of a scale may be smaller."""
    return sum(math.ceil(len(its) / batch_size) for its in rows.values())


def epoch_batches(rows, batch_size, seed, epoch):
    """The batches of one epoch: list of (scale, rows), every row once, in an order of its own."""
    batches = []
    for scale, its in rows.items():
        order = torch.randperm(len(its), generator=seeded("rows", seed, epoch, scale)).tolist()
        shuffled = [its[i] for i in order]
        batches += [(scale, shuffled[i : i + batch_size]) for i in range(0, len(its), batch_size)]
    order = torch.randperm(len(batches), generator=seeded("batches", seed, epoch)).tolist()
    return [batches[i] for i in order]


def training_texts(batch, settings, generator):
    """The text that each row of a batch is trained on: its caption or, for a share of the draws, the label alone.

    Args:
        batch: list of (image_id, caption, label).
        settings: dict with label_only (share, 0 to 1) and label_prompt (str with {label}).
    """
    short = torch.rand(len(batch), generator=generator) < settings["label_only"]
    prompt = settings["label_prompt"]
    return [
        prompt.format(label=label) if alone else caption
        for (_, caption, label), alone in zip(batch, short, strict=True)
    ]


def flow_noise(shape, generator, timesteps):
    """All that is random in the loss of one batch.

    Args:
        shape: of the batch's latents, [n, 16, h, w].
        generator: CPU torch.Generator.
        timesteps: uniform | logit_normal.

    Returns:
        (posterior_noise, noise, t): two tensors of `shape`, and times [n] from 0 to 1.
    """
    posterior_noise, noise = (torch.randn(shape, generator=generator) for _ in range(2))
    if timesteps == "uniform":
        return posterior_noise, noise, torch.rand(shape[0], generator=generator)
    return posterior_noise, noise, torch.sigmoid(torch.randn(shape[0], generator=generator))


def flow_loss(transformer, vae_config, mean, std, text, random, guidance, device):
    """Rectified-flow loss of one batch, as FLUX is trained: mean square of v(x_t, t) - (n - x_0), x_t = (1 - t) x_0 + t n.

    Args:
        vae_config: object whose `.config` has shift_factor and scaling_factor.
        mean, std: float32 [n, 16, h, w] of the VAE's posterior.
        text: (states, pooled) from TextEncoders.encode.
        random: from `flow_noise`.
        guidance: float, for the guidance embedding.

    Returns:
        scalar float32 tensor.
    """
    posterior_noise, noise, t = random
    t = t.to(device)
    x0 = flux.pack(flux.normalize(mean + std * posterior_noise, vae_config)).to(device)
    noise = flux.pack(noise).to(device)
    xt = (1 - t)[:, None, None] * x0 + t[:, None, None] * noise
    positions = flux.image_ids(mean.shape[-1] * flux.PIXELS_PER_LATENT, device)
    velocity = flux.velocity(transformer, xt, t, guidance, *text, positions)
    return F.mse_loss(velocity, noise - x0)


@dataclass(frozen=True)
class _Learner:
    """What turns a batch into gradients: the networks, the stored latents, and the processes that share the work."""

    transformer: torch.nn.Module
    trained: dict
    vae: torch.nn.Module
    encoders: flux.TextEncoders
    stored: Latents
    settings: dict
    device: torch.device
    dtype: torch.dtype
    ranks: Ranks

    def backward(self, scale, batch, generator):
        """Leave the gradients of the batch's loss in the trained parameters, and return the loss.

        Both are those of the whole batch in every process, whichever rows it has computed.
        """
        texts = training_texts(batch, self.settings, generator)
        random = flow_noise(latent_shape(len(batch), scale), generator, self.settings["timesteps"])
        own = self.ranks.own(len(batch))
        loss = torch.zeros((), device=self.device)
        if batch[own]:
            share = len(batch[own]) / len(batch)
            loss = self._loss(batch[own], texts[own], [its[own] for its in random]) * share
            loss.backward()
        else:  # fewer rows than processes
            for parameter in self.trained.values():
                parameter.grad = torch.zeros_like(parameter)
        loss = loss.detach()
        self.ranks.sum([loss, *(parameter.grad for parameter in self.trained.values())])
        return loss

    def _loss(self, batch, texts, random):
        text = self.encoders.encode(texts, self.settings["text_tokens"])
        mean, std = self.stored.read([image_id for image_id, *_ in batch])
        with torch.autocast(self.device.type, self.dtype, enabled=self.dtype != torch.float32):
            return flow_loss(
                self.transformer, self.vae, mean, std, text, random, self.settings["guidance"], self.device
            )


class _State:
    """What a training has reached, on disk: one safetensors file, replaced whole. Never pickled."""

    def __init__(self, folder, trained, optimizer):
        self.path, self.trained, self.optimizer = Path(folder, "state.safetensors"), trained, optimizer

    def load(self):
        """Continue from the file, if there is one: (steps done, rows of the log)."""
        if not self.path.exists():
            return 0, []
        tensors = load_file(self.path)
        for name, parameter in self.trained.items():
            parameter.data.copy_(tensors[f"weight/{name}"])
            self.optimizer.state[parameter] = {
                "step": tensors["step"].clone(),
                **{key: tensors[f"{key}/{name}"].to(parameter.device) for key in ("exp_avg", "exp_avg_sq")},
            }
        return int(tensors["step"].item()), tensors["log"].tolist()

    def save(self, log):
        tensors = {"step": torch.tensor(float(len(log))), "log": torch.tensor(log, dtype=torch.float64)}
        for name, parameter in self.trained.items():
            tensors[f"weight/{name}"] = parameter.detach().cpu().contiguous()
            for key in ("exp_avg", "exp_avg_sq"):
                tensors[f"{key}/{name}"] = self.optimizer.state[parameter][key].cpu().contiguous()
        with atomic_path(self.path) as temporary:
            save_file(tensors, temporary)


def train_lora(
    manifest, captions, latents, model_folder, output, state, settings, device, precision, checkpoint_every, code=None,
    stop_at=None, ranks=ALONE,
):  # fmt: skip
    """Train the LoRA and write it; a training that was stopped continues, also with another number of processes.

    Args:
        manifest, captions, latents: lists of paths, of all datasets and shards of the corpus.
        model_folder: FLUX in diffusers' layout, with revision.json.
        output: folder of the adapter, named like it. Written there at the end: pytorch_lora_weights.safetensors
            (diffusers), {name}_kohya.safetensors (sd-scripts), log.csv, README.md (model card).
        state: folder for the state of unfinished trainings; removed at the end.
        settings: dict of targets, rank, alpha, epochs, batch_size, learning_rate, warmup_steps, weight_decay,
            max_grad_norm, timesteps, guidance, text_tokens, gradient_checkpointing, seed (config.Lora).
        precision: bf16 | fp32, of the frozen weights and the computation; LoRA and optimizer are float32.
        checkpoint_every: steps between saved states. Does not change the result.
        code: fingerprint of the code, so that a changed code does not continue an old state.
        stop_at: stop after this step, with the state saved, as a killed training would at a checkpoint.
        ranks: Ranks of the processes that train together. Their number changes the result by rounding only.

    Returns:
        True where it is finished, False where it was stopped.

    Raises:
        UserError: nothing to train on, latents of another model, a loss that is not finite.
    """
    device, dtype, name = torch_device(device), DTYPES[precision], Path(output).name
    stored = Latents(latents)
    revision = model_revision(model_folder)
    if stored.revision != revision:
        raise UserError(f"the latents were encoded by model {stored.revision}, not by {revision}: encode them again")
    rows, left_out = training_rows(manifest, captions, stored)
    identity = fingerprint({
        "settings": settings, "precision": precision, "code": code, "model": revision, "latents": stored.identity,
        "tables": [sha256_file(path) for path in [*manifest, *captions]],
    })  # fmt: skip
    state = Path(state, identity[:32])

    transformer = flux.load_module(model_folder, "transformer", dtype, "cpu")
    trained = add_lora(transformer, settings["targets"], settings["rank"], settings["alpha"], settings["seed"])
    transformer.to(device)
    if settings["gradient_checkpointing"]:
        transformer.enable_gradient_checkpointing()
    encoders = flux.TextEncoders(model_folder, dtype, device)
    vae = flux.load_module(model_folder, "vae", dtype, "cpu")  # only its configuration is used
    optimizer = torch.optim.AdamW(
        trained.values(), settings["learning_rate"], weight_decay=settings["weight_decay"], betas=(0.9, 0.999)
    )
    checkpoint = _State(state, trained, optimizer)
    done, log = checkpoint.load()
    ranks.require_same((identity, done), "inputs or states")
    in_epoch = steps_per_epoch(rows, settings["batch_size"])
    steps = math.ceil(settings["epochs"] * in_epoch)
    count = sum(map(len, rows.values()))
    tell = say if ranks.first else lambda message: None
    tell(
        f"train_lora {name}: {count:,} images, {steps:,} steps, "
        f"{sum(p.numel() for p in trained.values()):,} trained parameters"
        + (f", {ranks.size} processes" if ranks.size > 1 else "")
        + (f", continued at step {done}" if done else "")
    )
    learner = _Learner(transformer, trained, vae, encoders, stored, settings, device, dtype, ranks)
    spent = log[-1][-1] if log else 0.0  # seconds of earlier runs
    started = said = time.monotonic()
    last = min(steps, stop_at or steps)
    batches, of_epoch = None, None
    for step in range(done, last):
        if of_epoch != step // in_epoch:
            of_epoch = step // in_epoch
            batches = epoch_batches(rows, settings["batch_size"], settings["seed"], of_epoch)
        scale, batch = batches[step % in_epoch]
        rate = settings["learning_rate"] * min(1.0, (step + 1) / max(1, settings["warmup_steps"]))
        for group in optimizer.param_groups:
            group["lr"] = rate
        value = learner.backward(scale, batch, seeded("step", settings["seed"], step)).item()
        if not math.isfinite(value):
            raise UserError(f"the loss is {value} at step {step}: lower lora.learning_rate")
        torch.nn.utils.clip_grad_norm_(trained.values(), settings["max_grad_norm"])
        optimizer.step()
        optimizer.zero_grad()
        now = time.monotonic()
        log.append([step, value, rate, scale, len(batch), round(spent + now - started, 3)])
        if now - said >= 10:
            recent = [row[1] for row in log[-50:]]
            speed = (step + 1 - done) / (now - started)
            tell(
                f"train_lora {name}: step {step + 1:,} of {steps:,}, loss {sum(recent) / len(recent):.4f}, "
                f"{speed:.3g} steps/s, {duration((steps - step - 1) / speed)} left"
            )
            said = now
        if ranks.first and ((step + 1) % checkpoint_every == 0 or step + 1 == last):
            checkpoint.save(log)
    if last < steps:
        return False
    if ranks.first:
        _write_outputs(Path(output), transformer, settings, log, rows, left_out, model_folder)
        shutil.rmtree(state)
    return True


def lora_state(transformer, scale):
    """The LoRA of the transformer in diffusers' layout, without prefix; `scale` (alpha / rank) is put into B.

    Tools disagree on where alpha is kept; with the scale in the weights (alpha = rank) all of them read the same LoRA.
    """
    state = get_peft_model_state_dict(transformer)
    factor = {"lora_A": 1.0, "lora_B": scale}
    return {name: (value * factor[name.split(".")[-2]]).cpu().contiguous() for name, value in state.items()}


def _write_outputs(output, transformer, settings, log, rows, left_out, model_folder):
    output.mkdir(parents=True, exist_ok=True)
    name = output.name
    state = lora_state(transformer, settings["alpha"] / settings["rank"])
    unfinished = output / ".unfinished"
    FluxPipeline.save_lora_weights(unfinished, transformer_lora_layers=state)
    os.replace(unfinished / "pytorch_lora_weights.safetensors", output / "pytorch_lora_weights.safetensors")
    shutil.rmtree(unfinished)
    kohya = lora_formats.to_kohya({lora_formats.PREFIX + key: value for key, value in state.items()})
    with atomic_path(output / f"{name}_kohya.safetensors") as temporary:
        save_file(kohya, temporary, {"ss_network_module": "networks.lora_flux", "ss_base_model_version": "flux1"})
    with atomic_path(output / "log.csv") as temporary, open(temporary, "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(LOG_COLUMNS)
        for step, loss, rate, scale, images, seconds in log:
            writer.writerow([int(step), f"{loss:.6g}", f"{rate:.6g}", int(scale), int(images), f"{seconds:.3f}"])
    write_text(output / "README.md", _card(name, settings, log, rows, left_out, read_json(Path(model_folder, RECORD))))


def _card(name, settings, log, rows, left_out, model):
    """The model card, in the hub's form."""
    toy = model["source"].startswith("demo:")
    licence = (
        "The base model is the toy of the dermaflux project (Apache-2.0): this adapter shows that the chain works, no more."
        if toy
        else f"The base model is {model['repo']}; its licence binds this adapter too. FLUX.1-dev is under the FLUX.1 [dev] "
        "Non-Commercial License (https://huggingface.co/black-forest-labs/FLUX.1-dev/blob/main/LICENSE.md)."
    )
    datasets = Counter(image_id.split("/")[0] for its in rows.values() for image_id, *_ in its)
    scales = {scale: len(its) for scale, its in rows.items()}
    recent = [row[1] for row in log[-100:]]
    table = lambda pairs, head: "\n".join([f"| {head} | |", "|---|---|", *(f"| {k} | {v} |" for k, v in pairs)])  # noqa: E731
    return "\n".join([
        "---", f"base_model: {model['repo']}", "library_name: diffusers", "pipeline_tag: text-to-image",
        f"license: {'apache-2.0' if toy else 'other'}", *([] if toy else ["license_name: flux-1-dev-non-commercial-license"]),
        "tags: [lora, flux, dermatology, synthetic-data]", "---", f"# {name}", "",
        "A LoRA of FLUX.1 for synthetic skin lesions, trained as in DermaFlux (rectified flow on captioned lesions).",
        "Not a medical device; its pictures show no real patients and prove nothing about any.", "",
        f"Base model: {model['repo']} at revision {model['revision']}. {licence}", "",
        f"Trained on {sum(datasets.values()):,} images for {len(log):,} steps; mean loss of the last {len(recent)} steps "
        f"{sum(recent) / len(recent):.4f}. {left_out:,} training images had no caption and were left out.", "",
        table(sorted(datasets.items()), "images per dataset"), "", table(scales.items(), "images per scale (px)"), "",
        table(sorted(settings.items()), "setting"), "",
        "`pytorch_lora_weights.safetensors` is for diffusers (`FluxPipeline.load_lora_weights`), "
        f"`{name}_kohya.safetensors` for tools that read sd-scripts files. The scale alpha / rank is in the weights.", "",
    ])  # fmt: skip


def load_lora(transformer, path):
    """Load the LoRA file `path`, of either layout and any width, into the transformer, in its dtype.

    Raises:
        UserError: the file has other layers than the transformer.
    """
    with safe_open(str(path), "pt") as file:
        state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    try:
        if lora_formats.is_kohya(state):
            state = lora_formats.to_diffusers(state)
        transformer.load_lora_adapter(state, prefix="transformer")
    except (ValueError, RuntimeError) as error:
        raise UserError(f"{path} is not a LoRA for this model: {error}") from error
    return transformer.requires_grad_(False).eval()
