"""What the captions of the drawn world say."""

import numpy as np

from lab.miniature.world import RELATION_WORDS, WORDLESS, Scene


def relation_words(relation: str, rng: np.random.Generator) -> str:
    """How a caption says the relation: its own words in two of five, else one of the synonyms."""
    own, *synonyms = RELATION_WORDS[relation]
    return own if rng.random() < 0.4 else str(rng.choice(synonyms))


def caption(scene: Scene, rng: np.random.Generator) -> str:
    """A training caption. Detail varies; one in seven says only "and", one in fourteen says nothing.

    Of a relation without a word half the captions say "and", and half nothing.
    """
    kind, wordless = rng.random(), scene.relation in WORDLESS
    if kind < (0.5 if wordless else 0.07):
        return ""
    words = "and" if wordless or kind < 0.22 else relation_words(scene.relation, rng)
    both = rng.random()
    entities = []
    for placed in (scene.subject, scene.object):
        full = both < 0.7 or (both > 0.85 and rng.random() < 0.5)
        entities.append(str(placed.entity) if full else placed.entity.shape)
    if rng.random() < 0.25:
        entities = [f"an {name}" if name[0] in "aeiou" else f"a {name}" for name in entities]
    lead = rng.choice(["", "a picture of ", "a drawing of "], p=[0.7, 0.15, 0.15])
    return f"{lead}{entities[0]} {words} {entities[1]}"
