import random

import numpy as np
import pytest
import torch
from training import digest


@pytest.fixture(scope="module")
def schemas(reversion):
    from reversion_pack.nodes import NODES

    return {schema.node_id: schema for schema in (node.define_schema() for node in NODES)}


@pytest.fixture
def watched(loaded):
    """Fails where the weights, their tensors, the global random state or the host's flags are not as before."""
    import comfy.model_management

    modules = loaded.model.model, loaded.clip.cond_stage_model, loaded.vae.first_stage_model

    def state():
        return (
            digest(*modules),
            [id(p) for m in modules for p in m.parameters()],
            torch.get_rng_state().tolist(),
            np.random.get_state()[1].tolist(),
            random.getstate(),
            torch.is_grad_enabled(),
            torch.is_inference_mode_enabled(),
            getattr(comfy.model_management, "in_training", None),
            modules[0].get_dtype(),
            modules[0].manual_cast_dtype,
            vars(modules[1]).keys(),
            [(len(part._forward_pre_hooks), vars(part).get("activation")) for part in modules[1].modules()],
        )

    # Loading moves weights to their device, which is the host's doing: let it happen first.
    comfy.model_management.load_models_gpu([loaded.model, loaded.clip.patcher], force_full_load=True)
    before = state()
    yield
    assert state() == before
