"""Can one token of T5 carry a relation? The miniature's own network behind a small T5 in place of CLIP.

Families of today read prompts with T5 or a language model, in which every token sees all others. So R is learned behind
the T5 of `lab.miniature.t5` as in any family, with the preset `balanced`, and compared with the relation's own word.
`python -m lab.bench.t5` (about 17 minutes of two cores); what was taught is kept in build/t5.
"""

import argparse
import json
import logging

from lab.bench import methods
from lab.bench.markdown import markdown_table
from lab.bench.run import Runner
from lab.harness import comfyui
from lab.miniature import judge, t5
from lab.miniature.exemplars import unseen_pairs, write_exemplars
from reversion_core import families
from reversion_core.exemplars import read_folder
from reversion_core.store.files import write_whole

FOLDER = comfyui.ROOT / "build" / "t5"
RELATIONS = ("inside", "above", "left of", "on")  # with a word of their own, to compare with


def measure(runner: Runner, clip) -> dict[str, dict[str, float]]:
    """Relation -> share of pictures of unseen pairs with it: by CLIP's word, by T5's, by R and by "and" in T5."""
    found = {}
    for relation in RELATIONS:
        folder = FOLDER / "exemplars" / relation.replace(" ", "-")
        scenes = write_exemplars(folder, relation, methods.EXEMPLARS)
        pairs = unseen_pairs(methods.PAIRS, scenes)

        def accuracy(word, vectors=None, relation=relation, pairs=pairs):
            pictures = runner.draw(word, pairs, vectors)
            return float(judge.measures(pictures, pairs, relation)["relation"].mean())

        of_relation = {"its word, CLIP": accuracy(relation)}
        of_clip, runner.studio.clip = runner.studio.clip, clip
        try:
            of_relation |= {"its word, T5": accuracy(relation), "`and`, T5": accuracy("and")}
            learned = runner.learn("balanced", read_folder(folder, "T5"), 0, folder=FOLDER)
            of_relation["`<R>`, T5"] = accuracy("<R>", learned.relation.vectors)
        finally:
            runner.studio.clip = of_clip
        found[relation] = of_relation
        logging.info("%s: %s", relation, found[relation])
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", force=True)
    comfyui.make_importable()
    # As in adding a family: one row says all that the loaded models do not tell.
    families.FAMILIES = (t5.FAMILY, *families.FAMILIES)
    runner = Runner()
    clip = t5.text_encoder()
    t5.teach(clip, runner.studio, FOLDER / "text_encoder.pt")
    clip.cond_stage_model.requires_grad_(False)
    found = measure(runner, clip)
    write_whole(FOLDER / "report.json", json.dumps(found, indent=1).encode())
    titles = list(next(iter(found.values())))
    rows = [[relation, *(f"{100 * row[title]:.0f}%" for title in titles)] for relation, row in found.items()]
    print(markdown_table(titles, rows))  # noqa: T201


if __name__ == "__main__":
    main()
