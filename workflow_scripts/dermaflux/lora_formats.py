"""LoRA files in the two layouts in use: diffusers' (split) and sd-scripts' (kohya; fused), both ways.

diffusers keeps q, k, v (and a single block's MLP input) as separate layers; sd-scripts adapts the fused ones of the
original checkpoint (qkv, linear1). Widths are read from the tensors: diffusers' own converter assumes 3072. What each
layer adds to a weight, scale alpha / rank included, is the same on both sides:

- split to fused: where the parts share one A (as a fused file has after splitting), A is kept and the B are stacked; else
  the A are stacked and the B laid on a block diagonal, at a multiple of the rank. sd-scripts and diffusers both know that
  form (sd-scripts calls it split_qkv).
- fused to split: a block diagonal is taken apart; of others every part gets the same A and its rows of B.
"""

import torch

PREFIX = "transformer."
MLP_RATIO = 4  # in every FLUX

# sd-scripts' name of a layer, and its parts in diffusers
_DOUBLE = {
    "img_attn_qkv": ("attn.to_q", "attn.to_k", "attn.to_v"),
    "img_attn_proj": ("attn.to_out.0",),
    "img_mlp_0": ("ff.net.0.proj",),
    "img_mlp_2": ("ff.net.2",),
    "img_mod_lin": ("norm1.linear",),
    "txt_attn_qkv": ("attn.add_q_proj", "attn.add_k_proj", "attn.add_v_proj"),
    "txt_attn_proj": ("attn.to_add_out",),
    "txt_mlp_0": ("ff_context.net.0.proj",),
    "txt_mlp_2": ("ff_context.net.2",),
    "txt_mod_lin": ("norm1_context.linear",),
}
_SINGLE = {
    "linear1": ("attn.to_q", "attn.to_k", "attn.to_v", "proj_mlp"),
    "linear2": ("proj_out",),
    "modulation_lin": ("norm.linear",),
}
_STACKS = {"transformer_blocks": ("double_blocks", _DOUBLE), "single_transformer_blocks": ("single_blocks", _SINGLE)}


def is_kohya(state):
    """Whether a LoRA's tensors (dict of name -> tensor) are in sd-scripts' layout."""
    return any(name.endswith(".lora_down.weight") for name in state)


def _blocks(names):
    """(stack in diffusers, number) of every block that `names` (diffusers' names without prefix) mention."""
    return sorted({(name.split(".")[0], int(name.split(".")[1])) for name in names if name.split(".")[0] in _STACKS})


def to_kohya(state):
    """A LoRA in diffusers' layout as sd-scripts keeps it. The scale must be in the weights (alpha = rank).

    Args:
        state: dict of "transformer.{layer}.lora_A.weight" [rank, in] and "...lora_B.weight" [out, rank].

    Returns:
        dict of "lora_unet_{layer}.lora_down.weight", ".lora_up.weight" and ".alpha" (a scalar; equal to the layer's rank).

    Raises:
        ValueError: layers that sd-scripts' layout does not have, or only some parts of a fused one.
    """
    left = {name.removeprefix(PREFIX): value for name, value in state.items()}
    fused = {}
    for stack, number in _blocks(left):
        kohya, layers = _STACKS[stack]
        for name, parts in layers.items():
            keys = [f"{stack}.{number}.{part}" for part in parts]
            present = [key for key in keys if f"{key}.lora_A.weight" in left]
            if not present:
                continue
            if stack == "single_transformer_blocks" and name == "linear1" and len(present) == 3:
                # attention alone is adapted: the MLP's rows of linear1 stay as they are
                down = left[f"{keys[0]}.lora_A.weight"]
                left[f"{keys[3]}.lora_A.weight"] = torch.zeros_like(down)
                left[f"{keys[3]}.lora_B.weight"] = down.new_zeros(MLP_RATIO * down.shape[1], len(down))
            elif len(present) < len(keys):
                raise ValueError(f"{stack}.{number}: {name} is one layer in sd-scripts, but only {present} are adapted")
            downs = [left.pop(f"{key}.lora_A.weight") for key in keys]
            ups = [left.pop(f"{key}.lora_B.weight") for key in keys]
            down, up = _fuse(downs, ups)
            layer = f"lora_unet_{kohya}_{number}_{name}"
            fused[f"{layer}.lora_down.weight"] = down.contiguous()
            fused[f"{layer}.lora_up.weight"] = up.contiguous()
            fused[f"{layer}.alpha"] = torch.tensor(float(len(down)), dtype=down.dtype)
    if left:
        raise ValueError(f"layers that sd-scripts' layout does not have: {', '.join(sorted(left)[:5])}")
    return fused


def _fuse(downs, ups):
    if all(torch.equal(down, downs[0]) for down in downs[1:]):
        return downs[0], torch.cat(ups)
    return torch.cat(downs), torch.block_diag(*ups)


def to_diffusers(state):
    """A LoRA in sd-scripts' layout as diffusers keeps it, with the scale alpha / rank put into B (so that alpha = rank).

    Args:
        state: as `to_kohya` returns; a layer without alpha has the scale 1.

    Returns:
        dict as `to_kohya` takes.

    Raises:
        ValueError: tensors of other layers than the blocks' (text encoders, embedders), or of odd widths.
    """
    split, used = {}, set()
    for name in state:
        if not name.endswith(".lora_down.weight"):
            continue
        layer = name.removesuffix(".lora_down.weight")
        keys = _parts(layer)
        down, up = state[name], state[f"{layer}.lora_up.weight"]
        alpha = state.get(f"{layer}.alpha")
        scale = 1.0 if alpha is None else float(alpha) / len(down)
        for key, (a, b) in zip(keys, _split(down, up * scale, keys), strict=True):
            split[f"{PREFIX}{key}.lora_A.weight"] = a.contiguous()
            split[f"{PREFIX}{key}.lora_B.weight"] = b.contiguous()
        used |= {name, f"{layer}.lora_up.weight", f"{layer}.alpha"}
    if unknown := sorted(set(state) - used):
        raise ValueError(f"tensors that belong to no layer: {', '.join(unknown[:5])}")
    return split


def _parts(layer):
    """diffusers' names of the parts of an sd-scripts layer."""
    for stack, (kohya, layers) in _STACKS.items():
        number, _, name = layer.removeprefix(f"lora_unet_{kohya}_").partition("_")
        if layer.startswith(f"lora_unet_{kohya}_") and name in layers:
            return [f"{stack}.{number}.{part}" for part in layers[name]]
    raise ValueError(f"{layer} is not a layer of FLUX's blocks")


def _split(down, up, keys):
    """(A, B) of each part of a fused layer."""
    count, width = len(keys), down.shape[1]
    if count == 1:
        return [(down, up)]
    # q, k and v are as wide as the model; what is left of linear1 is the MLP's
    widths = [width] * 3 + [len(up) - 3 * width] * (count - 3)
    if sum(widths) != len(up) or min(widths) <= 0:
        raise ValueError(f"{keys[0]}: {len(up)} rows cannot be split into {widths}")
    rows = torch.split(up, widths)
    if len(down) % count == 0:
        rank = len(down) // count
        diagonal = [part[:, i * rank : (i + 1) * rank] for i, part in enumerate(rows)]
        if torch.equal(torch.block_diag(*diagonal), up):
            return list(zip(down.split(rank), diagonal, strict=True))
    return [(down, part) for part in rows]
