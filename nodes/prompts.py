"""Many prompts from one template, for queues."""

from comfy_api.latest import io

from ..reversion_core import prompts as prompt_grids
from ..reversion_core.errors import ReVersionError, check_choice
from ..reversion_core.prompts import OBJECT, SUBJECT

OWN_LISTS = "my own lists"


class ReVersionPrompts(io.ComfyNode):
    NAME = "ReVersion Prompts"

    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="ReVersionPrompts",
            display_name=cls.NAME,
            category="ReVersion/use",
            description="Writes every subject with every object into a template. Everything after this node runs once "
            "for each prompt.",
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
                    options=[OWN_LISTS, *prompt_grids.benchmark()],
                    default=OWN_LISTS,
                    tooltip="A relation of the ReVersion Benchmark: its 10 x 10 entities instead of your own lists.",
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

    @classmethod
    def execute(cls, template, subjects, objects, preset, limit, order_seed):
        lists = {"subjects": prompt_grids.lines_of(subjects), "objects": prompt_grids.lines_of(objects)}
        check_choice(preset, (OWN_LISTS, *prompt_grids.benchmark()), cls.NAME, "preset")
        if preset != OWN_LISTS:
            lists = prompt_grids.benchmark()[preset]
        for name, slot in (("subjects", SUBJECT), ("objects", OBJECT)):
            if not lists[name]:
                raise ReVersionError(cls.NAME, name, "the list is empty", "write one a line")
            if slot not in template and len(lists[name]) > 1:
                raise ReVersionError(cls.NAME, "template", f"{slot} is missing", f"write {slot} where the words go")
        written = prompt_grids.grid(template.strip(), lists["subjects"], lists["objects"], limit, order_seed)
        return io.NodeOutput(written, prompt_grids.file_names(written))
