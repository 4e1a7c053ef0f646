"""Looking into relations, and scoring the pictures that they make."""

import csv
import io as text_io

import numpy as np
import torch
from comfy_api.latest import io

from ..reversion_core import host
from ..reversion_core.errors import ReVersionError
from ..reversion_core.exemplars import pictures_of
from ..reversion_core.method.words import PLACEHOLDER, PREPOSITIONS, split_words
from ..reversion_core.report import charts, inspection, scoring
from ..reversion_core.store import relation as relation_files
from ..reversion_core.store.files import numbered, write_whole
from ..reversion_core.store.reading import Unreadable
from . import places
from .limits import check_numbers
from .progress import show_text
from .sockets import RelationSocket, as_image

CATEGORY = "ReVersion/tools"


class ReVersionInspect(io.ComfyNode):
    NAME = "ReVersion Inspect"

    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="ReVersionInspect",
            display_name=cls.NAME,
            category=CATEGORY,
            description="Shows which words a relation is like, how long its vectors are beside a word's, and where it "
            "lies among prepositions and entities.",
            is_output_node=True,
            hidden=[io.Hidden.unique_id],
            inputs=[
                RelationSocket.Input("relation", tooltip="From ReVersion Train or ReVersion Load Relation."),
                io.Clip.Input("clip", tooltip="The CLIP of the checkpoint that the relation was learned with."),
                io.Int.Input("words", default=10, min=1, max=100, tooltip="How many of the nearest words to list."),
                io.String.Input(
                    "entities",
                    default="cat dog stone canvas wall table",
                    multiline=True,
                    tooltip="Words of things, to see that the relation is not like them.",
                ),
            ],
            outputs=[
                io.String.Output(
                    "report", display_name="report", tooltip="Nearest words with their cosine, and the norms."
                ),
                io.Image.Output("picture", display_name="picture", tooltip="The relation among the words (PCA)."),
            ],
        )

    @classmethod
    def execute(cls, relation, clip, words, entities):
        check_numbers(cls, words=words)
        host.check_clip(clip, cls.NAME)
        host.check_fits(relation, clip, cls.NAME)
        verdict = relation.detail("verdict")
        groups = {
            "prepositions": PREPOSITIONS,
            "entities": tuple(split_words(entities)),
            "initial word": (relation.initial_word,),
        }
        parts, pictures = [str(verdict[name]) for name in ("text", "details") if verdict.get(name)], []
        for key, vectors in relation.vectors.items():
            encoder = f" in {key}" if len(relation.vectors) > 1 else ""
            parts += cls._nearest_words(clip, key, vectors, words, encoder)
            pictures.append(as_image(cls._among_words(clip, key, vectors, groups, encoder)))
        report = "\n".join(parts)
        return io.NodeOutput(report, torch.cat(pictures), ui=show_text(cls, report))

    @classmethod
    def _nearest_words(cls, clip, key, vectors, count, encoder):
        """A text for each vector; encoder: words that say which text encoder, where there are several."""
        norm = float(host.vocabulary_norm(clip, key))
        names = host.vocabulary(clip, key)
        # Twice as many, because a word may stand in the vocabulary a second time, as the beginning of others.
        cosines, numbers = inspection.nearest(vectors, host.token_table(clip, key), 2 * count)
        for i, vector in enumerate(vectors):
            near = {}
            for cosine, number in zip(cosines[i].tolist(), numbers[i].tolist(), strict=True):
                near.setdefault(str(names.get(number, number)).removesuffix("</w>"), cosine)
            which = f"Vector {i + 1} of R" if len(vectors) > 1 else "R"
            length = f"{which}{encoder} is {float(vector.norm()) / norm:.1f} times as long as a word"
            yield f"{length}. Nearest words: {', '.join(f'{word} {near[word]:.3f}' for word in list(near)[:count])}"

    @classmethod
    def _among_words(cls, clip, key, vectors, groups, encoder):
        rows = {name: host.word_rows(clip, key, members).cpu() for name, members in groups.items() if members}
        centre, directions = inspection.plane(torch.cat(list(rows.values())))
        rows["R"] = vectors
        names = ("R",) if len(vectors) == 1 else tuple(f"R{i + 1}" for i in range(len(vectors)))
        groups = {**groups, "R": names}
        placed = {name: (groups[name], inspection.on_plane(part, centre, directions)) for name, part in rows.items()}
        return charts.scatter_chart(f"R among words{encoder}", placed)


class ReVersionScore(io.ComfyNode):
    NAME = "ReVersion Score"

    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="ReVersionScore",
            display_name=cls.NAME,
            category=CATEGORY,
            description="Scores pictures with a CLIP model: are both entities there, and does the relation hold in the "
            "asked direction rather than the other way round? Only for comparing settings: the numbers of one picture "
            "alone say little.",
            is_input_list=True,
            is_output_node=True,
            hidden=[io.Hidden.unique_id],
            inputs=[
                io.Image.Input("images", tooltip="The pictures: one or a batch for each prompt."),
                io.String.Input("prompts", force_input=True, tooltip="The prompts of the pictures, in their order."),
                io.String.Input(
                    "phrase",
                    default="painted on",
                    tooltip="What <R> should mean, in words.",
                ),
                io.Combo.Input(
                    "clip_folder",
                    options=places.clip_folders(),
                    tooltip="A folder with a CLIP of transformers (config.json, weights, tokenizer, "
                    "preprocessor_config.json) in ComfyUI's models/clip_vision or models/text_encoders.",
                ),
                io.String.Input("placeholder", default=PLACEHOLDER, tooltip="The relation's word in the prompts."),
                io.String.Input("name", default="scores", tooltip="The table's file in output/reversion: NAME.csv."),
            ],
            outputs=[
                io.String.Output("table", display_name="table", tooltip="A line for each picture, and the means."),
                io.Float.Output(
                    "entity_score", display_name="entity_score", tooltip="Mean cosine of the pictures with 'A, B'."
                ),
                io.Float.Output(
                    "relation_score",
                    display_name="relation_score",
                    tooltip="Mean cosine with the asked phrase minus the swapped.",
                ),
            ],
        )

    @classmethod
    def validate_inputs(cls, clip_folder):
        # One a picture, as all inputs of this node; (None,) for what comes from another node.
        return places.validation(places.clip_folder, clip_folder[0], cls.NAME)

    @classmethod
    def execute(cls, images, prompts, phrase, clip_folder, placeholder, name):
        name = relation_files.checked_name(name[0], cls.NAME, "name")
        if len(images) != len(prompts):
            raise ReVersionError(
                cls.NAME, "prompts", f"there are {len(images)} pictures and {len(prompts)} prompts", "give one for each"
            )
        for text, input_name, cure in (
            (placeholder[0], "placeholder", "write <R>"),
            (phrase[0], "phrase", "write words"),
        ):
            if not text.strip():
                raise ReVersionError(cls.NAME, input_name, "it is empty", cure)
        try:
            wanted = [scoring.phrases(prompt, phrase[0].strip(), placeholder[0].strip()) for prompt in prompts]
        except ValueError as error:
            raise ReVersionError(cls.NAME, "prompts", str(error), "write 'cat <R> stone'") from error
        try:
            batches = [list(pictures_of(batch)) for batch in images]
        except Unreadable as error:
            raise ReVersionError(cls.NAME, "images", f"it cannot be read ({error})", error.cure) from error
        pictures = [picture for batch in batches for picture in batch]
        each = [i for i, batch in enumerate(batches) for _ in batch]
        model, processor = scoring.load(places.clip_folder(clip_folder[0], cls.NAME), cls.NAME)
        entity, relation = scoring.scores(model, processor, pictures, [wanted[i] for i in each])
        numbers = zip(each, entity.tolist(), relation.tolist(), strict=True)
        rows = [(prompts[i], f"{e:.4f}", f"{r:.4f}") for i, e, r in numbers]
        means = float(np.mean(entity)), float(np.mean(relation))
        rows.append(("mean", *(f"{mean:.4f}" for mean in means)))
        path = cls._write(places.output_folder(), name, rows)
        table = "\n".join(f"{e}  {r}  {prompt}" for prompt, e, r in rows)
        shown = f"{table}\nSaved as output/reversion/{path.name}"
        return io.NodeOutput(f"entity  relation\n{table}", *means, ui=show_text(cls, shown))

    @classmethod
    def _write(cls, folder, name, rows):
        """Save the table under the name, or the next free one where another table has it; returns its path."""
        text = text_io.StringIO(newline="")
        csv.writer(text).writerows([("prompt", "entity_score", "relation_score"), *rows])
        data = text.getvalue().encode(errors="replace")
        paths = numbered(folder / f"{name}.csv")
        path = next(p for p in paths if not p.exists() or (p.is_file() and p.read_bytes() == data))
        write_whole(path, data)
        return path
