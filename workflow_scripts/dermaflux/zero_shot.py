"""Zero-shot scores of CLIP-like models: the comparison of the paper's section 3.3."""

import pyarrow as pa
from PIL import Image

from dermaflux.torch_setup import torch, torch_device  # before open_clip

import open_clip  # noqa: E402  isort: skip

from dermaflux.job import progress
from dermaflux.pictures import decode
from dermaflux.tables import LABELS, PREDICTIONS, read_table, write_table


def label_embeddings(model, tokenizer, prompts, device):
    """One unit vector a label: the normalized mean of its prompts' normalized embeddings (CLIP's prompt ensembling).

    Args:
        prompts: dict label -> list of str.

    Returns:
        float tensor [2, d], in the order of tables.LABELS.
    """
    vectors = []
    for label in LABELS:
        embedded = model.encode_text(tokenizer(prompts[label]).to(device), normalize=True).mean(0)
        vectors.append(embedded / embedded.norm())
    return torch.stack(vectors)


def score_zero_shot(model_folder, test, predictions, prompts, batch_size, device, what):
    """Score the test images (tables.DRAWS at `test`) by their nearness to each label's prompts; writes tables.PREDICTIONS.

    The score is the softmax over the labels of the scaled cosine similarities, that is, CLIP's own probability.
    """
    device = torch_device(device)
    model, preprocess = open_clip.create_model_from_pretrained(f"local-dir:{model_folder}", device=device)
    tokenizer = open_clip.get_tokenizer(f"local-dir:{model_folder}")
    model.eval()
    table = read_table(test)
    scores = []
    with torch.inference_mode():
        targets = label_embeddings(model, tokenizer, prompts, device)
        for start in progress(range(0, len(table), batch_size), what, unit="batches"):
            images = [Image.fromarray(decode(image.as_py())) for image in table["image"][start : start + batch_size]]
            embedded = model.encode_image(
                torch.stack([preprocess(image) for image in images]).to(device), normalize=True
            )
            scores.append((model.logit_scale.exp() * embedded @ targets.T).float().softmax(1)[:, 1].double().cpu())
    rows = {"image_id": table["image_id"], "label": table["label"], "score": pa.array(torch.cat(scores).numpy())}
    write_table(predictions, pa.table(rows), PREDICTIONS)
