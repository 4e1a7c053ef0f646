"""The real host in this process, with the miniature loaded the way the host's executor does it."""

from types import SimpleNamespace

import pytest
import random_models

from lab.harness import comfyui, server
from lab.miniature import pack


@pytest.fixture(scope="session")
def reversion():
    """The pack, loaded as the host loads a custom node."""
    return comfyui.load_pack("reversion_pack")


@pytest.fixture(scope="session")
def core(reversion):
    """The pack's core modules, with the host they touch."""
    from reversion_pack.reversion_core import errors, exemplars, families
    from reversion_pack.reversion_core import host as core_host
    from reversion_pack.reversion_core.method import focal, steering
    from reversion_pack.reversion_core.store import relation
    from reversion_pack.reversion_core.training import inputs, loop, losses, prepare, run, settings, step

    return SimpleNamespace(
        errors=errors,
        exemplars=exemplars,
        families=families,
        focal=focal,
        host=core_host,
        inputs=inputs,
        loop=loop,
        losses=losses,
        prepare=prepare,
        relation=relation,
        run=run,
        settings=settings,
        steering=steering,
        step=step,
    )


@pytest.fixture(scope="session")
def checkpoint():
    path = server.MODELS / server.CHECKPOINT
    pack.write_checkpoint(path)
    return path


@pytest.fixture(scope="session")
def embeddings(tmp_path_factory):
    return tmp_path_factory.mktemp("embeddings")


@pytest.fixture(scope="session")
def loaded(reversion, checkpoint, embeddings):
    """MODEL, CLIP and VAE of the miniature; their weights are inference tensors, as in the host."""
    import comfy.sd
    import torch

    with torch.inference_mode():
        model, clip, vae, _ = comfy.sd.load_checkpoint_guess_config(
            str(checkpoint), embedding_directory=[str(embeddings)]
        )
    return SimpleNamespace(model=model, clip=clip, vae=vae)


@pytest.fixture(scope="session")
def of_family(loaded, embeddings):
    """The name of a family -> MODEL, CLIP and VAE: the miniature, or a small random model."""
    built = {"SD 1.x": loaded}

    def get(name):
        if name not in built:
            built[name] = random_models.build(name, embeddings, loaded.vae)
        return built[name]

    return get


@pytest.fixture(scope="session")
def drawn(core):
    """Eight exemplars of "inside" from the drawn world."""
    import numpy as np

    from lab.miniature import placing, world

    rng = np.random.default_rng(4)
    scenes = [placing.arrange("inside", *world.random_pair(rng), rng) for _ in range(8)]
    return core.exemplars.Exemplars(
        tuple(f"{i}.png" for i in range(8)),
        tuple(world.render(scene) for scene in scenes),
        tuple((f"{scene.subject.entity} {{}} {scene.object.entity}",) for scene in scenes),
    )
