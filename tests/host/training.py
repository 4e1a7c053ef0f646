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


def learn(core, loaded, drawn, tmp_path, on_progress=lambda learner, previews: None, keep=(), **settings):
    """keep: what differs in the Keeping."""
    settings = core.settings.TrainSettings(**{"steps": 2, "batch_size": 2, "accumulation": 1, **settings})
    task = core.run.Task(drawn, settings, core.steering.Steering(), core.focal.Focal())
    keeping = core.run.Keeping(tmp_path / "kept", tmp_path / "logs", **dict(keep))
    with torch.inference_mode():
        return core.run.learn_relation(loaded.model, loaded.clip, loaded.vae, task, keeping, on_progress, "Train")


class Stop(BaseException):
    """Stands for the host's interruption, which is a BaseException in current versions."""


def stop_at(step):
    def on_progress(learner, previews):
        if learner and learner.step == step:
            raise Stop

    return on_progress
