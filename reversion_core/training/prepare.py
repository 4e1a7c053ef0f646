"""From the host's sockets to what a training needs: checks before any work, then tensors."""

from dataclasses import dataclass

import torch

from .. import families, host
from ..errors import ReVersionError
from ..exemplars.augment import view_notes
from ..method.words import INITIAL_WORD, PREPOSITIONS, entity_words
from .inputs import TrainingData, TrainingInputs


@dataclass(frozen=True)
class CheckResult:
    """What the checks found: the family's name, the side of the training pictures in pixels, the captions' tokens (see
    `host.caption_tokens`), and what the artist should know of the family."""

    family: str
    size: int
    tokens: list[dict[str, list[list]]]
    notes: tuple[str, ...] = ()


def check(model, clip, vae, inputs: TrainingInputs, node: str) -> CheckResult:
    """Refuse what cannot work before anything is loaded or computed."""
    family, native = host.check_pair(model, clip, node)
    if vae is None:
        raise ReVersionError(node, "vae", "the checkpoint has no VAE", "load one with Load VAE")
    initial = inputs.settings.initial_word.strip()
    for key in host.encoder_keys(clip):
        if len(host.token_ids(clip, key, initial)) != 1:
            raise ReVersionError(
                node, "initial_word", f"'{initial}' is not one token of the text encoder", "use a word such as 'and'"
            )
        if not key.startswith("clip_"):
            continue  # other vocabularies lack some prepositions; the mean of a word's tokens stands for it
        several = [word for word in inputs.steering.basis if len(host.token_ids(clip, key, word)) != 1]
        if several:
            raise ReVersionError(
                node,
                "steering",
                f"'{several[0]}' of the word basis is not one token",
                "take it out of ReVersion Steering",
            )
    row = families.named(family)
    prompts = [families.whole_prompt(row, caption) for caption in inputs.templates]
    tokens = host.caption_tokens(clip, prompts[: len(inputs.captions)], inputs.settings.vectors, node)
    for caption, turned in zip(inputs.captions, prompts[len(inputs.captions) :], strict=False):
        try:
            tokens += host.caption_tokens(clip, [turned], inputs.settings.vectors, node)
        except ReVersionError as error:
            problem = f"swap turns the caption '{caption[:60]}...' round, and its {{}} then comes too late"
            cure = "shorten what follows it in that caption, or set swap to 0"
            raise ReVersionError(node, "steering", problem, cure) from error
    given = inputs.exemplars.training_size(native)
    size = given - given % row.size_multiple
    smallest = max(row.smallest_size, row.size_multiple)
    if size < smallest:
        raise ReVersionError(
            node,
            "exemplars",
            f"{family} learns from pictures of at least {smallest} pixels, and these are of {given}",
            "set size to 512 where they are loaded, or take larger pictures",
        )
    notes = [] if row.tested else [f"{family} is experimental: no relation was learned with a real checkpoint yet"]
    notes += [row.note] if row.note else []
    notes += filter(None, [host.slow_encoders(model, clip)])
    for key in set(row.pooled_only) & set(host.encoder_keys(clip)):
        late = [c for c, of_one in zip(prompts, tokens, strict=True) if not host.is_in_first_window(clip, key, of_one)]
        notes += [f"{key} reads the start of '{caption[:60]}...' only, and not as far as its {{}}" for caption in late]
    for caption in inputs.captions:
        if (read := host.encoded_part(clip, caption, inputs.settings.vectors)) != caption:
            notes.append(f"the caption '{caption[:60]}...' is too long: it is read up to '{read[-40:]}'")
    if ordinary := sorted(set(inputs.steering.extra_negatives) - set(_extra_negatives(inputs))):
        notes.append(f"{', '.join(ordinary)} of extra_negatives may be a part of the relation: left out")
    notes += view_notes(inputs.exemplars, inputs.settings.augmentation)
    return CheckResult(family, size, tokens, tuple(notes))


def _extra_negatives(inputs):
    """Those that the relation cannot consist of: no prepositions, words of the basis or the word that R starts from."""
    its_own = {*PREPOSITIONS, *inputs.steering.basis, INITIAL_WORD, inputs.settings.initial_word}
    return tuple(word for word in inputs.steering.extra_negatives if word not in its_own)


def training_data(clip, inputs: TrainingInputs, mean: torch.Tensor, std: torch.Tensor) -> TrainingData:
    """The inputs as tensors; call it inside `host.borrowed_model`, so that they can take part in autograd."""
    captions, steering = inputs.captions, inputs.steering
    number = {caption: i for i, caption in enumerate(captions)}
    read = [host.encoded_part(clip, caption, inputs.settings.vectors) for caption in captions]
    words_of = [entity_words(text, steering.basis, inputs.settings.initial_word) for text in read]
    extra = _extra_negatives(inputs)
    words = tuple(dict.fromkeys(word for of_one in (*words_of, extra) for word in of_one))
    word_number = {word: i for i, word in enumerate(words)}
    keys = host.encoder_keys(clip)
    return TrainingData(
        mean=mean.clone(),
        std=std.clone(),
        captions=tuple(tuple(number[c] for c in of_one) for of_one in inputs.view_captions),
        negatives=tuple(tuple(word_number[w] for w in of_one) for of_one in words_of),
        basis_rows={key: host.word_rows(clip, key, steering.basis).cpu() for key in keys},
        negative_rows={key: host.word_rows(clip, key, words).cpu() for key in keys},
        norms={key: float(host.vocabulary_norm(clip, key)) for key in keys},
        always_negative=tuple(word_number[w] for w in extra),
        rates={key: host.learning_rate_unit(clip, key, inputs.settings.initial_word.strip()) for key in keys},
        negative_words=words,
        swapped=tuple(range(len(captions), len(inputs.templates))),
    )
