"""One training run from the host's sockets to a Relation: checks first, then the work, and nothing learned is lost."""

import dataclasses
import datetime
import hashlib
import json
import logging

import torch

from .. import host
from ..errors import ReVersionError
from ..method.words import PLACEHOLDER, entity_words, swapped
from ..store import relation
from ..store import runs as autosave
from . import loop as trainer


@dataclasses.dataclass(frozen=True, eq=False)
class Task:
    """Everything a run depends on but the model: exemplars and settings."""

    exemplars: object
    settings: object
    steering: object
    focal: object

    @property
    def captions(self):
        """The distinct caption templates, in order."""
        return tuple(dict.fromkeys(c for of_one in self.exemplars.captions for c in of_one))

    @property
    def prompts(self):
        """The caption templates to encode: the distinct ones and, where they are asked for, their swapped forms."""
        return self.captions + (tuple(map(swapped, self.captions)) if self.settings.swap_weight else ())

    def parts(self, side):
        """Name of an input -> text that changes with it, for all but the number of steps."""
        values = {
            f.name.replace("_", " "): getattr(given, f.name)
            for given in (self.settings, self.steering, self.focal)
            for f in dataclasses.fields(given)
        }
        del values["steps"]
        values |= {"training size": side, "captions": self.exemplars.captions}
        pictures = hashlib.sha256()
        for picture in self.exemplars.each_fitted(side):
            pictures.update(picture.tobytes())
        return {name: str(value) for name, value in values.items()} | {"pictures": pictures.hexdigest()}


def check(model, clip, vae, task, node):
    """Refuse what cannot work before anything is loaded or computed. Returns (family, side, caption windows)."""
    family, native = host.check_pair(model, clip, node)
    if vae is None:
        raise ReVersionError(node, "vae", "the checkpoint has no VAE", "load one with Load VAE")
    keys = host.encoder_keys(clip)
    initial = task.settings.initial_word.strip()
    for key in keys:
        if len(host.token_ids(clip, key, initial)) != 1:
            raise ReVersionError(
                node, "initial_word", f"'{initial}' is not one token of the text encoder", "use a word such as 'and'"
            )
        several = [word for word in task.steering.basis if len(host.token_ids(clip, key, word)) != 1]
        if several:
            raise ReVersionError(
                node,
                "steering",
                f"'{several[0]}' of the word basis is not one token",
                "take it out of ReVersion Steering",
            )
    windows = host.caption_windows(clip, task.prompts, task.settings.vectors, node)
    return family, task.exemplars.training_size(native), windows


def build_problem(clip, task, mean, std):
    """The trainer's Problem; call it inside `host.borrowing`, so that its tensors can take part in autograd."""
    captions = task.captions
    number = {caption: i for i, caption in enumerate(captions)}
    words_of = [entity_words([caption], task.steering.basis, task.settings.initial_word) for caption in captions]
    extra = task.steering.extra_negatives
    words = tuple(dict.fromkeys(word for of_one in (*words_of, extra) for word in of_one))
    word_number = {word: i for i, word in enumerate(words)}
    keys = host.encoder_keys(clip)
    return trainer.Problem(
        mean=mean.clone(),
        std=std.clone(),
        captions=tuple(tuple(number[c] for c in of_one) for of_one in task.exemplars.captions),
        negatives=tuple(tuple(word_number[w] for w in of_one) for of_one in words_of),
        basis_rows={key: host.word_rows(clip, key, task.steering.basis).cpu() for key in keys},
        negative_rows={key: host.word_rows(clip, key, words).cpu() for key in keys},
        always_negative=tuple(word_number[w] for w in extra),
        swapped=tuple(range(len(captions), len(task.prompts))),
    )


@dataclasses.dataclass(frozen=True)
class Keeping:
    """What a run does beside learning: where it is kept, how often, and which pictures it draws on the way.

    every, previews: updates between two saves and two preview pictures, 0 for none but the last save; resume: go on
    from an equal run that was stopped; prompt: of the previews, with `<R>`; low_memory: as little of it as possible
    from the start.
    """

    folder: object
    log_folder: object
    every: int = 0
    resume: bool = True
    previews: int = 0
    prompt: str = ""
    low_memory: bool = False


@dataclasses.dataclass(eq=False)
class Learned:
    """What came out: the Relation, a record for each update, and the previews: uint8 [h, w, 3] each."""

    relation: relation.Relation
    history: list
    previews: list


def learn_relation(model, clip, vae, task, keeping, on_progress, node):
    """Learn a relation, or return the finished one of an equal earlier run.

    on_progress(learner, previews) is called before the first and after every update, with None at first; it may raise
    to stop. However the run ends, what was learned up to then is in `keeping.folder`. Returns a Learned.
    """
    family, side, windows = check(model, clip, vae, task, node)
    on_progress(None, [])
    mean, std = host.scaled_posterior(model, vae, map(torch.from_numpy, task.exemplars.each_fitted(side)))
    model, clip = host.load_for_training(model, clip)
    base = host.fingerprint(model.model.diffusion_model, clip.cond_stage_model)
    parts = task.parts(side) | {"model": base, "clip skip": str(clip.layer_idx)}
    parts["latents"] = _hash(mean.numpy().tobytes())
    key = _hash(json.dumps(parts).encode())
    saved = autosave.Autosave(keeping.folder, keeping.log_folder, parts, key, task.settings.steps)
    details = _details(task, family, base, side)
    training = _Training((model, clip, vae), windows, task, keeping, saved, details, node)
    if (finished := saved.finished()) is not None:
        logging.info("ReVersion: this relation was learned before, taken from %s", saved.relation)
        return Learned(*finished, training.previews_of_finished(finished[0].vectors))
    saved.check_writable(node)
    return training.run((mean, std), on_progress)


class _Training:
    """A run under way, from the first update or from where an equal run was stopped."""

    def __init__(self, models, windows, task, keeping, saved, details, node):
        self.model, self.clip, self.vae = models
        self.windows, self.task, self.keeping, self.saved, self.node = windows, task, keeping, saved, node
        self.details = details  # what the relation's metadata say of the run
        self.stops = _preview_steps(task.settings.steps, keeping.previews)
        self.learner, self.previews, self.recompute = None, [], keeping.low_memory

    def run(self, latents, on_progress):
        """Learn to the last step. latents: mean and std of the exemplars' posterior. Returns a Learned."""
        settings = self.task.settings
        steps = settings.steps
        host.tell_memory(self.model, latents[0].shape[1:], settings.batch_size, settings.precision)
        try:
            while self.learner is None or self.learner.step < steps:
                if not self._learn_on(latents, on_progress):
                    self._use_less_memory()
                elif self.keeping.previews:
                    self._preview(self.learner.vectors, self.learner.step)
                    self.model, self.clip = host.load_for_training(self.model, self.clip)
                    on_progress(self.learner, self.previews)
        except trainer.NotFiniteError as error:
            raise ReVersionError(
                self.node, "learning_rate", f"{error} ({self._kept()})", "lower it or use precision fp32"
            ) from error
        finally:
            if self.learner is not None and self.learner.step:
                self.saved.keep(self.learner, self._relation())
                if self.learner.step < steps:
                    logging.warning("ReVersion: stopped; %s in %s", self._kept(), self.saved.relation)
        return Learned(self._relation(), self.learner.history, self.previews)

    def _learn_on(self, latents, on_progress):
        """Update up to the next preview or the last step; False where the memory did not suffice."""
        settings, keeping = self.task.settings, self.keeping
        try:
            with host.borrowing(self.model, self.clip, self.windows, settings.precision, self.recompute) as lent:
                if self.learner is None:
                    self._start(lent, latents)
                learner, learner.model = self.learner, lent
                stop = next((step for step in self.stops if step > learner.step), settings.steps)
                for step in range(learner.step + 1, stop + 1):
                    learner.update()
                    if keeping.every and step % keeping.every == 0:
                        self.saved.keep(learner, self._relation())
                    on_progress(learner, self.previews)
        except host.OutOfMemory:
            return False
        return True

    def _start(self, lent, latents):
        """Make the learner; take up the state of an equal run that was stopped, or say what made this one new."""
        task = self.task
        word = [task.settings.initial_word.strip()] * task.settings.vectors
        initial = {key: host.word_rows(self.clip, key, word).cpu() for key in host.encoder_keys(self.clip)}
        problem = build_problem(self.clip, task, *latents)
        self.learner = trainer.Learner(lent, problem, task.settings, task.steering, task.focal, initial)
        if self.keeping.low_memory:
            self.learner.at_once = 1
        if self.keeping.resume and (state := self.saved.unfinished()) is not None:
            self.learner.restore(state)
            done = [step for step in self.stops if step <= self.learner.step]
            self.previews = self.saved.previews(done, self.keeping.prompt)
            logging.info("ReVersion: goes on after step %d of an equal run", self.learner.step)
        elif changed := self.saved.changes():
            logging.info("ReVersion: starts anew; since the latest run these changed: %s", changed)

    def _use_less_memory(self):
        """The next thriftier way to learn the same; raises a ReVersionError where there is none."""
        host.empty_cache()
        learner = self.learner
        if learner is not None and learner.at_once > 1:
            learner.at_once = (learner.at_once + 1) // 2
            logging.warning("ReVersion: out of memory; goes on with %d pictures at once", learner.at_once)
        elif not self.recompute:
            self.recompute = True
            logging.warning("ReVersion: out of memory; goes on slower, with gradient checkpointing")
        else:
            raise ReVersionError(
                self.node,
                "exemplars",
                f"there is not enough memory to learn from even one picture at a time ({self._kept()})",
                "set a smaller size where they are loaded, close other programs or use precision auto",
            )

    def previews_of_finished(self, vectors):
        """The previews that were kept with an equal run; where there are none, one drawn now."""
        self.previews = self.saved.previews(self.stops, self.keeping.prompt)
        if self.stops and not self.previews:
            self._preview(vectors, self.stops[-1])
        return self.previews

    def _preview(self, vectors, step):
        """One more preview; outside the borrowing, so that the host may move its models about to decode it."""
        prompt, side, seed = self.keeping.prompt, self.details["training_size"], self.task.settings.seed
        self.previews.append(host.sample(self.model, self.clip, self.vae, vectors, prompt, side, seed))
        self.saved.keep_preview(step, prompt, self.previews[-1])

    def _kept(self):
        step = self.learner.step if self.learner else 0
        return f"the relation of step {step} is kept" if step else "nothing was learned yet"

    def _relation(self):
        date = datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")
        details = {**self.details, "steps_done": self.learner.step, "final": self.learner.history[-1]}
        metadata = relation.metadata_for("relation", details["base_family"], date, PLACEHOLDER, details)
        return relation.Relation(self.learner.vectors, metadata)


def _preview_steps(steps, every):
    """The updates after which a preview is drawn: every so many, and the last."""
    return [*range(every, steps, every), steps] if every else []


def _hash(data):
    return hashlib.sha256(data).hexdigest()


def _details(task, family, base, side):
    return {
        "base_family": family,
        "base_fingerprint": base,
        "settings": dataclasses.asdict(task.settings),
        "steering": dataclasses.asdict(task.steering),
        "focal": dataclasses.asdict(task.focal),
        "captions": task.exemplars.captions,
        "training_size": side,
    }
