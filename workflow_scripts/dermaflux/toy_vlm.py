"""A tiny vision-language model with random weights, in the layout that vLLM and transformers read. What it says means nothing.

It is a Llava (CLIP + Llama, half a million parameters, float32): an image is cut to 56 x 56 px and takes 16 tokens. Its
texts depend on the image and mostly end by themselves, which is what tests of the plumbing need.
"""

import json
import random
from pathlib import Path

from dermaflux.torch_setup import torch

# isort: split
from safetensors.torch import load_file, save_file
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    CLIPImageProcessor,
    CLIPVisionConfig,
    GenerationConfig,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaProcessor,
    PreTrainedTokenizerFast,
)

# Arguments of `vllm serve` for this model on CPUs; without disable_any_whitespace its JSON would fill up with spaces.
SERVE = (
    "--dtype", "float32", "--max-model-len", "2048", "--max-num-seqs", "32", "--kv-cache-memory-bytes", "128M",
    "--enforce-eager", "--limit-mm-per-prompt", '{"image": 1}',
    "--structured-outputs-config", '{"backend": "xgrammar", "disable_any_whitespace": true}',
)  # fmt: skip
BOS, EOS, PAD, IMAGE = SPECIAL = ("<s>", "<|end|>", "<pad>", "<image>")
WORDS = [
    "the",
    "mole",
    "lesion",
    "image",
    "is",
    "are",
    "has",
    "its",
    "and",
    "with",
    "a",
    "an",
    "of",
    "in",
    "asymmetry",
    "border",
    "color",
    "shape",
    "symmetrical",
    "asymmetrical",
    "slightly",
    "smooth",
    "irregular",
    "jagged",
    "edge",
    "uniform",
    "varied",
    "brown",
    "dark",
    "light",
    "red",
    "black",
    "blue",
    "gray",
    "white",
    "round",
    "oval",
    "small",
    "large",
    "skin",
    "center",
]
CHAT = """{{ bos_token }}{% for m in messages %}[{{ m['role'] }}]
{% if m['content'] is string %}{{ m['content'] }}{% else %}{% for c in m['content'] %}{% if c['type'] == 'image' %}<image>
{% elif c['type'] == 'text' %}{{ c['text'] }}{% endif %}{% endfor %}{% endif %}<|end|>
{% endfor %}{% if add_generation_prompt %}[assistant]
{% endif %}"""


def toy_tokenizer(special=SPECIAL, chat=CHAT):
    """A tokenizer of 508 byte pairs and `special` (names of bos, eos, pad and image tokens, in this order).

    Printable ASCII and newline only: with all bytes a random model would write broken UTF-8 and control characters.
    """
    rng = random.Random(0)
    corpus = [" ".join(rng.choices(WORDS, k=10)) + "." for _ in range(500)]
    corpus += [json.dumps({"asymmetry": "slight", "border": "smooth", "color": "brown"})] * 50
    alphabet = [chr(i) for i in range(33, 127)] + ["\u0120", "\u010a"]
    pairs = Tokenizer(models.BPE())
    pairs.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    pairs.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(vocab_size=508, initial_alphabet=alphabet, show_progress=False)
    pairs.train_from_iterator(corpus, trainer)
    pairs.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in special])
    bos, eos, pad, image = special
    return PreTrainedTokenizerFast(
        tokenizer_object=pairs,
        bos_token=bos,
        eos_token=eos,
        pad_token=pad,
        additional_special_tokens=[image],
        model_max_length=4096,
        clean_up_tokenization_spaces=False,
        chat_template=chat,
    )


def randomize(model, ending_tokens):
    """Give `model` weights that write varied text, which ends where one of `ending_tokens` (ids) comes up."""
    with torch.no_grad():
        for weights in model.parameters():
            if weights.dim() > 1:
                weights.normal_(0, 0.15)  # the usual 0.02 writes one token for ever
        for token in ending_tokens:
            model.get_output_embeddings().weight[token] *= 2


def build_vlm(folder):
    """Write the model, its tokenizer and its processor to `folder`: the same bytes each time."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer = toy_tokenizer()
    bos, eos, pad, image, quote = tokenizer.convert_tokens_to_ids([*SPECIAL, '"'])
    ids = {"bos_token_id": bos, "eos_token_id": eos, "pad_token_id": pad}
    vision = CLIPVisionConfig(
        hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_attention_heads=2, image_size=56, patch_size=14
    )
    text = LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=128, intermediate_size=256, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=4096, **ids,
    )  # fmt: skip
    config = LlavaConfig(
        vision_config=vision, text_config=text, image_token_index=image, image_seq_length=16, vision_feature_layer=-2,
        vision_feature_select_strategy="default",
    )  # fmt: skip
    torch.manual_seed(0)
    model = LlavaForConditionalGeneration(config).float()
    randomize(model, [eos, quote])
    model.generation_config = GenerationConfig(**ids)
    model.save_pretrained(folder)
    # transformers 5 leaves "vision_model." out of CLIP's names; vLLM wants it, as in published checkpoints
    path = folder / "model.safetensors"
    names = {name: name.replace("vision_tower.", "vision_tower.vision_model.", 1) for name in load_file(path)}
    save_file({names[name]: weights for name, weights in load_file(path).items()}, path, {"format": "pt"})
    images = CLIPImageProcessor(size={"shortest_edge": 56}, crop_size={"height": 56, "width": 56})
    LlavaProcessor(
        images, tokenizer, patch_size=14, image_token=IMAGE, vision_feature_select_strategy="default",
        num_additional_image_tokens=1, chat_template=CHAT,
    ).save_pretrained(folder)  # fmt: skip
