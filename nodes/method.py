"""The two ideas of the paper as settings: steering and relation-focal sampling."""

from comfy_api.latest import io

from ..reversion_core.errors import ReVersionError, check_choice
from ..reversion_core.method import focal as focal_sampling
from ..reversion_core.method.focal import LAWS, Focal
from ..reversion_core.method.prior import PRIORS
from ..reversion_core.method.steering import Steering
from ..reversion_core.method.words import PREPOSITIONS, basis_words, split_words
from ..reversion_core.report import charts
from ..reversion_core.training.settings import FROM_PRESET
from .limits import check_numbers
from .sockets import FocalSocket, SteeringSocket, as_image, share_input

CATEGORY = "ReVersion/learn"
TIMESTEPS = 1000


class ReVersionSteering(io.ComfyNode):
    NAME = "ReVersion Steering"

    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="ReVersionSteering",
            display_name=cls.NAME,
            category=CATEGORY,
            description="Pulls the relation towards prepositions and away from the words of the entities. Without this "
            "node ReVersion Train does so with the published weight and words; connect it to change them.",
            inputs=[
                io.Float.Input(
                    "weight",
                    default=0.01,
                    min=0.0,
                    max=10.0,
                    step=0.001,
                    round=False,
                    tooltip="How strongly the words pull, beside the pictures. 0 switches it off. Published: 0.01.",
                ),
                io.Float.Input(
                    "temperature",
                    default=0.07,
                    min=0.01,
                    max=1.0,
                    step=0.01,
                    round=False,
                    tooltip="Lower: the nearest words count more. Published: 0.07.",
                ),
                io.Int.Input(
                    "positives",
                    default=4,
                    min=1,
                    max=64,
                    tooltip="How many words of the basis are drawn for each picture of a step. Published: 4.",
                ),
                io.String.Input(
                    "basis",
                    multiline=True,
                    default=" ".join(PREPOSITIONS),
                    tooltip="The words that relations are like. For CLIP each must be one token.",
                ),
                io.String.Input(
                    "extra_negatives",
                    multiline=True,
                    default="",
                    tooltip="More words that the relation must stay away from, such as a colour or style that the "
                    "pictures share. The entities of the captions are there already.",
                ),
                io.Combo.Input(
                    "prior",
                    options=[FROM_PRESET, *PRIORS],
                    default=FROM_PRESET,
                    optional=True,
                    tooltip="How <R> is held to the words of the basis. span: your pictures share a colour, a style or "
                    "a thing that <R> must not learn. pull: as published, for pictures that share nothing but the "
                    "relation. none: not at all, to compare with.",
                ),
                io.Float.Input(
                    "swap",
                    default=0.0,
                    min=0.0,
                    max=10.0,
                    step=0.001,
                    round=False,
                    optional=True,
                    tooltip="How strongly <R> must tell 'A <R> B' from 'B <R> A', for relations that cannot be turned "
                    "round, such as 'riding on'. Each step takes twice as long. 0 switches it off; try 0.01.",
                ),
            ],
            outputs=[SteeringSocket.Output("steering_out", display_name="steering", tooltip="For ReVersion Train.")],
        )

    @classmethod
    def execute(cls, weight, temperature, positives, basis, extra_negatives, prior=FROM_PRESET, swap=0.0):
        check_choice(prior, (FROM_PRESET, *PRIORS), cls.NAME, "prior")
        check_numbers(cls, weight=weight, temperature=temperature, positives=positives, swap=swap)
        words = basis_words(basis)
        if len(words) < positives:
            raise ReVersionError(
                cls.NAME,
                "basis",
                f"it has {len(words)} words and {positives} are to be drawn",
                "add words or draw fewer",
            )
        extra = tuple(dict.fromkeys(split_words(extra_negatives)))
        return io.NodeOutput(Steering(weight, temperature, positives, words, extra, prior, swap))


class ReVersionFocalSampling(io.ComfyNode):
    NAME = "ReVersion Focal Sampling"

    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="ReVersionFocalSampling",
            display_name=cls.NAME,
            category=CATEGORY,
            description="Trains more often at high noise, where a picture decides its layout. ReVersion Train does "
            "this when nothing is plugged in, with the published value, or in flow models (SD 3, Flux and others) with "
            "what gives as much noise; plug this in to change it.",
            inputs=[
                share_input(
                    "alpha",
                    0.5,
                    "0: all noise levels alike, where flow models begin. 1: the highest noise most. "
                    "Published, for SD 1.x: 0.5.",
                ),
                io.Int.Input(
                    "lowest_timestep",
                    default=0,
                    min=0,
                    max=TIMESTEPS - 1,
                    tooltip="Train on no timestep below this one (0 is a clean picture).",
                ),
                io.Int.Input(
                    "highest_timestep",
                    default=TIMESTEPS - 1,
                    min=0,
                    max=TIMESTEPS - 1,
                    tooltip="Train on no timestep above this one (999 is pure noise).",
                ),
                io.Combo.Input(
                    "law",
                    options=list(LAWS),
                    default="focal",
                    optional=True,
                    tooltip="focal: as published. logit-normal: as SD 3 was trained, most often at middle noise, and "
                    "higher with a larger alpha.",
                ),
            ],
            outputs=[
                FocalSocket.Output("focal_out", display_name="focal", tooltip="For ReVersion Train."),
                io.Image.Output("chart", display_name="chart", tooltip="How often each timestep is drawn."),
            ],
        )

    @classmethod
    def execute(cls, alpha, lowest_timestep, highest_timestep, law="focal"):
        check_choice(law, LAWS, cls.NAME, "law")
        check_numbers(cls, alpha=alpha, lowest_timestep=lowest_timestep, highest_timestep=highest_timestep)
        if lowest_timestep > highest_timestep:
            raise ReVersionError(
                cls.NAME,
                "lowest_timestep",
                f"{lowest_timestep} is above the highest, {highest_timestep}",
                "swap the two",
            )
        focal = Focal(alpha, lowest_timestep / TIMESTEPS, (highest_timestep + 1) / TIMESTEPS, law)
        shares = focal_sampling.distribution(TIMESTEPS, focal).tolist()
        chart = charts.line_chart(f"f(t), alpha {alpha:g}", {"share of draws": shares}, "timestep")
        return io.NodeOutput(focal, as_image(chart))
