"""Relation-focal sampling when pictures are made."""

from comfy_api.latest import io

from ..reversion_core import host

CATEGORY = "ReVersion/use"


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
                io.Float.Input(
                    "alpha",
                    default=0.5,
                    min=0.0,
                    max=1.0,
                    step=0.05,
                    round=False,
                    tooltip="0: the host's 'normal' schedule. 1: the most steps at high noise.",
                ),
                io.Float.Input(
                    "denoise",
                    default=1.0,
                    min=0.0,
                    max=1.0,
                    step=0.01,
                    round=False,
                    tooltip="Under 1 for image to image: how much of the picture is made anew.",
                ),
            ],
            outputs=[io.Sigmas.Output("sigmas", tooltip="For SamplerCustomAdvanced.")],
        )

    @classmethod
    def execute(cls, model, steps, alpha, denoise):
        return io.NodeOutput(host.focal_sigmas(host.discrete_sampling(model, cls.NAME), steps, alpha, denoise))


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
                io.Float.Input(
                    "cfg",
                    default=7.5,
                    min=0.1,
                    max=100.0,
                    step=0.1,
                    round=0.01,
                    tooltip="How strongly the plain prompt guides, as in KSampler.",
                ),
                io.Float.Input(
                    "strength",
                    default=7.5,
                    min=0.0,
                    max=100.0,
                    step=0.1,
                    round=0.01,
                    tooltip="How strongly the relation guides. The same as cfg: as if the relation prompt stood alone. "
                    "More: the relation is insisted on, without more of everything else. 0: the plain prompt.",
                ),
                io.Float.Input(
                    "alpha",
                    default=0.5,
                    min=0.0,
                    max=1.0,
                    step=0.05,
                    round=False,
                    tooltip="0: the relation guides alike at all noise levels. 1: most at high noise, hardly at low.",
                ),
            ],
            outputs=[io.Guider.Output("guider", tooltip="For SamplerCustomAdvanced.")],
        )

    @classmethod
    def execute(cls, model, relation, plain, negative, cfg, strength, alpha):
        host.discrete_sampling(model, cls.NAME)
        guider = host.FocalGuider(model)
        guider.set_conds(relation, plain, negative)
        guider.set_cfg(cfg)
        guider.set_focus(strength, alpha)
        return io.NodeOutput(guider)
