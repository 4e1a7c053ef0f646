"""Can one token of T5 carry a relation? The miniature's own network behind a small T5 in place of CLIP.

Families of today read prompts with T5 or a language model, in which every token sees all others, and nobody knows
whether one vector among theirs can say a relation. A T5 of the host's class with two narrow layers is taught to give
the features that the miniature's CLIP gives for the same caption, then R is learned in it as in any family, with the
preset `balanced`. `python -m lab.bench.t5`; what was taught is kept in build/t5.
"""

import argparse
import functools
import json
import logging
from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F

from lab.bench import methods
from lab.bench.markdown import markdown_table
from lab.bench.run import Runner
from lab.harness import comfyui
from lab.miniature import captions, checkpoints, judge, placing, world
from lab.miniature.exemplars import unseen_pairs, write_exemplars
from reversion_core import families
from reversion_core.exemplars import read_folder
from reversion_core.store.files import write_whole

FOLDER = comfyui.ROOT / "build" / "t5"
WIDTH = 768  # of CLIP's features, which the network reads
SIZES = {"d_model": WIDTH, "d_kv": 64, "num_heads": 8, "d_ff": 1024, "num_layers": 2}
WINDOW = 77  # tokens, padded, as the network is used to
STEPS, CAPTIONS, RATE = 1500, 16, 1e-3
RELATIONS = ("inside", "above", "left of", "on")  # with a word of their own, to compare with
FAMILY = families.Family(
    "the miniature behind T5", ("SD15",), ("PixArtT5XXL",), ("t5xxl",), "none", native_size=64, size_multiple=8
)


def text_encoder():
    """A host's CLIP with a T5 of SIZES, untaught."""
    import comfy.sd
    import comfy.supported_models_base
    from comfy import sd1_clip
    from comfy.text_encoders import pixart_t5, sd3_clip

    class Tokenizer(sd1_clip.SD1Tokenizer):
        def __init__(self, embedding_directory=None, tokenizer_data={}):  # noqa: B006
            super().__init__(embedding_directory, tokenizer_data, "t5xxl", sd3_clip.T5XXLTokenizer)

    target = comfy.supported_models_base.ClipTarget(Tokenizer, pixart_t5.PixArtT5XXL)
    clip = comfy.sd.CLIP(target, model_options={"dtype": torch.float32, "t5xxl_model_config": SIZES})
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, weight in clip.cond_stage_model.named_parameters():
            if weight.ndim == 1:
                weight.fill_(1.0)
            else:
                # T5 does not divide the products of queries and keys by the root of their length.
                size = 1.0 if "shared" in name else WIDTH**-0.5 / (SIZES["d_kv"] ** 0.5 if ".q." in name else 1)
                weight.normal_(0, size, generator=generator)
    return clip


def places(pieces: Sequence[int], tokens: Sequence[int]) -> list[int]:
    """For each of T5's WINDOW tokens the place of CLIP's token whose feature it is to give.

    pieces, tokens: how many tokens each word has in T5 and in CLIP. What ends the text gives what ends CLIP's, the next
    one CLIP's first, which T5 has none of, and the padding CLIP's padding.
    """
    found, first = [], 1
    for of_t5, of_clip in zip(pieces, tokens, strict=True):
        found += [first + min(i, of_clip - 1) for i in range(of_t5)]
        first += of_clip
    found += [first, 0]
    return found + [min(first + 1 + i, WINDOW - 1) for i in range(WINDOW - len(found))]


def teach(clip, teacher, host) -> None:
    """Have T5 give CLIP's features of random captions; from build/t5 where it was taught before."""
    path, module = FOLDER / "text_encoder.pt", clip.cond_stage_model
    if (saved := checkpoints.load(path)) is not None:
        module.load_state_dict(saved)
        return
    from reversion_core.host.gradients import ready_for_backward

    embedding = module.t5xxl.transformer.get_input_embeddings()
    used = torch.tensor(sorted({0, 1} | {i for word in _words() for i in host.token_ids(clip, "t5xxl", word)}))
    rows = torch.nn.Parameter(embedding.weight[used].detach().clone())
    row_of = torch.zeros(len(embedding.weight), dtype=torch.long).index_copy(0, used, torch.arange(len(used)))
    # Of the table only the rows that captions use take a gradient.
    hook = embedding.register_forward_hook(lambda _, args, output: rows[row_of[args[0]]])
    weights = [rows, *(weight for weight in module.parameters() if weight is not embedding.weight)]
    for weight in weights:
        weight.requires_grad_(True)
    optimizer = torch.optim.AdamW(weights, RATE, betas=(0.9, 0.99), weight_decay=0.0)
    rng, scale = np.random.default_rng(8), None
    encoders = {"t5xxl": clip, "clip_l": teacher}
    length = functools.cache(lambda key, word: len(host.token_ids(encoders[key], key, word)))

    with ready_for_backward(module):
        for step in range(STEPS):
            scenes = [
                placing.arrange(world.random_relation(rng), *world.random_pair(rng), rng) for _ in range(CAPTIONS)
            ]
            texts = [captions.caption(scene, rng) for scene in scenes]
            with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
                of_clip = [[token for token, *_ in teacher.tokenize(text)["l"][0]] for text in texts]
                wanted = teacher.cond_stage_model.clip_l.encode(of_clip)[0]
            wanted = wanted.float().clone()
            counts = [[[length(key, word) for word in text.split()] for key in encoders] for text in texts]
            where = torch.tensor([places(*of_text) for of_text in counts])
            wanted = wanted.gather(1, where[..., None].expand(-1, -1, WIDTH))
            if scale is None:  # not the spread, which is next to nothing of the largest
                scale = wanted.square().mean((0, 1)).sqrt()
                _begin_near(module.t5xxl.transformer, rows, wanted)
            tokens = [[token for token, *_ in clip.tokenize(text)["t5xxl"][0]] for text in texts]
            with torch.autocast("cpu", torch.bfloat16):
                given, *_ = module.t5xxl(tokens)
            loss = F.mse_loss(given / scale, wanted / scale)
            for group in optimizer.param_groups:
                group["lr"] = RATE * min(1.0, (step + 1) / 100, 2 * (1 - step / STEPS))
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(weights, 1.0)
            optimizer.step()
            if (step + 1) % 50 == 0:
                logging.info("taught %d of %d: %.4f", step + 1, STEPS, float(loss.detach()))
    hook.remove()
    with torch.no_grad():
        embedding.weight[used] = rows
    checkpoints.save(path, module.state_dict())


@torch.no_grad()
def _begin_near(transformer, rows: torch.Tensor, wanted: torch.Tensor) -> None:
    """Begin with the size and the mean of the wanted features, some of which are a hundred times as large as others."""
    size = wanted.square().mean((0, 1)).sqrt()
    transformer.encoder.final_layer_norm.weight.copy_(size)
    rows.mul_(0.5).add_(wanted.mean((0, 1)) / size)


def _words() -> set[str]:
    """Every word that a caption may have."""
    relations = {word for of_one in world.RELATION_WORDS.values() for phrase in of_one for word in phrase.split()}
    return relations | {*world.COLOURS, *world.SHAPES, "and", "a", "an", "picture", "drawing", "of"}


def measure(runner: Runner, clip) -> dict[str, dict[str, float]]:
    """Relation -> share of pictures of unseen pairs with it: by CLIP's word, by T5's, by R and by "and" in T5."""
    found = {}
    for relation in RELATIONS:
        folder = FOLDER / "exemplars" / relation.replace(" ", "-")
        scenes = write_exemplars(folder, relation, methods.EXEMPLARS)
        pairs = unseen_pairs(methods.PAIRS, scenes)

        def accuracy(word, given=None, relation=relation, pairs=pairs):
            prompts = [f"{subject} {word} {object_}" for subject, object_ in pairs]
            seeds = range(100, 100 + len(pairs))
            pictures = runner.studio.draw(prompts, seeds, given, **methods.SAMPLING)
            return float(judge.measures(pictures, pairs, relation)["relation"].mean())

        of_relation = {"its word, CLIP": accuracy(relation), "its word, T5": accuracy(relation, clip)}
        of_relation["`and`, T5"] = accuracy("and", clip)
        of_clip, runner.studio.clip = runner.studio.clip, clip
        try:
            learned = runner.learn("balanced", read_folder(folder, "T5"), 0, folder=FOLDER)
        finally:
            runner.studio.clip = of_clip
        with_r = runner.studio.host.with_relation(clip, "<R>", learned.relation.vectors)
        found[relation] = of_relation | {"`<R>`, T5": accuracy("<R>", with_r)}
        logging.info("%s: %s", relation, found[relation])
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", force=True)
    comfyui.make_importable()
    # As in adding a family: one row says all that the loaded models do not tell.
    families.FAMILIES = (FAMILY, *families.FAMILIES)
    runner = Runner()
    clip = text_encoder()
    teach(clip, runner.studio.clip, runner.studio.host)
    clip.cond_stage_model.requires_grad_(False)
    found = measure(runner, clip)
    write_whole(FOLDER / "report.json", json.dumps(found, indent=1).encode())
    titles = list(next(iter(found.values())))
    rows = [[relation, *(f"{100 * row[title]:.0f}%" for title in titles)] for relation, row in found.items()]
    print(markdown_table(titles, rows))  # noqa: T201


if __name__ == "__main__":
    main()
