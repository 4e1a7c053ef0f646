"""What `make speed` and `make full-size` measure: the same work, and models of the real sizes."""

import pytest
import torch

from lab.bench import full_size, random_checkpoints, speed, speed_tables


def test_the_published_loop_has_our_losses(core):
    """Over several updates, in float32, from the same draws."""
    found = speed.steps(3, ["fp32"])
    assert found.loss_differences["fp32"] < 1e-5
    assert {kind: len(seconds) for kind, seconds in found.seconds.items()} == {"fp32": 2, "published": 2, "bare": 2}
    assert found.published_parts.keys() == {"VAE", "table"}


# Millions of parameters of the published models. The host's CLIP-L has a projection of 0.59 million that no checkpoint
# of SD 1.5 and SDXL has.
SIZES = {
    "SD 1.5": ("SD15", "EPS", (859.52, 123.06 + 0.59, 83.65)),
    "SD 2.1 768-v": ("SD20", "V_PREDICTION", (865.91, 354.03, 83.65)),
    "SDXL": ("SDXL", "EPS", (2567.46, 123.06 + 0.59 + 694.66, 83.65)),
}


@pytest.mark.parametrize("name", random_checkpoints.ARCHITECTURES)
def test_the_host_takes_a_random_checkpoint_for_a_whole_one_of_the_published_size(core, name, tmp_path, monkeypatch):
    import comfy.model_detection
    import comfy.utils

    config_name, prediction, millions = SIZES[name]
    networks = random_checkpoints.networks(name)
    counted = [sum(weight.numel() for weight in networks[part].parameters()) / 1e6 for part in ("unet", "text", "vae")]
    assert counted == pytest.approx(millions, abs=0.01)
    # The file as it is written, but for the large tensors, which here are empty.
    monkeypatch.setattr(random_checkpoints, "FOLDER", tmp_path)
    small = {key: s for key, s in random_checkpoints.shapes(name).items() if len(s) < 2}
    monkeypatch.setattr(random_checkpoints, "shapes", lambda name: small)
    written = comfy.utils.load_torch_file(str(random_checkpoints.write_checkpoint(name)))
    monkeypatch.undo()
    state = {key: torch.empty(s, device="meta") for key, s in random_checkpoints.shapes(name).items()} | written
    prefix = "model.diffusion_model."
    config = comfy.model_detection.model_config_from_unet(state, prefix)
    assert type(config).__name__ == config_name and config.model_type(state, prefix).name == prediction
    assert {key.removeprefix(prefix) for key in state if key.startswith(prefix)} == networks["unet"].state_dict().keys()
    missing = networks["text"].state_dict().keys() - config.process_clip_state_dict(dict(state)).keys()
    assert all(key.endswith(("logit_scale", "text_projection.weight")) for key in missing)


def test_random_weights_keep_the_size_of_what_passes_through():
    weight = random_checkpoints.random_weight("to_q.weight", torch.Size((320, 768)), torch.Generator().manual_seed(0))
    assert float(weight.norm(dim=1).mean()) == pytest.approx(1, rel=0.01)


def test_each_report_keeps_the_other_one_s_part_of_the_page(tmp_path, monkeypatch):
    monkeypatch.setattr(speed_tables, "PUBLISHED", tmp_path / "speed.md")
    speed_tables.PUBLISHED.write_text("# Speed\n\nold\n")
    stage = {"seconds": 3.0, "peak_rss": 2e9}
    row = {"side": 512, "memory": "auto", "host": "1.2.3", "stages": dict.fromkeys(("load", "learn"), stage)}
    report = {"device": "2 CPU cores", "threads": 2, "torch": "2", "architectures": {"SD 1.5": row}}
    section = speed_tables.of_full_size(report)
    assert "| SD 1.5 | 512 | float32 | auto | 3 s, 2.0 GB | 3 s, 2.0 GB |" in section
    for _ in range(2):
        speed_tables.publish_speed(full_size=section)
    speed_tables.publish_speed(speed="# Speed\n\nnew\n")
    assert speed_tables.PUBLISHED.read_text() == "# Speed\n\nnew\n\n" + section


def test_the_stages_build_on_each_other():
    """What a stage asks for again has the same inputs, so that the host takes it from its cache."""
    load, learn, draw = full_size.prompts("some.safetensors", 512, "auto").values()
    assert load["checkpoint"] == learn["checkpoint"] == draw["checkpoint"]
    assert learn["train"] == draw["train"] and draw["train"]["inputs"]["steps"] == full_size.UPDATES
