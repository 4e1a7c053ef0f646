"""A training run in this process, and what may be looked at around it."""

import hashlib

import torch

PREDICTIONS = ("eps", "v")
CAPTIONS = ["cat {} stone", "a small red dog {} table"]


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


def with_prediction(model, prediction):
    """A clone of the host's model that is sampled as an EPS or V model, by the host's own patch."""
    import comfy.model_sampling

    clone = model.clone()
    if prediction == "v":

        class Sampling(comfy.model_sampling.ModelSamplingDiscrete, comfy.model_sampling.V_PREDICTION):
            pass

        clone.add_object_patch("model_sampling", Sampling(model.model.model_config))
    return clone


def short_training(core, exemplars, **settings):
    settings = core.settings.TrainSettings(**{"batch_size": 2, "accumulation": 2, "norm": "free", **settings})
    # A steering weight of 1 makes both losses count in the comparison.
    return core.inputs.TrainingInputs(exemplars, settings, core.steering.Steering(weight=1.0), core.focal.Focal(0.5))


def draws(given, count=1):
    generator = torch.Generator().manual_seed(3)
    x0, noise = torch.randn(2, count, *given.latents, generator=generator)
    return x0, noise


def relation_of(core, clip, vectors=1):
    generator = torch.Generator().manual_seed(0)
    rows = {key: core.host.word_rows(clip, key, ["and"]) for key in core.host.encoder_keys(clip)}
    return {
        key: row + 0.1 * row.norm() * torch.randn(vectors, row.shape[1], generator=generator) / row.shape[1] ** 0.5
        for key, row in rows.items()
    }


def weighted_error(model, given, relation, captions=(0,)):
    """A linear function of the error, in double precision: its gradient is as large as can be."""
    x0, noise = draws(given, len(captions))
    timesteps = torch.tensor([int(0.6 * model.timesteps) - 7 * i for i in range(len(captions))])
    error = model.prediction_error(x0, noise, timesteps, model.encode(list(captions), relation))
    weights = torch.randn(error.shape, generator=torch.Generator().manual_seed(9))
    return (error.double() * weights.double()).sum()
