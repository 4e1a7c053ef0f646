"""Relation-focal sampling when pictures are made: the host's schedule and guidance, weighted by f(t).

f is a function of a noise level's place in the model's own table of them, so it means the same in models with discrete
timesteps and in flow models: there the place is the time before the shift.
"""

from typing import TYPE_CHECKING

import comfy.model_sampling
import comfy.samplers
import torch

from ..errors import ReVersionError
from ..method import focal

if TYPE_CHECKING:
    from comfy.model_patcher import ModelPatcher


def focal_sampling(model: "ModelPatcher", node: str, input_name: str = "model") -> torch.nn.Module:
    """The model's sampling, which has a table of noise levels. Raises a ReVersionError where f(t) has no meaning."""
    sampling = model.get_model_object("model_sampling")
    continuous = isinstance(sampling, comfy.model_sampling.ModelSamplingContinuousEDM)
    if continuous or not hasattr(sampling, "sigmas"):
        kind = next(c for c in type(sampling).__mro__ if c.__module__ == "comfy.model_sampling").__name__
        raise ReVersionError(
            node,
            input_name,
            f"a model with {kind} has no timesteps to focus on",
            "use KSampler for it or load another checkpoint",
        )
    return sampling


def focal_sigmas(sampling: torch.nn.Module, steps: int, alpha: float, denoise: float = 1.0) -> torch.Tensor:
    """Sigmas [steps + 1] whose timesteps lie at the quantiles of f, so that high noise gets more of the steps.

    alpha 0 is the host's "normal" schedule, which ends in the lowest noise level and then 0. Any other leaves that
    level out: f has so few steps at low noise that the one to it would be many times longer than the one before, and
    samplers that extrapolate from earlier steps would overshoot. Like the host's, a denoise under 1 is the end of a
    longer schedule; 0 has no steps at all. sampling: from `focal_sampling`.
    """
    if denoise <= 0:
        return torch.zeros(0)
    total = steps if denoise >= 1 else int(steps / denoise)
    if alpha == 0:
        return comfy.samplers.calculate_sigmas(sampling, "normal", total).cpu()[-(steps + 1) :]
    shares = focal.quantiles(torch.linspace(1, 0, total + 1, dtype=torch.float64)[:-1], alpha)
    sigmas = _sigma(sampling, shares * (len(sampling.sigmas) - 1)).float().cpu()
    return torch.cat([sigmas, torch.zeros(1)])[-(steps + 1) :]


class FocalGuider(comfy.samplers.CFGGuider):
    """Guidance e = e_n + cfg (e_p - e_n) + strength T f(t) (e_r - e_p), with the mean of T f(t) 1.

    e_n, e_p, e_r: the predictions for the negative, the plain and the relation prompt. With strength = cfg and alpha 0
    it is the host's guidance on the relation prompt. Written as the host's guidance on a blend of e_p and e_r, it keeps
    whatever other nodes have patched into that guidance. Under cfg 1, where the host's guidance would weaken that
    blend, e_n moves with it.
    """

    def set_focus(self, strength: float, alpha: float) -> None:
        """strength: of the relation, on the scale of cfg; alpha: of f, 0 for the same strength at all noise levels."""
        self.strength, self.alpha = strength, alpha

    def set_cfg(self, cfg: float) -> None:
        super().set_cfg(cfg)
        self.given_cfg = cfg

    def set_conds(self, relation: list, plain: list, negative: list) -> None:
        """The host's conditioning of the prompt with the relation, of the plain prompt and of the negative one."""
        self.inner_set_conds({"positive": relation, "plain": plain, "negative": negative})

    def predict_noise(
        self,
        x: torch.Tensor,
        timestep: torch.Tensor,
        model_options: dict = {},  # noqa: B006 - the host's own signature
        seed: int | None = None,
    ) -> torch.Tensor:
        relation, plain, negative = (self.conds.get(name) for name in ("positive", "plain", "negative"))
        neutral = self.alpha == 0 and self.strength == self.given_cfg
        if neutral or self.strength == 0:
            only = relation if neutral else plain
            return comfy.samplers.sampling_function(
                self.inner_model, x, timestep, negative, only, self.cfg, model_options=model_options, seed=seed
            )
        predict = model_options.get("sampler_calc_cond_batch_function", _calc_cond_batch)
        share, two_at_a_time = self._weight(timestep) / max(self.cfg, 1), _expects_two(model_options)

        def blended(arguments):
            if two_at_a_time:
                of_relation, of_negative = predict(arguments)
                of_plain, _ = predict({**arguments, "conds": [plain, arguments["conds"][1]]})
            else:
                of_relation, of_negative, of_plain = predict({**arguments, "conds": [*arguments["conds"], plain]})
            if self.cfg < 1:
                of_negative = of_negative + share * (of_relation - of_plain)
            return [torch.lerp(of_plain, of_relation, share), of_negative]

        model_options = {**model_options, "sampler_calc_cond_batch_function": blended}
        return comfy.samplers.sampling_function(
            self.inner_model, x, timestep, negative, relation, self.cfg, model_options=model_options, seed=seed
        )

    def _weight(self, sigma: torch.Tensor) -> float | torch.Tensor:
        """strength T f(t) at a noise level [b]: a number where it is the same at all, else a tensor.

        Where another node sets cfg for a while, the strength goes with it.
        """
        strength = self.strength * (self.cfg / self.given_cfg if self.given_cfg else 1)
        if self.alpha == 0:
            return strength
        sampling = self.inner_model.model_sampling
        t = _timestep(sampling, sigma[0]) / len(sampling.sigmas)
        return (strength * focal.relative_density(t, self.alpha)).float().to(sigma)


def _expects_two(model_options: dict) -> bool:
    """Whether what other nodes have plugged in may know of two prompts only, and tell them by their place."""
    options = model_options.get("transformer_options", {})
    around = any(name in model_options for name in ("sampler_calc_cond_batch_function", "model_function_wrapper"))
    return around or bool(options.get("patches") or options.get("patches_replace"))


def _timestep(sampling: torch.nn.Module, sigma: torch.Tensor) -> torch.Tensor:
    """The place of noise levels in the model's table, float64 in 0 .. T - 1, between two of them by log sigma.

    On the CPU: not every device has float64.
    """
    levels, log_sigma = (values.cpu().double().log() for values in (sampling.sigmas, sigma))
    above = torch.searchsorted(levels, log_sigma).clamp(1, len(levels) - 1)
    share = (log_sigma - levels[above - 1]) / (levels[above] - levels[above - 1])
    return above - 1 + share.clamp(0, 1)


def _sigma(sampling: torch.nn.Module, timesteps: torch.Tensor) -> torch.Tensor:
    """The noise levels at places in the model's table, float64; the inverse of `_timestep`."""
    levels = sampling.sigmas.cpu().double().log()
    below = timesteps.long().clamp(0, len(levels) - 2)
    return torch.lerp(levels[below], levels[below + 1], timesteps - below).exp()


def _calc_cond_batch(arguments: dict) -> list[torch.Tensor]:
    names = ("model", "conds", "input", "sigma", "model_options")
    return comfy.samplers.calc_cond_batch(*(arguments[name] for name in names))
