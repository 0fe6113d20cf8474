"""The demo's FLUX, before it has learned: the real classes at toy widths, its tokenizers, and the generic blobs it learns from.

Used only by workflow_scripts/pretrain_demo_flux.py, which makes config/demo/flux. The pictures are shapes in named
colours, never lesions, and no caption has the words "benign" or "malignant". `tell_labels_apart` makes the text encoders
hear the difference of these two words, not what they mean: that is for the demo's LoRA to learn.
"""

import json
import math

import numpy as np

from dermaflux.torch_setup import torch

# isort: split
from diffusers import AutoencoderKL, FlowMatchEulerDiscreteScheduler, FluxTransformer2DModel
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer, T5Config, T5EncoderModel, T5TokenizerFast

COLORS = {  # name -> sRGB
    "pale pink": (244, 214, 204), "pink": (232, 180, 170), "beige": (228, 198, 170), "tan": (205, 160, 120),
    "light brown": (176, 124, 86), "brown": (130, 82, 54), "dark brown": (78, 46, 32), "black": (35, 26, 24),
    "red": (185, 60, 55), "white": (240, 236, 230), "blue-gray": (110, 120, 140), "gray": (140, 135, 132),
    "green": (80, 150, 80), "blue": (70, 100, 190), "yellow": (235, 205, 90), "purple": (130, 70, 150),
    "orange": (230, 140, 60),
}  # fmt: skip
SKIN = ["pale pink", "pink", "beige", "tan", "light brown", "brown"]
SPOT = ["light brown", "brown", "dark brown", "black", "red", "blue-gray", "pink", "tan"]

# Every word is one token. Also words that only captions of lesions use, so that these are short; they start untrained.
WORDS = [
    "a",
    "an",
    "and",
    "are",
    "around",
    "as",
    "at",
    "be",
    "been",
    "but",
    "by",
    "can",
    "characterized",
    "center",
    "central",
    "clear",
    "clearly",
    "dark",
    "description",
    "depicts",
    "deep",
    "definition",
    "differ",
    "different",
    "distinct",
    "distribution",
    "each",
    "edge",
    "edges",
    "even",
    "evenly",
    "few",
    "for",
    "from",
    "give",
    "halves",
    "has",
    "have",
    "here",
    "high",
    "image",
    "in",
    "into",
    "irregularly",
    "is",
    "it",
    "its",
    "large",
    "larger",
    "light",
    "lighter",
    "low",
    "many",
    "me",
    "medium",
    "mild",
    "moderate",
    "moderately",
    "more",
    "most",
    "multiple",
    "no",
    "not",
    "notable",
    "of",
    "off",
    "on",
    "one",
    "only",
    "or",
    "other",
    "outline",
    "over",
    "overall",
    "pale",
    "part",
    "parts",
    "patches",
    "photo",
    "picture",
    "poorly",
    "regarding",
    "regular",
    "relatively",
    "several",
    "shade",
    "shades",
    "shape",
    "shaped",
    "shows",
    "side",
    "single",
    "size",
    "slight",
    "slightly",
    "small",
    "smaller",
    "smooth",
    "soft",
    "some",
    "somewhat",
    "spot",
    "spread",
    "suggests",
    "surrounding",
    "texture",
    "than",
    "that",
    "the",
    "their",
    "there",
    "these",
    "this",
    "three",
    "throughout",
    "to",
    "tone",
    "tones",
    "toward",
    "two",
    "type",
    "uniform",
    "uniformly",
    "various",
    "varied",
    "variegated",
    "very",
    "well",
    "which",
    "whole",
    "with",
    "within",
    "without",
    "asymmetric",
    "asymmetrical",
    "asymmetry",
    "symmetric",
    "symmetrical",
    "symmetry",
    "border",
    "borders",
    "irregular",
    "irregularity",
    "jagged",
    "ragged",
    "notched",
    "scalloped",
    "blurred",
    "fuzzy",
    "sharp",
    "sharply",
    "defined",
    "ill",
    "circular",
    "round",
    "oval",
    "elongated",
    "triangular",
    "square",
    "star",
    "angular",
    "blob",
    "background",
    "color",
    "colors",
    "colour",
    "colours",
    "colored",
    "hue",
    "hues",
    "spots",
    "dots",
    "speckled",
    "mottled",
    "homogeneous",
    "heterogeneous",
    "lesion",
    "lesions",
    "mole",
    "moles",
    "nevus",
    "melanoma",
    "skin",
    "benign",
    "malignant",
    "pigmented",
    "pigmentation",
    "dermoscopic",
    "clinical",
    "growth",
    "black",
    "blue",
    "blue-gray",
    "brown",
    "gray",
    "green",
    "orange",
    "pink",
    "purple",
    "red",
    "tan",
    "white",
    "yellow",
    "beige",
    "bluish",
    "reddish",
    "whitish",
    "primarily",
    "indistinct",
    "mainly",
    "predominantly",
    "consists",
    "appears",
    "0",
    "1",
    "2",
    "3",
    "4",
    "5",
    "6",
    "7",
    "8",
    "9",
    "%",
    "one",
    "two",
    "three",
    "four",
    "five",
    "six",
]

# Where the two words stand in the captions and prompts of the demo.
LABEL_TEXTS = (
    "This is an image containing a {} lesion.",
    "This photo depicts a {} lesion.",
    "This photo depicts a {} lesion. Here's a description of the mole: The mole in the image is symmetrical. "
    "Its border is smooth. The color is uniform, primarily light brown.",
)

TEXT_WIDTH, WIDTH_HEADS, HEAD = 64, 4, 32


def clip_tokenizer():
    """A CLIPTokenizer (byte-level BPE, lower case, 77 tokens) whose merges make each of `WORDS` one token."""
    trainer = trainers.BpeTrainer(
        vocab_size=4000, end_of_word_suffix="</w>", initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )  # fmt: skip
    raw = Tokenizer(models.BPE(end_of_word_suffix="</w>"))
    raw.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    raw.train_from_iterator(sorted({word.lower() for word in WORDS}), trainer)
    merges = [tuple(pair) for pair in json.loads(raw.to_str())["model"]["merges"]]
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    pieces = [*letters, *(f"{letter}</w>" for letter in letters), *("".join(pair) for pair in merges)]
    pieces = list(dict.fromkeys(pieces)) + ["<|startoftext|>", "<|endoftext|>"]
    return CLIPTokenizer(vocab={piece: i for i, piece in enumerate(pieces)}, merges=merges, model_max_length=77)


def t5_tokenizer():
    """A T5 tokenizer (unigram) with each of `WORDS` as one piece, also capitalised, and single characters for the rest."""
    words = sorted({form for word in WORDS for form in (word, word.capitalize())})
    letters = [chr(code) for code in range(33, 127)]
    pieces = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("▁", -8.0)]
    pieces += [(f"▁{word}", -6.0) for word in words] + [(letter, -10.0) for letter in letters]
    return T5TokenizerFast(vocab=pieces, extra_ids=0, model_max_length=512)


def new_flux(seed):
    """The toy's parts, untrained: dict of name (as in FluxPipeline) -> module, tokenizer or scheduler.

    The transformer has FLUX.1-dev's structure (double and single blocks, guidance embedding, 64 packed channels) at
    width 128; the VAE has 16 latent channels and halves the size three times.
    """
    torch.manual_seed(seed)
    tokenizer, tokenizer_2 = clip_tokenizer(), t5_tokenizer()
    clip = CLIPTextConfig(
        vocab_size=len(tokenizer), hidden_size=TEXT_WIDTH, intermediate_size=2 * TEXT_WIDTH, num_hidden_layers=2,
        num_attention_heads=4, projection_dim=TEXT_WIDTH, max_position_embeddings=77,
        bos_token_id=tokenizer.bos_token_id, eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id,
    )  # fmt: skip
    t5 = T5Config(
        vocab_size=len(tokenizer_2), d_model=TEXT_WIDTH, d_kv=16, d_ff=2 * TEXT_WIDTH, num_layers=2, num_heads=4,
        feed_forward_proj="gated-gelu", relative_attention_num_buckets=32, is_encoder_decoder=False, use_cache=False,
        dropout_rate=0.0,
    )  # fmt: skip
    return {
        "transformer": FluxTransformer2DModel(
            in_channels=64, num_layers=2, num_single_layers=3, attention_head_dim=HEAD, num_attention_heads=WIDTH_HEADS,
            joint_attention_dim=TEXT_WIDTH, pooled_projection_dim=TEXT_WIDTH, guidance_embeds=True,
            axes_dims_rope=(8, 12, 12),
        ),
        "vae": AutoencoderKL(
            in_channels=3, out_channels=3, latent_channels=16, block_out_channels=(16, 32, 40, 48), layers_per_block=1,
            down_block_types=("DownEncoderBlock2D",) * 4, up_block_types=("UpDecoderBlock2D",) * 4, norm_num_groups=8,
            sample_size=128, use_quant_conv=False, use_post_quant_conv=False, mid_block_add_attention=False,
        ),
        "text_encoder": CLIPTextModel(clip),
        "text_encoder_2": T5EncoderModel(t5),
        "tokenizer": tokenizer,
        "tokenizer_2": tokenizer_2,
        "scheduler": FlowMatchEulerDiscreteScheduler(  # FLUX.1-dev's scheduler_config.json
            num_train_timesteps=1000, shift=3.0, use_dynamic_shifting=True, base_shift=0.5, max_shift=1.15,
            base_image_seq_len=256, max_image_seq_len=4096,
        ),
    }  # fmt: skip


def tell_labels_apart(flux, seed, steps=150):
    """Move the embeddings of "benign" and "malignant" until the text encoders hear the difference; in place.

    A real text encoder has read both words often; to the toy's they are noise, nearly alike in what they do to a caption.
    From random places, the two embeddings (at most twice the usual size) are moved so that captions that differ in this
    word alone differ most. No picture is involved: what the words look like stays to be learned.

    Args:
        flux: dict of `new_flux`.
        seed: of the random places.
    """
    for encoder, tokenizer, length in (("text_encoder", "tokenizer", 77), ("text_encoder_2", "tokenizer_2", 48)):
        model = flux[encoder].requires_grad_(False)
        name, table = next((n, p) for n, p in model.named_parameters() if p is model.get_input_embeddings().weight)
        rows = torch.tensor(
            [flux[tokenizer](w, add_special_tokens=False).input_ids[-1] for w in ("benign", "malignant")]
        )
        size, start = table.norm(dim=1).median(), table.data.clone()
        draw = torch.randn(2, table.shape[1], generator=torch.Generator().manual_seed(seed))
        words = torch.nn.Parameter(draw * size / math.sqrt(table.shape[1]))
        optimizer = torch.optim.Adam([words], 0.03 * size.item())

        def told(words=words, start=start, rows=rows, size=size):
            limited = words * (2 * size / words.norm(dim=1, keepdim=True)).clamp(max=1)
            return start.index_copy(0, rows, limited)

        for _ in range(steps):
            difference = 0.0
            for text in LABEL_TEXTS:
                both = [text.format(word) for word in ("benign", "malignant")]
                ids = flux[tokenizer](
                    both, padding="max_length", max_length=length, truncation=True, return_tensors="pt"
                )
                out = torch.func.functional_call(model, {name: told()}, (ids.input_ids,))
                heard = out.pooler_output if encoder == "text_encoder" else out.last_hidden_state
                difference = difference + (heard[0] - heard[1]).norm(dim=-1).mean()
            optimizer.zero_grad()
            (-difference).backward()
            optimizer.step()
        table.data.copy_(told().detach())


OUTLINES = ("round", "oval", "irregular", "jagged", "triangular", "square", "star shaped")
BORDERS = {"smooth": (0.015, 0.05), "blurred": (0.07, 0.14), "sharp": (0.006, 0.012)}  # softness, in half widths


def _blob(rng):
    """Parameters of one image of one blob, and its caption."""
    outline = rng.choice(OUTLINES, p=[0.26, 0.2, 0.2, 0.18, 0.05, 0.06, 0.05])
    border = rng.choice(list(BORDERS), p=[0.45, 0.2, 0.35])
    skin = rng.random() < 0.7
    background = rng.choice(SKIN if skin else list(COLORS))
    wanted = [name for name in (SPOT if rng.random() < 0.75 else list(COLORS)) if name != background]
    colors = list(rng.choice(wanted, size=rng.choice([1, 2, 3], p=[0.5, 0.3, 0.2]), replace=False))
    size = rng.choice(["small", "medium", "large"])
    symmetric = outline not in ("irregular", "jagged")
    harmonics = np.zeros(20)
    if outline == "irregular":
        harmonics[2:7] = rng.uniform(0.04, 0.16, 5)
    if outline == "jagged":
        harmonics[2:6] = rng.uniform(0.02, 0.1, 4)
        harmonics[7:16] = rng.uniform(0.015, 0.075, 9)
    corners = {"triangular": 3, "square": 4, "star shaped": 5}.get(outline, 0)
    parameters = {
        "radius": {"small": 0.28, "medium": 0.45, "large": 0.62}[size] * rng.uniform(0.85, 1.15),
        "aspect": rng.uniform(1.35, 1.9) if outline == "oval" else rng.uniform(1, 1.3) if not symmetric else 1.0,
        "angle": rng.uniform(0, 2 * math.pi), "center": rng.normal(0, 0.09, 2), "harmonics": harmonics,
        "phases": rng.uniform(0, 2 * math.pi, 20), "corners": corners, "soft": rng.uniform(*BORDERS[border]),
        "background": _jitter(rng, background), "colors": [_jitter(rng, color) for color in colors],
        "threshold": rng.uniform(-0.4, 0.4, 2), "speckle": 0.25 * (rng.random() < 0.2), "shade": rng.uniform(0, 0.25),
    }  # fmt: skip
    return parameters, _caption(rng, outline, border, symmetric, colors, background, size)


def _jitter(rng, name):
    return np.clip((np.array(COLORS[name]) + rng.normal(0, 9, 3)) / 255 * rng.uniform(0.93, 1.06), 0, 1)


def _caption(rng, outline, border, symmetric, colors, background, size):
    listed = colors[0] if len(colors) == 1 else f"{', '.join(colors[:-1])} and {colors[-1]}"
    symmetry = rng.choice(["symmetric", "symmetrical"] if symmetric else ["asymmetric", "asymmetrical"])
    variety = "uniform" if len(colors) == 1 else "varied"
    edge = f"irregular and {border}" if not symmetric else f"regular and {border}"
    edge = f"jagged and {border}" if outline == "jagged" else edge
    return rng.choice([
        f"A {size} {outline} {listed} blob on a {background} background, {border} border.",
        f"This is an image containing a {outline} blob. It is {size} and {symmetry}, its border is {edge}, "
        f"with {listed} color, on a {background} background.",
        f"This photo depicts a {size} {outline} shape. Here's a description: The shape is {symmetry}, its border is "
        f"{edge}, with {listed} colors on {background}.",
        f"This is an image containing a {outline} {listed} shape.",
        f"This photo depicts a {background} image. The shape is {symmetry}. Its border is {edge}. The color is {variety}, "
        f"primarily {listed}.",
        f"{listed.capitalize()} {outline} spot, {symmetry}, {edge} border, {background} background.",
    ])  # fmt: skip


def _field(rng, count, size, grid):
    """Smooth random fields [count, size, size], about standard normal."""
    coarse = torch.from_numpy(rng.standard_normal((count, 1, grid, grid), dtype=np.float32))
    return torch.nn.functional.interpolate(coarse, (size, size), mode="bicubic", align_corners=True)[:, 0]


def draw_blobs(count, size, *seed):
    """`count` images of random blobs and their captions.

    Args:
        size: px; images are square.
        seed: ints; equal ones give equal images.

    Returns:
        (images, captions): float32 [count, 3, size, size] in [-1, 1], list of str.
    """
    rng = np.random.default_rng(seed)
    drawn = [_blob(rng) for _ in range(count)]
    get = lambda key: torch.tensor(np.array([p[key] for p, _ in drawn]), dtype=torch.float32)[:, None, None]  # noqa: E731
    center = torch.tensor(np.array([p["center"] for p, _ in drawn]), dtype=torch.float32)
    ys, xs = torch.meshgrid(*[torch.linspace(-1, 1, size)] * 2, indexing="ij")
    xs, ys = xs - center[:, :1, None], ys - center[:, 1:, None]
    cos, sin = torch.cos(get("angle")), torch.sin(get("angle"))
    u, v = (xs * cos + ys * sin) / get("aspect").sqrt(), (ys * cos - xs * sin) * get("aspect").sqrt()
    theta, rho = torch.atan2(v, u), torch.hypot(u, v)
    edge = torch.ones_like(rho)
    for k in range(2, 20):
        edge = edge + get("harmonics")[..., k] * torch.cos(k * theta + get("phases")[..., k])
    for i, (p, _) in enumerate(drawn):
        if p["corners"] == 5:
            edge[i] = 1 + 0.3 * torch.cos(5 * theta[i])
        elif p["corners"]:
            sector = math.pi / p["corners"]
            edge[i] = math.cos(sector) / torch.cos(torch.remainder(theta[i], 2 * sector) - sector)
    inside = torch.sigmoid((get("radius") * edge - rho) / get("soft"))[:, None]
    color = torch.stack([_inner_color(rng, p, size) for p, _ in drawn])
    color = color * (1 - get("shade") * torch.exp(-3 * (rho / get("radius")) ** 2))[:, None]
    speckle = torch.sigmoid(8 * (_field(rng, count, size, 20) - 1.2))
    color = color * (1 - get("speckle") * speckle)[:, None]
    background = torch.tensor(np.array([p["background"] for p, _ in drawn]), dtype=torch.float32)[:, :, None, None]
    background = (
        background + 0.025 * _field(rng, count, size, 4)[:, None] + 0.01 * _field(rng, count, size, 32)[:, None]
    )
    grain = torch.from_numpy(rng.standard_normal(color.shape, dtype=np.float32))
    images = background + (color - background) * inside + 0.006 * grain
    return images.clamp(0, 1) * 2 - 1, [caption for _, caption in drawn]


def _inner_color(rng, parameters, size):
    """The colours of one blob, in patches where there are several: float64 [3, size, size]."""
    first, *others = [torch.from_numpy(color).float()[:, None, None] for color in parameters["colors"]]
    mixed = first + 0.03 * _field(rng, 1, size, 8)
    for other, threshold in zip(others, parameters["threshold"], strict=False):
        mixed = mixed + (other - mixed) * torch.sigmoid(9 * (_field(rng, 1, size, 5) - threshold))
    return mixed
