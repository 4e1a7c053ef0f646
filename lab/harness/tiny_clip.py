"""A small CLIP with random weights, laid out as `transformers` saves one."""

import torch

from lab.harness import comfyui


def write(folder):
    from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel, CLIPProcessor, CLIPTokenizer

    small = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = CLIPModel(
            CLIPConfig(
                text_config={**small, "vocab_size": 49408, "eos_token_id": 49407},
                vision_config={**small, "image_size": 32, "patch_size": 8},
                projection_dim=16,
            )
        )
    model.save_pretrained(folder)
    images = CLIPImageProcessor(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32})
    CLIPProcessor(images, CLIPTokenizer.from_pretrained(comfyui.path() / "comfy" / "sd1_tokenizer")).save_pretrained(
        folder
    )
    return folder
