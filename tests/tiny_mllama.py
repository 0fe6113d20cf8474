"""A tiny Mllama with random weights: Llama 3.2 Vision's classes, chat template and image tokens at toy widths."""

from pathlib import Path

from dermaflux.torch_setup import torch  # before transformers
from dermaflux.toy_vlm import randomize, toy_tokenizer

# isort: split
from transformers import (
    GenerationConfig,
    MllamaConfig,
    MllamaForConditionalGeneration,
    MllamaImageProcessor,
    MllamaProcessor,
)
from transformers.models.mllama.configuration_mllama import MllamaTextConfig, MllamaVisionConfig

SPECIAL = ("<|begin_of_text|>", "<|eot_id|>", "<|finetune_right_pad_id|>", "<|image|>")
# The part of Llama 3.2's template that a question about an image uses.
CHAT = """{{- bos_token }}{%- for m in messages %}{{- '<|start_header_id|>' + m['role'] + '<|end_header_id|>\\n\\n' }}
{%- if m['content'] is string %}{{- m['content'] }}{%- else %}{%- for c in m['content'] %}{%- if c['type'] == 'image' %}
{{- '<|image|>' }}{%- elif c['type'] == 'text' %}{{- c['text'] }}{%- endif %}{%- endfor %}{%- endif %}{{- '<|eot_id|>' }}
{%- endfor %}{%- if add_generation_prompt %}{{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}{%- endif %}"""


def build_mllama(folder):
    """Write model, tokenizer and processor to `folder`. Images are cut into at most four tiles of 28 px."""
    tokenizer = toy_tokenizer(SPECIAL, CHAT)
    bos, eos, pad, image = tokenizer.convert_tokens_to_ids(SPECIAL)
    ids = {"bos_token_id": bos, "eos_token_id": eos, "pad_token_id": pad}
    vision = MllamaVisionConfig(
        hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_global_layers=1, attention_heads=2, image_size=28,
        patch_size=14, max_num_tiles=4, intermediate_layers_indices=[0], vision_output_dim=64,
        supported_aspect_ratios=[[1, 1], [1, 2], [1, 3], [1, 4], [2, 1], [2, 2], [3, 1], [4, 1]],
    )  # fmt: skip
    text = MllamaTextConfig(
        vocab_size=len(tokenizer), hidden_size=64, intermediate_size=128, num_hidden_layers=3, num_attention_heads=4,
        num_key_value_heads=2, cross_attention_layers=[1], max_position_embeddings=2048, **ids,
    )  # fmt: skip
    config = MllamaConfig(vision_config=vision, text_config=text, image_token_index=image)
    torch.manual_seed(0)
    model = MllamaForConditionalGeneration(config).float()
    randomize(model, [eos])
    with torch.no_grad():  # gates of cross-attention start shut, as if there were no image
        for name, weights in model.named_parameters():
            if "gate" in name and weights.dim() == 1:
                weights.fill_(1.0)
    model.generation_config = GenerationConfig(**ids)
    model.save_pretrained(folder)
    images = MllamaImageProcessor(size={"height": 28, "width": 28}, max_image_tiles=4)
    MllamaProcessor(images, tokenizer, chat_template=CHAT).save_pretrained(folder)
    return Path(folder)
