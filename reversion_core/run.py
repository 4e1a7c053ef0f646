"""One training run from the host's sockets to a Relation: checks first, then the work, and nothing learned is lost."""

import csv
import dataclasses
import datetime
import hashlib
import json
import logging

import torch

from . import host, relation, trainer
from .errors import ReVersionError
from .words import PLACEHOLDER, entity_words, swapped

LOG_COLUMNS = ("loss", "denoise", "steer", "norm", "similarity")


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

    def fingerprint(self, side):
        """Hash of the task with its pictures at the training size, hex."""
        parts = [self.exemplars.captions, self.settings, self.steering, self.focal, side]
        digest = hashlib.sha256(repr(parts).encode())
        digest.update(self.exemplars.fitted(side).tobytes())
        return digest.hexdigest()


def check(model, clip, vae, task, node):
    """Refuse what cannot work before anything is loaded or computed. Returns (family, side, caption windows)."""
    family, native = host.family_of(model, node)
    host.check_clip(clip, node)
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
    windows = host.caption_windows(clip, task.prompts, task.settings.vectors)
    host.check_windows(windows, task.prompts, task.settings.vectors, node)
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


def learn_relation(model, clip, vae, task, folder, log_folder, on_progress, node):
    """Learn a relation, or return the finished one of an equal earlier run from `folder`.

    on_progress(progress, steps) is called before the first and after every update; it may raise to stop. However the
    run ends, what was learned up to then is in `folder`. Returns (Relation, history: a record per update).
    """
    family, side, windows = check(model, clip, vae, task, node)
    steps = task.settings.steps
    on_progress(None, steps)
    mean, std = host.scaled_posterior(model, vae, torch.from_numpy(task.exemplars.fitted(side)))
    model, clip = host.load_for_training(model, clip)
    base = host.fingerprint(model.model.diffusion_model, clip.cond_stage_model)
    digest = hashlib.sha256(f"{base} {clip.layer_idx} {task.fingerprint(side)}".encode())
    digest.update(mean.numpy().tobytes())
    key = digest.hexdigest()
    path, log_path = folder / f"run-{key[:16]}.safetensors", log_folder / f"run-{key[:16]}.csv"
    if (finished := _finished(path, log_path, steps)) is not None:
        logging.info("ReVersion: this relation was learned before, taken from %s", path)
        return finished
    history, last = [], None
    details = _details(task, family, base, side)
    try:
        with host.borrowing(model, clip, windows, task.settings.precision) as borrowed:
            initial = {
                key: host.word_rows(clip, key, [task.settings.initial_word.strip()] * task.settings.vectors).cpu()
                for key in host.encoder_keys(clip)
            }
            problem = build_problem(clip, task, mean, std)
            for last in trainer.learn(borrowed, problem, task.settings, task.steering, task.focal, initial):
                history.append(last.record)
                on_progress(last, steps)
    except trainer.NotFiniteError as error:
        kept = f"the relation of step {last.step} is kept as '{path.name}'" if last else "nothing was learned yet"
        raise ReVersionError(node, "learning_rate", f"{error} ({kept})", "lower it or use precision fp32") from error
    finally:
        if last is not None:
            learned = _relation(last, family, details, history)
            relation.save(learned, path)
            _write_log(log_path, history)
            if last.step < steps:
                logging.warning("ReVersion: stopped at step %d of %d; kept as %s", last.step, steps, path)
    return learned, history


def _relation(progress, family, details, history):
    date = datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")
    details = {**details, "steps_done": progress.step, "final": history[-1]}
    return relation.Relation(progress.vectors, relation.metadata_for("relation", family, date, PLACEHOLDER, details))


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


def _finished(path, log_path, steps):
    """The relation and history of an equal run that went to its end, or None."""
    if not (path.exists() and log_path.exists()):
        return None
    learned = relation.load(path)
    if json.loads(learned.metadata.get("reversion.steps_done", "0")) != steps:
        return None
    with log_path.open(newline="") as file:
        history = [{name: float(row[name]) for name in LOG_COLUMNS} for row in csv.DictReader(file)]
    return learned, history


def _write_log(path, history):
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, ("step", *LOG_COLUMNS))
        writer.writeheader()
        writer.writerows({"step": i + 1, **record} for i, record in enumerate(history))
