"""Many prompts from one template, for queues."""

import time

from comfy_api.latest import io

from ..reversion_core.errors import ReVersionError, check_choice
from ..reversion_core.prompts import grid as prompt_grids
from ..reversion_core.prompts.grid import OBJECT, SUBJECT
from ..reversion_core.report import time_left
from ..reversion_core.store.files import states_of
from . import places
from .limits import check_numbers
from .progress import show_entry, show_text
from .schema import advanced, named

OWN_LISTS = "my own lists"
NO_FILE = "none"
ALL = -1
MOST_IN_METADATA = 1000  # prompts that each picture of a run carries
ADVANCED = ("order_seed", "list_file", "list_relation")


class ReVersionPrompts(io.ComfyNode):
    NAME = "ReVersion Prompts"

    @classmethod
    def define_schema(cls):
        schema = io.Schema(
            node_id="ReVersionPrompts",
            **named(cls.NAME, "prompt grid", "prompt list", "prompt matrix"),
            category="ReVersion/use",
            description="Writes every subject with every object into a template: a grid of prompts, one a run or all "
            "in one run.",
            hidden=[io.Hidden.unique_id, io.Hidden.extra_pnginfo],
            inputs=[
                io.String.Input(
                    "template",
                    default=f"{SUBJECT} <R> {OBJECT}",
                    multiline=True,
                    tooltip="The prompt, with {subject} and {object} where the words go.",
                ),
                io.String.Input(
                    "subjects", default="cat\nhamburger", multiline=True, tooltip="What goes to {subject}, one a line."
                ),
                io.String.Input(
                    "objects", default="stone\ncanvas", multiline=True, tooltip="What goes to {object}, one a line."
                ),
                io.Combo.Input(
                    "preset",
                    options=[OWN_LISTS, *prompt_grids.prompt_lists()],
                    default=OWN_LISTS,
                    tooltip="A relation of the ReVersion Benchmark: 10 x 10 entities of this pack instead of your own "
                    "lists.",
                ),
                io.Int.Input("limit", default=0, min=0, max=100_000, tooltip="How many prompts at most. 0: all."),
                io.Int.Input(
                    "order_seed",
                    default=0,
                    min=0,
                    max=2**31 - 1,
                    control_after_generate=False,
                    tooltip="0: subject by subject. Another number: shuffled, the same way each time.",
                ),
                io.Combo.Input(
                    "list_file",
                    options=[NO_FILE, *places.list_files()],
                    default=NO_FILE,
                    optional=True,
                    tooltip="A JSON file in ComfyUI's input folder with lists of subjects and objects for relations, "
                    "instead of the lists above.",
                ),
                io.String.Input(
                    "list_relation",
                    default="",
                    optional=True,
                    tooltip="Which relation of the list file. Empty: the one chosen in preset, or the only one.",
                ),
                io.Int.Input(
                    "pick",
                    default=ALL,
                    min=ALL,
                    max=prompt_grids.MOST_PROMPTS,
                    optional=True,
                    tooltip="0 or more: each Run draws one prompt, this one, and counts up. Set the number beside Run "
                    "to the number of prompts, and each picture is saved as soon as it is drawn; after a cancel it "
                    "goes back to the first that was not drawn. -1: all in one Run, which saves its pictures at the "
                    "end.",
                ),
            ],
            outputs=[
                io.String.Output(
                    "prompts", display_name="prompts", is_output_list=True, tooltip="For CLIP Text Encode."
                ),
                io.String.Output(
                    "names",
                    display_name="names",
                    is_output_list=True,
                    tooltip="A file name for each prompt: for Save Image's prefix.",
                ),
            ],
        )
        return advanced(schema, ADVANCED)

    @classmethod
    def validate_inputs(cls, list_file=NO_FILE):
        if list_file == NO_FILE:
            return True
        return places.validation(places.list_file, list_file, cls.NAME)

    @classmethod
    def fingerprint_inputs(cls, list_file=NO_FILE, pick=ALL, **others):
        if list_file is None:  # it comes from another node, and is not known yet
            return float("nan")
        if pick != ALL:  # said anew at each Run: the page counts by what was, and the picture is to carry it
            return time.time_ns()
        if list_file == NO_FILE:
            return ""
        return str(states_of([places.list_file(list_file, cls.NAME)]))

    @classmethod
    def execute(
        cls, template, subjects, objects, preset, limit, order_seed, list_file=NO_FILE, list_relation="", pick=ALL
    ):
        check_numbers(cls, limit=limit, order_seed=order_seed, pick=pick)
        for name, text in (("template", template), ("subjects", subjects), ("objects", objects)):
            if not prompt_grids.is_text(text):
                raise ReVersionError(cls.NAME, name, "it has a character that no text has", "write it again")
        lists = {"subjects": prompt_grids.stripped_lines(subjects), "objects": prompt_grids.stripped_lines(objects)}
        check_choice(preset, (OWN_LISTS, *prompt_grids.prompt_lists()), cls.NAME, "preset")
        if list_file != NO_FILE:
            lists = cls._lists_of_file(list_file, list_relation.strip() or ("" if preset == OWN_LISTS else preset))
        elif preset != OWN_LISTS:
            lists = prompt_grids.prompt_lists()[preset]
        for name, slot in (("subjects", SUBJECT), ("objects", OBJECT)):
            if not lists[name]:
                raise ReVersionError(cls.NAME, name, "the list is empty", "write one a line")
            if slot not in template and len(lists[name]) > 1:
                raise ReVersionError(cls.NAME, "template", f"{slot} is missing", f"write {slot} where the words go")
        template = template.strip()
        if near := prompt_grids.near_slots(template):
            problem = f"{near[0]} is not filled in"
            raise ReVersionError(cls.NAME, "template", problem, f"write {SUBJECT} and {OBJECT} exactly like this")
        try:
            written = prompt_grids.grid(template, lists["subjects"], lists["objects"], limit, order_seed)
        except ValueError as error:
            raise ReVersionError(cls.NAME, "limit", str(error), "shorten the lists or set a limit") from error
        names, said = prompt_grids.file_names(written), f"{len(written)} prompts in one run"
        if pick != ALL:
            if pick >= len(written):
                problem = f"there are {len(written)} prompts, 0 to {len(written) - 1}, and {pick} is asked for"
                cure = "write the first that is missing, 0 to begin anew, or -1 for all in one run"
                raise ReVersionError(cls.NAME, "pick", problem, cure)
            left = show_entry(cls, written, pick)
            said = f"Prompt {pick + 1} of {len(written)}: {written[pick]}" + (f"; {left}" if left else "")
            said += f"\n{time_left.bar(pick, len(written))}"
            written, names = [written[pick]], [names[pick]]
        cls._into_pictures(dict(zip(names, written, strict=True)))
        said = [said, *prompt_grids.oddities(template, lists["subjects"], lists["objects"])]
        shown = show_text(cls, "\n".join(said)).as_dict()
        return io.NodeOutput(written, names, ui=shown if pick == ALL else {**shown, "pick": [pick]})

    @classmethod
    def _into_pictures(cls, prompts):
        """Have Save Image write the prompts, by the names of their files, into the metadata of this run's pictures."""
        metadata = None if cls.hidden is None else cls.hidden.extra_pnginfo
        if metadata is None:
            return
        prompts = {**metadata.get("reversion_prompts", {}), **prompts}  # there may be several of this node
        if len(prompts) <= MOST_IN_METADATA:
            metadata["reversion_prompts"] = prompts

    @classmethod
    def _lists_of_file(cls, name, relation):
        """The lists of a relation in a file of the input folder; "": of the only relation there."""
        path = places.list_file(name, cls.NAME)
        try:
            known = prompt_grids.read_prompt_lists(path)
        except ValueError as error:
            problem = f"'{name}' holds no lists of prompts ({error})"
            cure = 'write {"on": {"subjects": ["cat"], "objects": ["stone"]}}'
            raise ReVersionError(cls.NAME, "list_file", problem, cure) from error
        if not relation and len(known) == 1:
            (relation,) = known
        if relation not in known:
            some = ", ".join(list(known)[:20])
            problem = f"'{name}' has no relation {relation[:60]!r}" if relation else f"'{name}' has several relations"
            raise ReVersionError(cls.NAME, "list_relation", problem, f"write one of {some}")
        return known[relation]
