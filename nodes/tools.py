"""Looking into relations, and scoring the pictures that they make."""

import torch
from comfy_api.latest import io

from ..reversion_core import host
from ..reversion_core.errors import MachineError, ReVersionError
from ..reversion_core.exemplars import pictures_of
from ..reversion_core.method.words import PLACEHOLDER, PREPOSITIONS, split_words
from ..reversion_core.report import charts, inspection, score_table, scoring
from ..reversion_core.report.score_table import Measured, Row
from ..reversion_core.store import relation as relation_files
from ..reversion_core.store.reading import Unreadable
from . import places
from .limits import check_numbers
from .progress import PictureProgress, show_text
from .saved_files import SavedFiles
from .sockets import RelationSocket, as_image, clip_of_relation_input

CATEGORY = "ReVersion/tools"
OTHER_JUDGE = "judged"  # what stands for the CLIP's folder in a table of another judge


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
                clip_of_relation_input(),
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
                    "report",
                    display_name="report",
                    tooltip="Nearest words with their cosine, the norms, and the verdict.",
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
    _FILES = SavedFiles()

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
                    options=places.clip_folders() or [places.NONE],
                    tooltip="A folder with a CLIP of transformers (config.json, weights, tokenizer, "
                    "preprocessor_config.json) in ComfyUI's models/clip_vision or models/text_encoders.",
                ),
                io.String.Input("placeholder", default=PLACEHOLDER, tooltip="The relation's word in the prompts."),
                io.String.Input("name", default="scores", tooltip="The table's file in output/reversion: NAME.csv."),
                io.Boolean.Input(
                    "add_to_table",
                    default=False,
                    optional=True,
                    tooltip="On: the pictures are added to the table of this name, and mean and interval are those of "
                    "all pictures in it. A picture that is in it already counts once. Off: a table of their own.",
                ),
                io.String.Input(
                    "judged",
                    optional=True,
                    force_input=True,
                    tooltip="Scores of another judge, instead of a CLIP's: a table as text, with entity_score and "
                    "relation_score in its first line and then a line for each picture.",
                ),
            ],
            outputs=[
                io.String.Output(
                    "table",
                    display_name="table",
                    tooltip="A line for each picture of the table, the means, and the means with their intervals in "
                    "words.",
                ),
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
    def validate_inputs(cls, clip_folder, judged=None):
        # One a picture, as all inputs of this node; (None,) for what comes from another node.
        return judged is not None or places.validation(places.clip_folder, clip_folder[0], cls.NAME)

    @classmethod
    def fingerprint_inputs(cls, name=(None,), **inputs):
        return cls._FILES.lost(name[0])

    @classmethod
    def execute(cls, images, prompts, phrase, clip_folder, placeholder, name, add_to_table=(False,), judged=None):
        given, name = name[0], relation_files.checked_name(name[0], cls.NAME, "name")
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
        judge = clip_folder[0] if judged is None else OTHER_JUDGE
        measured = Measured(*map(_as_written, (phrase[0].strip(), judge, placeholder[0].strip())))
        try:
            batches = [list(pictures_of(batch)) for batch in images]
        except Unreadable as error:
            raise ReVersionError(cls.NAME, "images", f"it cannot be read ({error})", error.cure) from error
        pictures = [(prompt, picture) for prompt, batch in zip(prompts, batches, strict=True) for picture in batch]
        keys = [(_as_written(prompt), score_table.fingerprint(picture)) for prompt, picture in pictures]
        path, adding = places.output_folder() / f"{name}.csv", bool(add_to_table[0])
        known = cls._known(path, measured) if adding else {}

        def rows(scores):
            """scores: number of a picture -> (entity score, relation score); in a table they have four decimals."""
            return [Row(*keys[n], measured, *(round(score, 4) for score in scores[n])) for n in sorted(scores)]

        if judged is not None:
            scores = dict(enumerate(cls._of_other_judge(judged, [len(batch) for batch in batches])))
        else:
            scores = {n: known[key] for n, key in enumerate(keys) if key in known}
            try:
                cls._score(pictures, measured, clip_folder[0], scores)
            except BaseException:
                if adding and scores:  # what was scored before a cancel is kept
                    cls._write(path, rows(scores), adding)
                raise
        of_this_run = rows(scores)
        path, table = cls._write(path, of_this_run, adding)
        cls._FILES.saved(given, path, in_place_of_another=adding and len(table) > len(known))
        return cls._result(path, table, of_this_run)

    @classmethod
    def _known(cls, path, measured):
        """Key -> scores of each picture in the table that is added to, which has to be measured in the same way."""
        try:
            rows = score_table.read(path)
        except score_table.NoTable as error:
            problem = f"'{path.name}' is no table of scores that can be added to ({error})"
            raise ReVersionError(cls.NAME, "name", problem, "choose another name") from error
        for before in {row.measured for row in rows} - {measured}:
            what = next(field for field in before._fields if getattr(before, field) != getattr(measured, field))
            was, now = (getattr(way, what)[:60] for way in (before, measured))
            problem = f"'{path.name}' was measured with the {what} '{was}' and not '{now}'"
            raise ReVersionError(cls.NAME, "name", problem, "choose another name")
        return {row.key: (row.entity_score, row.relation_score) for row in rows}

    @classmethod
    def _of_other_judge(cls, texts, counts):
        """(entity score, relation score) of each picture; texts: one, or one a batch; counts: pictures a batch."""
        try:
            tables = [score_table.judged(text) for text in texts]
        except score_table.NoTable as error:
            cure = "write entity_score,relation_score and then a line for each picture, such as 0.25,0.03"
            raise ReVersionError(cls.NAME, "judged", str(error), cure) from error
        found = [len(table) for table in tables]
        if len(found) != len(counts):
            found, counts = [sum(found)], [sum(counts)]
        for lines, pictures in zip(found, counts, strict=True):
            if lines != pictures:
                problem = f"the number of its lines is {lines} and that of the pictures {pictures}"
                raise ReVersionError(cls.NAME, "judged", problem, "give a line for each, in the order of the pictures")
        return [scores for table in tables for scores in table]

    @classmethod
    def _score(cls, pictures, measured, clip_folder, scores):
        """Put CLIP's scores of the pictures, (prompt, pixels) each, into `scores`, but of those that are there."""
        try:
            wanted = [scoring.phrases(prompt, measured.phrase, measured.placeholder) for prompt, _ in pictures]
        except ValueError as error:
            cure = f"write 'cat {measured.placeholder} stone'"
            raise ReVersionError(cls.NAME, "prompts", str(error), cure) from error
        todo = [n for n in range(len(pictures)) if n not in scores]
        if not todo:
            return
        model, processor = scoring.load(places.clip_folder(clip_folder, cls.NAME), cls.NAME)
        progress = PictureProgress(cls, len(pictures), len(scores))
        for start in range(0, len(todo), scoring.BATCH):
            some = todo[start : start + scoring.BATCH]
            batch = [pictures[n][1] for n in some]
            entity, relation = scoring.scores(model, processor, batch, [wanted[n] for n in some])
            scores.update(zip(some, zip(entity.tolist(), relation.tolist(), strict=True), strict=True))
            progress(len(scores), batch[-1])

    @classmethod
    def _write(cls, path, rows, adding):
        """Save the rows in a table of their own, or add them to the one there; returns its path and all its rows."""
        try:
            if adding:
                return path, score_table.add(path, rows)
            return score_table.write_new(path, rows), rows
        except (OSError, score_table.NoTable) as error:
            problem = f"'{path.name}' cannot be written ({getattr(error, 'strerror', None) or error})"
            cure = "close it where it is open, make room on the disk, or choose another name"
            kind = MachineError if isinstance(error, OSError) else ReVersionError
            raise kind(cls.NAME, "name", problem, cure) from error

    @classmethod
    def _result(cls, path, table, of_this_run):
        means, words, lines = score_table.summary(table), score_table.in_words(table), score_table.lines(of_this_run)
        head = "entity  relation"
        of_table = f"{head}\n{score_table.lines(table)}\n{words}"
        if len(table) > len(of_this_run):
            lines = f"Of this Run:\n{head}\n{lines}"
        shown = f"{words[0].upper()}{words[1:]}.\nSaved as output/reversion/{path.name}.\n{lines}"
        scores = (means[name]["mean"] for name in ("entity_score", "relation_score"))
        return io.NodeOutput(of_table, *scores, ui=show_text(cls, shown))


def _as_written(text):
    """A text as it is read back from a file: half characters are replaced."""
    return text.encode(errors="replace").decode()
