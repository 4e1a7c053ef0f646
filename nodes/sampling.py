"""Relation-focal sampling when pictures are made."""

from comfy_api.latest import io

from ..reversion_core import host
from .limits import check_numbers
from .sockets import share_input

CATEGORY = "ReVersion/use"


def _scale_input(name, default, lowest, tooltip):
    """A guidance scale, as the host's samplers have them."""
    return io.Float.Input(name, default=default, min=lowest, max=100.0, step=0.1, round=0.01, tooltip=tooltip)


class ReVersionFocalScheduler(io.ComfyNode):
    NAME = "ReVersion Focal Scheduler"

    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="ReVersionFocalScheduler",
            display_name=cls.NAME,
            category=CATEGORY,
            description="Gives more of the sampling steps to high noise, where a picture decides how things relate. "
            "For SamplerCustomAdvanced.",
            inputs=[
                io.Model.Input("model", tooltip="The model that will sample: its noise levels are used."),
                io.Int.Input("steps", default=20, min=1, max=10000, tooltip="Sampling steps in all."),
                share_input("alpha", 0.0, "0: ComfyUI's 'normal' schedule. 1: the most steps at high noise."),
                share_input(
                    "denoise", 1.0, "Under 1 for image to image: how much of the picture is made anew.", step=0.01
                ),
            ],
            outputs=[io.Sigmas.Output("sigmas", display_name="sigmas", tooltip="For SamplerCustomAdvanced.")],
        )

    @classmethod
    def execute(cls, model, steps, alpha, denoise):
        check_numbers(cls, steps=steps, alpha=alpha, denoise=denoise)
        return io.NodeOutput(host.focal_sigmas(host.focal_sampling(model, cls.NAME), steps, alpha, denoise))


class ReVersionFocalGuider(io.ComfyNode):
    NAME = "ReVersion Focal Guider"

    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="ReVersionFocalGuider",
            display_name=cls.NAME,
            category=CATEGORY,
            description="Guides a picture by a plain prompt, and beside it by what the relation adds to that prompt: "
            "more of it at high noise, where layout is decided. For SamplerCustomAdvanced.",
            inputs=[
                io.Model.Input("model", tooltip="The model that will sample."),
                io.Conditioning.Input("relation", tooltip="The prompt with the relation: 'cat <R> stone'."),
                io.Conditioning.Input("plain", tooltip="The same prompt with a plain word: 'cat and stone'."),
                io.Conditioning.Input("negative", tooltip="What the picture should not be; may be an empty prompt."),
                _scale_input("cfg", 7.5, 0.0, "How strongly the plain prompt guides, as in KSampler."),
                _scale_input(
                    "strength",
                    11.0,
                    0.0,
                    "How strongly the relation guides. The same as cfg: as if the relation prompt stood alone. "
                    "More: the relation is insisted on, without more of everything else. 0: the plain prompt.",
                ),
                share_input(
                    "alpha",
                    0.5,
                    "0: the relation guides alike at all noise levels. 1: most at high noise, hardly at low.",
                ),
            ],
            outputs=[io.Guider.Output("guider", display_name="guider", tooltip="For SamplerCustomAdvanced.")],
        )

    @classmethod
    def execute(cls, model, relation, plain, negative, cfg, strength, alpha):
        check_numbers(cls, cfg=cfg, strength=strength, alpha=alpha)
        host.focal_sampling(model, cls.NAME)
        guider = host.FocalGuider(model)
        guider.set_conds(relation, plain, negative)
        guider.set_cfg(cfg)
        guider.set_focus(strength, alpha)
        return io.NodeOutput(guider)
