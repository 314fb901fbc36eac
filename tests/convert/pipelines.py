"""Tiny diffusers U-Nets and text encoders, saved as pipelines, and published merge formulas."""

import json

import torch

DIFFUSERS = {
    "sample_size": 8,
    "layers_per_block": 1,
    "block_out_channels": (16, 32),
    "norm_num_groups": 4,
    "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
    "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D"),
    "cross_attention_dim": 16,
    "attention_head_dim": 8,
}
SDXL = {
    "sample_size": 8,
    "layers_per_block": 2,
    "block_out_channels": (16, 16, 32),
    "norm_num_groups": 4,
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
    "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
    "transformer_layers_per_block": (1, 1, 2),
    "cross_attention_dim": 16,
    "attention_head_dim": 8,
    "addition_embed_type": "text_time",
    "addition_time_embed_dim": 4,
    "projection_class_embeddings_input_dim": 32,
    "use_linear_projection": True,
}


def unet(config=None):
    """Return a U-Net with random weights, from diffusers."""
    from diffusers import UNet2DConditionModel

    torch.manual_seed(0)
    return UNet2DConditionModel(**(DIFFUSERS if config is None else config)).eval()


def text_encoder():
    """Return a CLIP text model with random weights, from transformers."""
    from transformers import CLIPTextConfig, CLIPTextModel

    torch.manual_seed(1)
    return CLIPTextModel(
        CLIPTextConfig(
            vocab_size=40, hidden_size=16, intermediate_size=32, num_hidden_layers=2,
            num_attention_heads=2, max_position_embeddings=8, projection_dim=16,
        )
    ).eval()  # fmt: skip


def saved_pipeline(folder, **models):
    """Save the models of a pipeline as diffusers does."""
    folder.mkdir()
    for name, model in models.items():
        model.save_pretrained(folder / name)
    (folder / "model_index.json").write_text(json.dumps({"_class_name": "StableDiffusionPipeline"}))
    return folder


def cayley(q):
    """Return (I + Q)(I − Q)⁻¹ in float64, as a product with an inverse."""
    one = torch.eye(q.shape[-1], dtype=torch.float64)
    return (one + q) @ torch.linalg.inv(one - q)


def merged_oft(weight, blocks, alpha, *, bounded, rescale=None):
    """Merge diag-OFT: each group of rows of the weight is multiplied by the transposed block.

    `bounded` maps alpha and the number of outputs to the bound of the norm, or None.
    """
    x = blocks.double()
    q = x - x.transpose(1, 2)
    bound = None if alpha is None else bounded(float(alpha), len(weight))
    if bound is not None and q.norm() > bound:
        q = q * bound / q.norm()
    r = torch.block_diag(*cayley(q))
    rows = r.T @ weight.double().flatten(1)
    if rescale is not None:
        rows = rescale.double().reshape(-1, 1) * rows
    return rows.reshape(weight.shape)


def merged_butterfly_outputs(weight, blocks, alpha, *, bounded, rescale=None):
    """Merge LyCORIS's BOFT, factor by factor, with index arithmetic instead of reshapes."""
    x = blocks.double()
    q = x - x.transpose(-1, -2)
    bound = None if alpha is None else bounded(float(alpha), len(weight))
    if bound is not None and q.norm() > bound:
        q = q * bound / q.norm()
    factors, count, size, _ = x.shape
    rows = weight.double().flatten(1)
    for i in range(factors):
        far = 2**i * size // 2  # the distance between the two rows of a pair
        order = [
            start + half * far + k
            for start in range(0, count * size, 2 * far)
            for k in range(far)
            for half in range(2)
        ]
        rotated = torch.block_diag(*cayley(q[i])) @ rows[order]
        rows = torch.empty_like(rows)
        rows[order] = rotated
    if rescale is not None:
        rows = rescale.double().reshape(-1, 1) * rows
    return rows.reshape(weight.shape)


def merged_series(weight, triangles, *, scaled=False, terms=(1, 2, 2, 2, 1)):
    """Merge OFT of sd-scripts or OneTrainer: W·Rᵀ for a linear layer, W·R for a convolution."""
    pairs = triangles.shape[1]
    size = int((1 + (1 + 8 * pairs) ** 0.5) / 2 + 0.5)
    q = torch.zeros(len(triangles), size, size, dtype=torch.float64)
    for n, triangle in enumerate(triangles.double()):
        values = iter(triangle)
        for a in range(size):
            for b in range(a + 1, size):
                q[n, a, b] = next(values)
                q[n, b, a] = -q[n, a, b]
    if scaled:
        q = q / (2 * (size - 1) ** 0.5)
    r = sum(factor * torch.linalg.matrix_power(q, k) for k, factor in enumerate(terms))
    rows = weight.double().flatten(1)
    if len(r) == 1:
        r = r.repeat(rows.shape[1] // size, 1, 1)
    whole = torch.block_diag(*r)
    return (rows @ (whole if weight.ndim > 2 else whole.T)).reshape(weight.shape)


def merged_butterfly_inputs(weight, blocks, scale):
    """Merge sd-scripts' BOFT with explicit permutation matrices, as it is published."""
    x = blocks.double()
    factors, count, size, _ = x.shape
    d = count * size
    whole = torch.eye(d, dtype=torch.float64)
    for i in range(factors):
        s = 0.5 * (x[i] - x[i].transpose(1, 2))
        block = torch.block_diag(*cayley(-s))
        if factors > 1:
            length = d // (count // 2**i)  # half-blocks at even positions come first
            halves = torch.arange(d).reshape(d // length, length // (size // 2), size // 2)
            order = torch.cat([halves[:, 0::2], halves[:, 1::2]], dim=1).flatten()
            p = torch.eye(d, dtype=torch.float64)[order]
            block = p @ block @ p.T
        whole = block @ whole
    rows = (whole @ weight.double().flatten(1).T).T * scale.double().reshape(-1, 1)
    return rows.reshape(weight.shape)
