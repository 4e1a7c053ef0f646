"""A training run in this process, and what may be looked at around it."""

import hashlib

import torch


def digest(*modules):
    """Hash of every byte of every weight."""
    result = hashlib.sha256()
    for module in modules:
        for name, tensor in sorted(module.state_dict().items()):
            result.update(name.encode() + tensor.contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return result.hexdigest()


def learn(core, loaded, drawn, tmp_path, on_progress=lambda learner, previews: None, keep=(), steering=(), **settings):
    """keep: what differs in the RunOptions; steering: in the Steering."""
    settings = core.settings.TrainSettings(**{"steps": 2, "batch_size": 2, "accumulation": 1, **settings})
    inputs = core.inputs.TrainingInputs(drawn, settings, core.steering.Steering(**dict(steering)), core.focal.Focal())
    options = core.run.RunOptions(tmp_path / "runs", **dict(keep))
    with torch.inference_mode():
        return core.run.learn_relation(loaded.model, loaded.clip, loaded.vae, inputs, options, on_progress, "Train")


class Stop(BaseException):
    """Stands for the host's interruption, which is a BaseException in current versions."""


def stop_at(step):
    def on_progress(learner, previews):
        if learner and learner.step == step:
            raise Stop

    return on_progress
