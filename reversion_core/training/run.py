"""One training from the host's sockets to a Relation: checks first, then the work, and nothing learned is lost."""

import dataclasses
import datetime
import logging

import torch

from .. import host
from ..errors import MachineError, ReVersionError
from ..exemplars.augment import AUGMENTATIONS
from ..method.words import PLACEHOLDER
from ..store import relation, runs
from ..version import VERSION
from .inputs import TrainingInputs
from .loop import Learner
from .memory_use import MemoryUse
from .options import RunOptions, TrainingResult
from .prepare import check, training_data
from .resume import go_on
from .settings import PRECISIONS
from .step import NotFiniteError
from .verdict import judge
from .views import known_views

# Part of the run key. Raise it when a code change alters results, so that finished runs of older code are not reused.
RECIPE = "2"


def learn_relation(model, clip, vae, inputs: TrainingInputs, options: RunOptions, on_progress, node: str):
    """Learn a relation, or return the finished one of an equal earlier run: a TrainingResult.

    on_progress(learner, previews) is called before the first and after every update, with None at first; it may raise
    to stop. However the run ends, what was learned up to then is in a folder of `options.folder`.
    """
    checked = check(model, clip, vae, inputs, node)
    identity = host.model_identity(model, clip, vae)
    tokens = {"caption tokens": host.Fingerprinter().fingerprint(checked.tokens)}
    parts = inputs.key_parts(checked.size) | tokens | identity.parts
    parts |= {"memory": "low" if options.low_memory else "auto", "recipe": RECIPE}
    key = runs.RunKey(parts, identity.unidentified)
    folder = runs.RunFolder(options.folder, key, inputs.settings.steps, options.label)
    finished = folder.finished()
    unjudged = finished is not None and folder.lacks_verdict(finished[0])
    options = dataclasses.replace(options, resume=options.resume or unjudged)
    training = _Training((model, clip, vae), checked, inputs, options, folder, node)
    for note in checked.notes:
        training.tell(note)
    if finished is not None and not unjudged:
        training.tell(f"learned before; taken from {folder.path}. Change training_seed to learn another")
        return training.result_of(*finished)
    if identity.unidentified:
        unknown = ", ".join(identity.unidentified)
        training.tell(f"the next Run will learn this again, since {unknown} cannot be recognised when it comes back")
    folder.check_writable(node)
    on_progress(None, [])
    return training.run(on_progress)


class _Training:
    """A training under way, from the first update or from where an equal one was stopped."""

    def __init__(self, models, checked, inputs, options, folder, node):
        self.model, self.clip, self.vae = models
        self.original_patchers = self.model, self.clip.patcher
        self.checked, self.inputs, self.options, self.folder, self.node = checked, inputs, options, folder, node
        self.preview_steps = _preview_steps(inputs.settings.steps, options.preview_every)
        self.made_with = {"pack": VERSION, **host.provenance(self.model, self.clip)}
        self.learner, self.initial, self.previews, self.messages = None, None, [], []
        self.verdict, self.judged = None, False
        self.kept, self.failed_to_save = None, False  # kept: (step, whether judged, folder) of what is on the disk
        can_take_turns = host.can_take_turns(self.model, self.clip)
        self.memory = MemoryUse(options.low_memory, can_take_turns, self.tell)

    def tell(self, text):
        """Say something to the artist, and in the log."""
        logging.info("ReVersion: %s", text)
        self.messages.append(text)
        self.options.on_message(text)

    def run(self, on_progress):
        """Learn to the last step. Returns a TrainingResult."""
        steps = self.inputs.settings.steps
        try:
            with self._explained_out_of_memory():
                latents = self._latents()
                self._load()
            while self.learner is None or self.learner.step < steps:
                if not self._learn_on(latents, on_progress):
                    self._use_less_memory()
                elif self.preview_steps and self.learner.step in self.preview_steps:
                    self._preview(self.learner.vectors, self.learner.step)
                    if self.learner.step < steps:
                        with self._explained_out_of_memory():
                            self._load()
                    on_progress(self.learner, self.previews)
        except NotFiniteError as error:
            raise ReVersionError(
                self.node, "learning_rate", f"{error} ({self._save()})", "lower it or use precision fp32"
            ) from error
        finally:
            try:
                if self.learner is not None and self.learner.step:
                    said = self._save()
                    if self.learner.step < steps:
                        self.tell(f"stopped; {said}")
                    self.folder.prune()
            finally:  # after what was learned is safe: a device that failed may fail again
                host.unload_twins((self.model, self.clip.patcher), self.original_patchers)
        return TrainingResult(self._relation(), self.learner.history, self.previews, self.messages)

    def _load(self):
        """Load the models together or, where they do not fit, find that they are to take turns."""
        size = self.model.model_size() + self.clip.patcher.model_size()
        if self.memory.may_take_turns and not host.fit_together(self.model.load_device, size):
            self.memory.take_turns("the model and its text encoder are larger than the device's memory")
        try:
            self.model, self.clip = host.load_for_training(self.model, self.clip, self.node, self.memory.in_turns)
        except Exception as error:
            if not (self.memory.may_take_turns and host.is_out_of_memory(error)):
                raise
            host.empty_cache()
            self.memory.take_turns("out of memory")
            self._load()

    def _latents(self):
        """Mean and std of the posterior of each view. Raises a ReVersionError where one is not finite."""
        pictures = map(torch.from_numpy, self.inputs.each_view(self.checked.size))
        mean, std, tiled = host.scaled_posterior(self.model, self.vae, pictures)
        if not (mean.isfinite().all() and std.isfinite().all()):
            raise ReVersionError(
                self.node,
                "vae",
                "what it makes of the exemplars are no finite numbers",
                "use the VAE of this model family, or start ComfyUI with --fp32-vae",
            )
        if tiled:
            self.tell(f"{len(tiled)} of {len(mean)} pictures were encoded in tiles, for want of memory: less exactly")
            self.made_with["tiled"] = len(tiled)
        return mean, std

    def _learn_on(self, latents, on_progress):
        """Update up to the next preview or the last step; False where the memory did not suffice."""
        dtype, stage = PRECISIONS[self.inputs.settings.precision], self.memory.stage
        recompute, in_turns = stage
        try:
            turns = self.node if in_turns else ""
            with host.borrowed_model(self.model, self.clip, self.checked.tokens, dtype, recompute, turns) as model:
                if self.learner is None:
                    self._start(model, latents)
                if self.memory.stage == stage:
                    self._update(model, on_progress)
        except Exception as error:
            if not host.is_out_of_memory(error):
                raise
            return False
        # Where it turned out that only another stage fits: anew, in it.
        return self.memory.stage == stage or self._learn_on(latents, on_progress)

    def _update(self, model, on_progress):
        """The updates up to the next preview or the last step, and after that the verdict."""
        steps, learner = self.inputs.settings.steps, self.learner
        learner.model = model
        stop = next((step for step in self.preview_steps if step > learner.step), steps)
        for step in range(learner.step + 1, stop + 1):
            learner.update()
            if self.options.save_every and step % self.options.save_every == 0:
                self._save()
            on_progress(learner, self.previews)
        if learner.step == steps:
            self._judge()

    def _judge(self):
        """Say whether it worked. A comparison that fails is told and ends nothing: what was learned is learned."""
        try:
            self.verdict = judge(self.learner, self.initial, self.options.on_message)
        except Exception as error:
            if host.is_interruption(error):
                raise
            host.empty_cache()
            self.tell(f"<R> could not be compared with words ({str(error)[:200]})")
        self.judged = True
        if self.verdict is not None:
            self.tell(str(self.verdict))

    def _start(self, model, latents):
        """Make the learner; take up the state of an equal run that was stopped, or say what made this one new."""
        settings = self.inputs.settings
        forwards = 2 if self.inputs.steering.swap else 1
        plan = host.logged_memory_plan(
            model, latents[0].shape[1:], settings.batch_size, PRECISIONS[settings.precision], forwards
        )
        stage = self.memory.stage
        self.memory.choose(plan)
        if self.memory.stage != stage:
            return
        word = [settings.initial_word.strip()] * settings.vectors
        initial = {key: host.word_rows(self.clip, key, word).cpu() for key in host.encoder_keys(self.clip)}
        host.check_conditions(model, latents[0].shape[1:], self.node)
        host.check_gradients(model, initial, latents[0][:1].clone(), self.node)
        learner = Learner(model, training_data(self.clip, self.inputs, *latents), self.inputs, initial)
        self.initial = initial
        self._leave_out_unknown_views(learner)
        if not (self.options.resume and self._resume(learner)) and (changed := self.folder.changes()):
            self.tell(f"learned from the beginning; not as in the training before: {changed}")
        self.memory.begin(learner, plan)
        self.learner = learner

    def _leave_out_unknown_views(self, learner):
        """Train on what the model knows: a view that it does not would teach R what the model lacks."""
        settings, data = self.inputs.settings, learner.data
        count = AUGMENTATIONS[settings.augmentation].count
        known = known_views(learner.model, data, count, learner.cdf, learner.vectors, settings.seed)
        if left_out := len(data.captions) - len(known):
            learner.train_on(known)
            self.tell(f"{left_out} of {len(data.captions)} views are left out: this model knows no such pictures")

    def _resume(self, learner):
        """Go on from an equal training, with the previews that it drew; False where there is none."""
        if (source := go_on(learner, self.folder, self.made_with, self.tell)) is None:
            return False
        self._take_previews([step for step in self.preview_steps if step <= learner.step], source)
        return True

    def _use_less_memory(self):
        """Go on with less memory. Raises a ReVersionError where that is not possible."""
        host.empty_cache()
        if not self.memory.reduce(self.learner, lambda: host.unload_others(self.model, self.clip.patcher)):
            raise self._too_little_memory()

    def _explained_out_of_memory(self):
        """A context in which running out of memory ends in a sentence."""
        return host.out_of_memory_as(self._too_little_memory)

    def _too_little_memory(self):
        return MachineError(
            self.node,
            "exemplars",
            f"there is not enough memory to learn from even one picture at a time ({self._save()})",
            "set a smaller size where they are loaded, close other programs or use precision auto",
        )

    def result_of(self, learned, history):
        """The result of an equal run that was finished: its previews, or one drawn now where they were not kept."""
        if verdict := learned.detail("verdict").get("text"):
            self.tell(verdict)
        steps = list(self.preview_steps)
        self._take_previews(steps)
        if steps and not self.previews:
            self._preview(learned.vectors, steps[-1])
        return TrainingResult(learned, history, self.previews, self.messages)

    def _take_previews(self, steps, source=None):
        """Take the previews of these steps that are kept; say how many, but of the training's last, are not there."""
        missing = 0
        for step in steps:
            if kept := self.folder.previews([step], self.options.prompt, source):
                self.previews += kept
                self.preview_steps.remove(step)
            else:
                missing += step < self.inputs.settings.steps
        if missing:
            self.tell(f"{missing} previews of earlier steps are not there; another training_seed draws them")

    def _preview(self, vectors, step):
        """One more preview; outside the borrowing, so that the host may move its models about to decode it.

        A preview that fails is told and ends nothing.
        """
        prompt, size, seed = self.options.prompt, self.checked.size, self.inputs.settings.seed
        try:
            picture = host.draw_preview(self.model, self.clip, self.vae, vectors, prompt, size, seed)
        except Exception as error:
            if host.is_interruption(error):
                raise
            self.tell(f"the preview of step {step} could not be drawn ({str(error)[:200]}); the training goes on")
            return
        self.previews.append(picture)
        self.folder.keep_preview(step, prompt, picture)

    def _save(self):
        """Keep what was learned, where that is not done; what to say of it to the artist."""
        step = self.learner.step if self.learner else 0
        if not step:
            return "nothing was learned yet"
        state = step, self.judged
        if self.kept is None or self.kept[:2] != state:
            learned, failed_before = self._relation(), self.failed_to_save
            saved = self.folder.keep(self.learner.state(), self.learner.history, learned, self.made_with)
            self.failed_to_save = not saved
            if saved:
                self.kept = *state, self.folder.path
            elif not failed_before:
                self.tell(f"what was learned cannot be saved in {self.folder.path}: free space on the disk")
        if self.kept is None:
            return "the relation could not be saved"
        step, _, folder = self.kept
        return f"the relation of step {step} is kept in {folder}"

    def _relation(self):
        date = datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")
        inputs = self.inputs
        details = {
            "base_family": self.checked.family,
            "settings": dataclasses.asdict(inputs.settings),
            "steering": dataclasses.asdict(inputs.steering),
            "prior": inputs.prior,
            "focal": dataclasses.asdict(inputs.focal),
            "captions": inputs.exemplars.captions,
            "training_size": self.checked.size,
            "steps_done": self.learner.step,
            "final": self.learner.history[-1],
            "made_with": self.made_with,
            "key": self.folder.key.text,
        }
        if self.verdict is not None:
            said = {"text": str(self.verdict), "details": self.verdict.details}
            details["verdict"] = dataclasses.asdict(self.verdict) | said
        elif self.judged:
            details["verdict"] = None
        metadata = relation.metadata_for("relation", self.checked.family, date, PLACEHOLDER, details)
        return relation.Relation(self.learner.vectors, metadata)


def _preview_steps(steps, every):
    """The updates after which a preview is drawn: every so many, and the last; none for None."""
    if every is None:
        return []
    return [*range(every, steps, every), steps] if every else [steps]
