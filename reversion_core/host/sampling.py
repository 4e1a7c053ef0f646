"""Relation-focal sampling when pictures are made: the host's schedule and guidance, weighted by f(t)."""

import comfy.samplers
import torch

from ..method import focal


def focal_sigmas(sampling, steps, alpha, denoise=1.0):
    """Sigmas [steps + 1] whose timesteps lie at the quantiles of f, so that high noise gets more of the steps.

    alpha 0 is the host's "normal" schedule. Like the host's, a denoise under 1 is the end of a longer schedule; 0 has
    no steps at all. sampling: the model's ModelSamplingDiscrete.
    """
    if denoise <= 0:
        return torch.zeros(0)
    total = steps if denoise >= 1 else int(steps / denoise)
    sigmas = comfy.samplers.calculate_sigmas(sampling, "normal", total).cpu()
    if alpha > 0 and total > 1:
        start, end = float(sampling.timestep(sampling.sigma_max)), float(sampling.timestep(sampling.sigma_min))
        timesteps = focal.quantiles(torch.linspace(1, 0, total, dtype=torch.float64), alpha) * (start - end) + end
        sigmas[:total] = sampling.sigma(timesteps.float()).cpu()
    return sigmas[-(steps + 1) :]


class FocalGuider(comfy.samplers.CFGGuider):
    """Guidance e = e_n + cfg (e_p - e_n) + strength T f(t) (e_r - e_p), with the mean of T f(t) 1.

    e_n, e_p, e_r: the predictions for the negative, the plain and the relation prompt. With strength = cfg and alpha 0
    it is the host's guidance on the relation prompt. Written as the host's guidance on a blend of e_p and e_r, it keeps
    whatever other nodes have patched into that guidance.
    """

    def set_focus(self, strength, alpha):
        self.strength, self.alpha = strength, alpha

    def set_conds(self, relation, plain, negative):
        self.inner_set_conds({"positive": relation, "plain": plain, "negative": negative})

    def predict_noise(self, x, timestep, model_options={}, seed=None):  # noqa: B006 - the host's own signature
        relation, plain, negative = (self.conds.get(name) for name in ("positive", "plain", "negative"))
        share = self._share(timestep)
        if isinstance(share, float) and share in (0.0, 1.0):
            only = relation if share else plain
            return comfy.samplers.sampling_function(
                self.inner_model, x, timestep, negative, only, self.cfg, model_options=model_options, seed=seed
            )
        predict = model_options.get("sampler_calc_cond_batch_function", _calc_cond_batch)

        def blended(arguments):
            of_relation, of_negative, of_plain = predict({**arguments, "conds": [*arguments["conds"], plain]})
            return [torch.lerp(of_plain, of_relation, share), of_negative]

        model_options = {**model_options, "sampler_calc_cond_batch_function": blended}
        return comfy.samplers.sampling_function(
            self.inner_model, x, timestep, negative, relation, self.cfg, model_options=model_options, seed=seed
        )

    def _share(self, sigma):
        """strength T f(t) / cfg at a noise level [b]: a number where it is the same at all, else a tensor."""
        share = self.strength / self.cfg
        if self.alpha == 0 or share == 0:
            return share
        sampling = self.inner_model.model_sampling
        t = sampling.timestep(sigma[0]) / len(sampling.sigmas)
        return share * focal.relative_density(t, self.alpha)


def _calc_cond_batch(arguments):
    names = ("model", "conds", "input", "sigma", "model_options")
    return comfy.samplers.calc_cond_batch(*(arguments[name] for name in names))
