import pytest

from dermaflux.lora import TARGETS
from dermaflux.lora_formats import is_kohya, to_diffusers, to_kohya
from dermaflux.torch_setup import torch


def random_lora(width, rank, targets="all_linear", double=1, single=1, seed=0):
    """A LoRA in diffusers' layout for a model of `width`, with random weights."""
    import re

    from diffusers import FluxTransformer2DModel

    with torch.device("meta"):
        model = FluxTransformer2DModel(
            num_layers=double, num_single_layers=single, attention_head_dim=width // 4, num_attention_heads=4,
            axes_dims_rope=(width // 4 - 4, 2, 2), joint_attention_dim=32, pooled_projection_dim=32,
        )  # fmt: skip
    generator = torch.Generator().manual_seed(seed)
    state = {}
    for name, module in model.named_modules():
        if re.fullmatch(TARGETS[targets], name):
            state[f"transformer.{name}.lora_A.weight"] = torch.randn(rank, module.in_features, generator=generator)
            state[f"transformer.{name}.lora_B.weight"] = torch.randn(module.out_features, rank, generator=generator)
    return state


def deltas(state):
    """What each layer adds to its weight."""
    return {
        name.removesuffix(".lora_A.weight"): state[name.replace("lora_A", "lora_B")] @ value
        for name, value in state.items()
        if name.endswith("lora_A.weight")
    }


def same(first, second, tolerance=1e-6):
    return first.keys() == second.keys() and all(torch.allclose(first[k], second[k], atol=tolerance) for k in first)


def dense_kohya(state, alpha):
    """An sd-scripts file with dense fused layers, as a training in sd-scripts makes (one A for q, k, v)."""
    kohya, generator = to_kohya(state), torch.Generator().manual_seed(1)
    for name in [n for n in kohya if n.endswith("lora_up.weight")]:
        down = name.replace("lora_up", "lora_down")
        kohya[down], kohya[name] = kohya[down][:4], torch.randn(len(kohya[name]), 4, generator=generator)
        kohya[name.replace("lora_up.weight", "alpha")] = torch.tensor(alpha)
    return kohya


@pytest.mark.parametrize("width", [32, 64])
def test_there_and_back_is_exact(width):
    state = random_lora(width, 4, double=2, single=3)
    kohya = to_kohya(state)
    assert is_kohya(kohya) and not is_kohya(state)
    back = to_diffusers(kohya)
    assert back.keys() == state.keys() and all(torch.equal(back[k], state[k]) for k in state)
    assert len([k for k in kohya if k.endswith("alpha")]) == 2 * 10 + 3 * 3
    assert all(kohya[k.replace("alpha", "lora_down.weight")].shape[0] == kohya[k] for k in kohya if k.endswith("alpha"))


def test_fused_layers_there_and_back_keep_their_rank():
    kohya = dense_kohya(random_lora(32, 4), 2.0)
    back = to_kohya(to_diffusers(kohya))
    name = "lora_unet_single_blocks_0_linear1"
    assert back[f"{name}.lora_down.weight"].shape == (4, 32)
    assert torch.allclose(back[f"{name}.lora_up.weight"], kohya[f"{name}.lora_up.weight"] * 0.5)


def test_attention_only_leaves_the_mlp_alone():
    state = random_lora(32, 4, "attention")
    back = to_diffusers(to_kohya(state))
    added = {k: v for k, v in deltas(back).items() if f"{k}.lora_A.weight" not in state}
    assert list(added) == ["transformer.single_transformer_blocks.0.proj_mlp"] and not any(
        v.any() for v in added.values()
    )
    assert same({k: v for k, v in deltas(back).items() if k not in added}, deltas(state))


@pytest.mark.parametrize("alpha", [4.0, 2.0, None])
def test_diffusers_reads_the_same_from_our_files(alpha):
    from diffusers import FluxPipeline

    state = random_lora(3072, 4)
    kohya = to_kohya(state) if alpha is None else dense_kohya(state, alpha)
    theirs = FluxPipeline.lora_state_dict({k: v.clone() for k, v in kohya.items()})
    ours = to_diffusers(kohya)
    assert theirs.keys() == ours.keys()
    for name in [n.removesuffix(".lora_A.weight") for n in ours if n.endswith("lora_A.weight")]:
        # rows are enough: products of the full matrices take seconds
        a, b = f"{name}.lora_A.weight", f"{name}.lora_B.weight"
        assert torch.allclose(theirs[b][:50] @ theirs[a], ours[b][:50] @ ours[a], atol=1e-4)
        assert torch.allclose(theirs[b][-50:] @ theirs[a], ours[b][-50:] @ ours[a], atol=1e-4)


def test_unknown_layers_are_named():
    with pytest.raises(ValueError, match="lora_te1_x is not a layer"):
        to_diffusers({"lora_te1_x.lora_down.weight": torch.zeros(1, 1), "lora_te1_x.lora_up.weight": torch.zeros(1, 1)})
    with pytest.raises(ValueError, match="x_embedder"):
        to_kohya({"transformer.x_embedder.lora_A.weight": torch.zeros(1, 1)})
    state = random_lora(32, 4)
    del state["transformer.transformer_blocks.0.attn.to_k.lora_A.weight"]
    with pytest.raises(ValueError, match="img_attn_qkv is one layer"):
        to_kohya(state)
