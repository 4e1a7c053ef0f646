from comfy_api.latest import io

from ..reversion_core import host
from ..reversion_core.errors import ReVersionError, check_choice
from ..reversion_core.exemplars.augment import AUGMENTATIONS
from ..reversion_core.method.focal import Focal
from ..reversion_core.method.steering import Steering
from ..reversion_core.method.words import PLACEHOLDER, SLOT
from ..reversion_core.report import charts
from ..reversion_core.training import run
from ..reversion_core.training.inputs import TrainingInputs
from ..reversion_core.training.loop import TITLES
from ..reversion_core.training.optimizers import OPTIMIZERS
from ..reversion_core.training.settings import FROM_PRESET, NORMS, PRECISIONS, PRESETS, SCHEDULES, from_preset
from . import places
from .limits import check_numbers
from .progress import TrainingProgress
from .schema import advanced, named
from .sockets import NOTHING, ExemplarsSocket, FocalSocket, RelationSocket, SteeringSocket, as_image, as_images

MEMORY = ("auto", "low")
ADVANCED = (
    *("batch_size", "accumulation", "learning_rate", "schedule", "initial_word", "vectors", "norm", "precision"),
    *("autosave", "resume", "optimizer", "augmentation"),
)
_NUMBERS = ("steps", "batch_size", "accumulation", "learning_rate", "vectors")  # of the settings


def _amount(preset):
    """How much a preset trains, in words."""
    settings = PRESETS[preset]
    return f"{settings.steps} steps of {settings.batch_size * settings.accumulation} pictures"


def _of_presets(name):
    """What the presets have for a setting, in words: "4 in balanced and fast; 2 in paper"."""
    having = {}
    for preset, settings in PRESETS.items():
        having.setdefault(getattr(settings, name), []).append(preset)
    if len(having) == 1:
        return str(next(iter(having)))
    return "; ".join(f"{value} in {_listed(presets)}" for value, presets in having.items())


def _listed(names):
    """Names in words: "a, b and c"."""
    *others, last = names
    return f"{', '.join(others)} and {last}" if others else last


def _settings_inputs():
    """How to learn: everything that changes the result."""
    return [
        io.Combo.Input(
            "preset",
            options=list(PRESETS),
            default="balanced",
            tooltip=f"balanced ({_amount('balanced')}): good relations in reasonable time. fast ({_amount('fast')}): a "
            f"first look. paper ({_amount('paper')}): the published setting. one picture ({_amount('one picture')}): "
            f"for one or two pictures, in {AUGMENTATIONS['views'].count} views each. Whatever is 0 or 'preset' below "
            "comes from here.",
        ),
        io.Int.Input("steps", default=0, min=0, max=100_000, tooltip="Updates of <R>. 0: as the preset says."),
        io.Int.Input(
            "batch_size",
            default=0,
            min=0,
            max=64,
            tooltip=f"Pictures at once; more needs more memory. 0: preset ({_of_presets('batch_size')}).",
        ),
        io.Int.Input(
            "accumulation",
            default=0,
            min=0,
            max=64,
            tooltip="Batches added up for one step: like a larger batch, without its memory. 0: preset "
            f"({_of_presets('accumulation')}).",
        ),
        io.Float.Input(
            "learning_rate",
            default=0.0,
            min=0.0,
            max=1.0,
            step=0.0001,
            round=False,
            tooltip="How far a step moves <R>. Too high and it overshoots. 0: preset "
            f"({_of_presets('learning_rate')}).",
        ),
        io.Combo.Input(
            "schedule",
            options=[FROM_PRESET, *SCHEDULES],
            default=FROM_PRESET,
            tooltip=f"How the learning rate falls over the steps. Preset: {_of_presets('schedule')}.",
        ),
        io.String.Input(
            "initial_word",
            default="and",
            tooltip="The word that <R> starts from: one token, best a word that relates two things.",
        ),
        io.Int.Input(
            "vectors", default=1, min=1, max=8, tooltip="How many tokens <R> takes in a prompt. Published: 1."
        ),
        io.Combo.Input(
            "norm",
            options=[FROM_PRESET, *NORMS],
            default=FROM_PRESET,
            tooltip="free: the length of <R> may grow, as published. vocabulary: it is kept like an ordinary "
            "word's, so that <R> does not overpower the rest of a prompt. Preset: "
            f"{_of_presets('norm')}.",
        ),
        io.Combo.Input(
            "precision",
            options=[FROM_PRESET, *PRECISIONS],
            default=FROM_PRESET,
            tooltip="auto: compute as ComfyUI loaded the model. fp32: exact and slower, needs more memory. bf16: "
            "about twice as fast on a recent processor without a graphics card. <R> itself is always fp32. "
            f"Preset: {_of_presets('precision')}.",
        ),
        io.Int.Input(
            "training_seed",
            default=0,
            min=0,
            max=2**63 - 1,
            control_after_generate=False,
            tooltip="The same pictures, settings and seed give the same relation. Change it to learn another.",
        ),
    ]


def _run_inputs():
    """What is shown and kept on the way."""
    return [
        io.Int.Input(
            "previews",
            default=0,
            min=0,
            max=10_000,
            tooltip="Draw a picture with <R> every so many steps, always from the same noise, and at the end. 0: only "
            "at the end.",
        ),
        io.String.Input(
            "preview_prompt",
            default="",
            tooltip="The prompt of the previews, with <R> in it. Empty: the first caption.",
        ),
        io.Int.Input(
            "autosave",
            default=50,
            min=0,
            max=10_000,
            tooltip="Save every so many steps, so that not even a crash loses more. 0: only at the end, also "
            "after a cancel.",
        ),
        io.Boolean.Input(
            "resume",
            default=True,
            tooltip="Go on where an equal training was stopped or, with the schedule 'constant', where one with fewer "
            "steps ended. A finished one is taken from disk either way: change training_seed to learn another.",
        ),
    ]


class ReVersionTrain(io.ComfyNode):
    NAME = "ReVersion Train"

    @classmethod
    def define_schema(cls):
        schema = io.Schema(
            node_id="ReVersionTrain",
            **named(cls.NAME, "embedding training", "textual inversion", "train embedding"),
            category="ReVersion/learn",
            description="Learns the relation that the exemplars share as one word, <R>. The model is not changed.",
            hidden=[io.Hidden.unique_id],
            inputs=[
                io.Model.Input(
                    "model",
                    tooltip="The checkpoint to learn with. It comes out exactly as it went in. No family was run on "
                    "a real checkpoint yet; those beyond SD 1.x are experimental.",
                ),
                io.Clip.Input("clip", tooltip="The checkpoint's CLIP: <R> is a word of this text encoder."),
                io.Vae.Input("vae", tooltip="The checkpoint's VAE; it encodes each picture once."),
                ExemplarsSocket.Input("exemplars", tooltip="From ReVersion Load Exemplars or ReVersion Exemplars."),
                *_settings_inputs(),
                *_run_inputs(),
                SteeringSocket.Input(
                    "steering",
                    optional=True,
                    tooltip="ReVersion Steering. Without it: the published weight and words, and the preset's prior "
                    f"({_of_presets('prior')}).",
                ),
                FocalSocket.Input(
                    "focal",
                    optional=True,
                    tooltip="ReVersion Focal Sampling. Without it the published value is used, and for flow models (SD "
                    "3, Flux and others) what gives the same mean noise: 0 for most.",
                ),
                io.Combo.Input(
                    "memory",
                    options=list(MEMORY),
                    default=MEMORY[0],
                    optional=True,
                    tooltip="auto: less memory, and more time, only where there is too little of it. low: as little as "
                    "possible from the start, with one picture at a time and gradient checkpointing. The relation is "
                    "the same up to rounding; changing it begins the training anew.",
                ),
                io.Combo.Input(
                    "optimizer",
                    options=[FROM_PRESET, *OPTIMIZERS],
                    default=FROM_PRESET,
                    optional=True,
                    tooltip="adamw: as published. tangent: <R> turns and keeps its length. Preset: "
                    f"{_of_presets('optimizer')}.",
                ),
                io.Combo.Input(
                    "augmentation",
                    options=[FROM_PRESET, *AUGMENTATIONS],
                    default=FROM_PRESET,
                    optional=True,
                    tooltip="none: each picture as it is. views: each picture in "
                    f"{AUGMENTATIONS['views'].count} views, cut and coloured a little differently; never mirrored or "
                    "turned, and in its own colours where a caption names one. Preset: "
                    f"{_of_presets('augmentation')}.",
                ),
            ],
            outputs=[
                RelationSocket.Output(
                    "relation",
                    display_name="relation",
                    tooltip="For ReVersion Save Relation and ReVersion Apply Relation.",
                ),
                io.LossMap.Output("loss_map", display_name="loss_map", tooltip="For Plot Loss Graph."),
                io.Image.Output(
                    "report", display_name="report", tooltip="Loss, norm and similarity to prepositions over the steps."
                ),
                io.Image.Output(
                    "samples",
                    display_name="samples",
                    tooltip="The previews, in order.",
                ),
            ],
        )
        return advanced(schema, ADVANCED)

    @classmethod
    def execute(
        cls,
        model,
        clip,
        vae,
        exemplars,
        preset,
        training_seed,
        previews=0,
        preview_prompt="",
        autosave=50,
        resume=True,
        steering=None,
        focal=None,
        memory=MEMORY[0],
        **chosen,
    ):
        """chosen: the other inputs of `_settings_inputs`, by the names that TrainSettings has for them."""
        check_choice(memory, MEMORY, cls.NAME, "memory")
        numbers = {name: chosen[name] for name in _NUMBERS}
        check_numbers(cls, training_seed=training_seed, previews=previews, autosave=autosave, **numbers)
        chosen["initial_word"] = chosen["initial_word"].strip().lower()
        settings = from_preset(preset, cls.NAME, seed=training_seed, **chosen)
        if not settings.initial_word:
            raise ReVersionError(cls.NAME, "initial_word", "it is empty", "use a word such as 'and'")
        host.family_of(model, cls.NAME)
        focal = focal or Focal(alpha=host.usual_alpha(model))
        inputs = TrainingInputs(exemplars, settings, steering or Steering(), focal)
        first = inputs.captions[0]
        prompt = preview_prompt.strip() or first.replace(SLOT, PLACEHOLDER)
        if PLACEHOLDER not in prompt:
            raise ReVersionError(cls.NAME, "preview_prompt", f"it has no {PLACEHOLDER}", "write 'cat <R> stone'")
        progress = TrainingProgress(cls, settings.steps)
        options = run.RunOptions(
            folder=places.runs_folder(),
            label=exemplars.label or first.replace(SLOT, "R"),
            save_every=autosave,
            resume=resume,
            preview_every=previews,
            prompt=prompt,
            low_memory=memory == "low",
            on_message=progress.tell,
        )
        learned = run.learn_relation(model, clip, vae, inputs, options, progress, cls.NAME)
        report = as_image(charts.training_report(learned.history, TITLES))
        loss_map = {"loss": [record["loss"] for record in learned.history]}
        samples = as_images(learned.previews) if learned.previews else NOTHING
        return io.NodeOutput(learned.relation, loss_map, report, samples, ui=progress.finish(learned))
