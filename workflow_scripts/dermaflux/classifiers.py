"""Classifiers of the paper's section 3: timm models, fine-tuned to tell malignant from benign."""

import time

import numpy as np
import pyarrow as pa

from dermaflux.torch_setup import DTYPES, seeded, torch, torch_device  # before timm

import timm  # noqa: E402  isort: skip

from dermaflux.errors import UserError
from dermaflux.files import write_json
from dermaflux.job import say
from dermaflux.metrics import accuracy, roc_auc
from dermaflux.pictures import decode
from dermaflux.tables import LABELS, PREDICTIONS, read_table, write_table


def load_images(table, side):
    """Pictures and labels of a table of tables.DRAWS.

    Returns:
        (uint8 tensor [n, 3, side, side], int64 tensor [n] with 1 for malignant). They stay uint8 so that tens of
        thousands fit into memory, decoded once and not in every epoch.
    """
    pictures = torch.empty((len(table), 3, side, side), dtype=torch.uint8)
    for i, image in enumerate(table["image"]):
        pictures[i] = torch.from_numpy(decode(image.as_py(), side).transpose(2, 0, 1).copy())
    return pictures, torch.tensor([LABELS.index(label) for label in table["label"].to_pylist()])


def take_arm(table, images):
    """The first `images` rows of a draw (tables.DRAWS), half of each label."""
    labels = np.array(table["label"].to_pylist())
    rows = np.concatenate([np.flatnonzero(labels == label)[: images // 2] for label in LABELS])
    if len(rows) != images:
        raise UserError(f"the draw holds {len(rows)} images of the {images} that the arm needs")
    return table.take(pa.array(rows))


def augmented(pictures, generator):
    """Each picture flipped and turned by quarters at random: a lesion has no up. uint8 [n, 3, s, s], the same shape back."""
    choices = torch.randint(8, (len(pictures),), generator=generator)
    result = torch.empty_like(pictures)
    for choice in range(8):
        chosen = choices == choice
        turned = torch.rot90(pictures[chosen], choice % 4, (2, 3))
        result[chosen] = turned.flip(3) if choice >= 4 else turned
    return result


class Normalized(torch.nn.Module):
    """A timm model that takes uint8 pictures and normalizes them as it was pre-trained."""

    def __init__(self, folder, image_size):
        super().__init__()
        # transformers of a fixed size take the wanted one as an argument; convolutional nets have none
        self.model = timm.create_model(f"local-dir:{folder}", pretrained=True, num_classes=len(LABELS))
        expected = self.model.pretrained_cfg.get("fixed_input_size") and self.model.pretrained_cfg["input_size"][-1]
        if expected and expected != image_size:
            raise UserError(f"{folder} takes {expected} px images: set `classify.image_size` to that, not {image_size}")
        for name in ("mean", "std"):
            value = torch.tensor(self.model.pretrained_cfg[name]).view(1, 3, 1, 1) * 255
            self.register_buffer(name, value, persistent=False)

    def forward(self, pictures):
        """Logits float [n, 2] of uint8 pictures [n, 3, s, s]."""
        return self.model((pictures - self.mean) / self.std)


def predict(model, pictures, device, precision, batch_size=64):
    """Probability of malignant for each picture: float64 [n]."""
    model.eval()
    scores = []
    with torch.inference_mode(), torch.autocast(device.type, DTYPES[precision], enabled=precision != "fp32"):
        for batch in pictures.split(batch_size):
            scores.append(model(batch.to(device)).float().softmax(1)[:, 1].double().cpu())
    return torch.cat(scores).numpy()


def fit(model, pictures, labels, settings, seed, device, what):
    """Train `model` in place: AdamW, cosine annealing from the base rate to 0 over all steps, cross entropy.

    Args:
        settings: dict with epochs, batch_size, learning_rate, weight_decay, augment, precision.

    Returns:
        list of the mean loss of each epoch.
    """
    epochs, size = settings["epochs"], settings["batch_size"]
    steps = -(-len(pictures) // size)
    optimizer = torch.optim.AdamW(model.parameters(), settings["learning_rate"], weight_decay=settings["weight_decay"])
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs * steps)
    dtype = DTYPES[settings["precision"]]
    losses, start = [], time.monotonic()
    for epoch in range(epochs):
        model.train()
        generator = seeded("classifier", seed, epoch)
        total = 0.0
        for rows in torch.randperm(len(pictures), generator=generator).split(size):
            batch = augmented(pictures[rows], generator) if settings["augment"] else pictures[rows]
            with torch.autocast(device.type, dtype, enabled=dtype != torch.float32):
                logits = model(batch.to(device))
            loss = torch.nn.functional.cross_entropy(logits.float(), labels[rows].to(device))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            total += loss.item() * len(rows)
        losses.append(total / len(pictures))
        if (epoch + 1) % max(1, epochs // 4) == 0 and epoch + 1 < epochs:
            left = (time.monotonic() - start) / (epoch + 1) * (epochs - epoch - 1)
            say(f"{what}: epoch {epoch + 1} of {epochs}, loss {losses[-1]:.3f}, {left:.0f} s left")
    return losses


def train_classifier(
    model_folder, real, synthetic, test, predictions, metrics, arm, classifier, settings, seed, device, revision
):
    """Train one classifier on one arm and predict the test set.

    Args:
        model_folder: a timm model as `fetch_model` leaves it.
        real, synthetic: paths of draws (tables.DRAWS), or None where the arm has none.
        test: path of the test images (tables.DRAWS).
        predictions, metrics: paths to write.
        arm: dict with name, real, generator, synthetic (draws.Arm).
        settings: dict with epochs, batch_size, image_size, learning_rate, weight_decay, augment, precision.
        device: cuda | cpu.
    """
    device = torch_device(device)
    torch.manual_seed(seed)  # the new head's weights, dropout
    what = f"{classifier} on {arm['name']}, seed {seed}"
    model = Normalized(model_folder, settings["image_size"]).to(device)
    chosen = [(real, arm["real"]), (synthetic, arm["synthetic"])]
    tables = [take_arm(read_table(path), images) for path, images in chosen if images]
    pictures, labels = load_images(pa.concat_tables(tables), settings["image_size"])
    start = time.monotonic()
    losses = fit(model, pictures, labels, settings, seed, device, what)
    seconds = time.monotonic() - start
    table = read_table(test)
    test_pictures, malignant = load_images(table, settings["image_size"])
    scores = predict(model, test_pictures, device, settings["precision"])
    result = {
        "arm": arm,
        "classifier": classifier,
        "seed": seed,
        "revision": revision,
        "settings": settings,
        "accuracy": accuracy(malignant.bool().numpy(), scores),
        "roc_auc": roc_auc(malignant.bool().numpy(), scores),
        "test_images": len(table),
        "epoch_losses": losses,
        "train_seconds": seconds,
    }
    rows = {"image_id": table["image_id"], "label": table["label"], "score": pa.array(scores)}
    write_table(predictions, pa.table(rows), PREDICTIONS)
    write_json(metrics, result)
    say(f"{what}: accuracy {result['accuracy']:.3f}, ROC-AUC {result['roc_auc']:.3f}")
