"""`python -m lab.bench.memory_table`: will it fit? Pictures at once of each family, by the memory of the graphics card.

Networks and text encoders of the real widths stand on torch's meta device, which knows sizes and computes nothing: no
checkpoint is read, and no card is needed. `--publish` writes docs/memory.md, and the table in the help of ReVersion
Train, in each language.
"""

import argparse
import importlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch

from lab.bench import widths
from lab.bench.markdown import markdown_table
from lab.harness import comfyui
from lab.tools import help_pages
from reversion_core.store.files import write_whole

PUBLISHED = comfyui.ROOT / "docs" / "memory.md"
IN_HELP = ("SD 1.x", "SD 2.x", "SDXL")
CARDS = (6, 8, 12, 16, 24)  # GB
USABLE_SHARE = 0.9  # of a card; the rest is the driver's, the screen's and the host's
LARGEST_COUNT_SHOWN = 32  # pictures at once that are still told apart


class Words(NamedTuple):
    """heading: of the section of a help page that holds the table; the others: what the table says there, in_turns with
    the number of pictures."""

    heading: str
    pictures: str = "pictures of"
    no: str = "no"
    in_turns: str = "{} in turns"


ENGLISH = Words("Will it fit?")
HELP_WORDS = {help_pages.ENGLISH: ENGLISH, "zh": Words("显存够吗？", "图片尺寸", "不行", "轮流 {}")}


@dataclass(frozen=True)
class Need:
    """Bytes that one family takes at one size.

    network, text: weights, those of CLIP with the copies that training makes; kept: of autograd for a picture;
    recomputed: the same with gradient checkpointing; kept_of_text: of autograd for the text encoders.
    """

    name: str
    side: int
    network: int
    text: int
    kept: int
    recomputed: int
    kept_of_text: int = 0

    def pictures(self, card: int, checkpointing: bool) -> int:
        """How many pictures at once fit on a card of so many GB."""
        free = USABLE_SHARE * card * 1e9 - self.network - self.text - self.kept_of_text
        return max(int(free // (self.recomputed if checkpointing else self.kept)), 0)

    def pictures_in_turns(self, card: int) -> int:
        """The same with gradient checkpointing, where network and text encoders are on the card one at a time."""
        free = USABLE_SHARE * card * 1e9
        return 0 if self.text > free else max(int((free - self.network) // self.recomputed), 0)


def _text_bytes_of(target: Any, a_weight: int) -> int:
    """Bytes of the text encoders of a host's ClipTarget: their weights, and the float32 copies that training makes of
    CLIP's but for the table of tokens. a_weight: bytes of each that is loaded."""
    from comfy.sd1_clip import SDClipModel

    encoder = target.clip(device=torch.device("meta"), dtype=torch.float16, model_options={})
    total = a_weight * sum(weight.numel() for weight in encoder.parameters())
    for part in encoder.modules():
        if isinstance(part, SDClipModel) and hasattr(part.transformer, "text_model"):
            table = part.transformer.get_input_embeddings().weight.numel()
            total += 4 * (sum(weight.numel() for weight in part.transformer.parameters()) - table)
    return total


def _text_module(row: widths.Width) -> Any:
    return importlib.import_module(f"comfy.text_encoders.{row.text[0]}") if row.text else None


def _text_bytes(row: widths.Width, config: Any) -> int:
    import comfy.supported_models_base

    if not row.text:
        return _text_bytes_of(config.clip_target({}), row.text_bytes)
    made, tokenizer = (getattr(_text_module(row), name) for name in row.text[1:])
    if row.text_options is not None:
        made = made(**row.text_options)
    return _text_bytes_of(comfy.supported_models_base.ClipTarget(tokenizer, made), row.text_bytes)


def _conditions(base: Any, row: widths.Width, latents: torch.Tensor, side: int) -> dict[str, Any]:
    """What the host gives the network beside one picture, in zeros."""
    features = {"cross_attn": torch.zeros(1, row.tokens, row.context), "attention_mask": None}
    features["pooled_output"] = torch.zeros(1, row.pooled) if row.pooled else None
    features |= {"width": side, "height": side, "prompt_type": "positive", **row.conds}
    conds = base.extra_conds(noise=latents, device=latents.device, **features)
    return {n: c.process_cond(batch_size=1, device=latents.device, area=None).cond for n, c in conds.items()}


def need(row: widths.Width, side: int) -> Need | None:
    """What a family needs at a size; None where the host does not have it."""
    import comfy.supported_models

    from reversion_core.host import plan

    kind = getattr(comfy.supported_models, row.kind, None)
    if kind is None or not all(hasattr(_text_module(row), name) for name in row.text[1:]):
        return None
    config = kind(widths.known(dict(row.network)))
    stored, computed = torch.float8_e4m3fn if row.fp8 else row.dtype, row.dtype if row.fp8 else None
    config.set_inference_dtype(stored, computed)
    base = config.get_model({}, device=torch.device("meta"))
    base.diffusion_model.to(stored)
    latents = torch.zeros(1, *row.latents(side))
    conditions = _conditions(base, row, latents, side)
    kept = plan.kept_of_picture(base, latents.shape[1:], conditions)
    network = stored.itemsize * sum(weight.numel() for weight in base.diffusion_model.parameters())
    return Need(row.name, side, network, _text_bytes(row, config), *kept, plan.OF_TEXT)


def _cell(found: Need, card: int, words: Words) -> str:
    plain, thrifty, apart = found.pictures(card, False), found.pictures(card, True), found.pictures_in_turns(card)
    if not thrifty:
        return words.in_turns.format(_counted(apart)) if apart else words.no
    return f"{min(plain, LARGEST_COUNT_SHOWN) or '-'} / {_counted(thrifty)}"


def _counted(pictures: int) -> str:
    return f"{LARGEST_COUNT_SHOWN}+" if pictures > LARGEST_COUNT_SHOWN else str(pictures)


SIZES = {"network": "network", "text": "text encoders", "kept": "a picture", "recomputed": "recomputed"}


def table(found: Sequence[Need], sizes: dict[str, str], words: Words = ENGLISH) -> str:
    """Markdown, a row a family and size. sizes: fields of Need that are shown -> title of their column."""
    titles = [words.pictures, *sizes.values(), *(f"{card} GB" for card in CARDS)]
    rows = []
    for each in found:
        shown = [f"{getattr(each, name) / 1e9:.2f} GB" for name in sizes]
        rows.append([each.name, str(each.side), *shown, *(_cell(each, card, words) for card in CARDS)])
    return markdown_table(titles, rows)


_PAGE = """# Will it fit?

How many pictures ReVersion Train can take at once, by the memory of the graphics card: without gradient checkpointing /
with it. Checkpointing takes more time; `memory: low` uses it with one picture at a time, and a training that finds too
little memory begins with it or falls back to it by itself. "in turns": network and text encoders do not fit together,
and change places twice an update. "no": not even one picture fits beside the network.

`python -m lab.bench.memory_table --publish`, ComfyUI {host}, torch {torch}: counted, not measured; nothing here
ran on a graphics card. A tenth of the card is left to the driver and the screen. Weights are in half precision but
where it says fp8; the preset `paper` and `precision: fp32` keep a copy of the network of twice its size besides. "A
picture" is what is kept of the network until the gradient is known; 0.3 GB are left for what is kept of the text
encoders (CLIP's of all captions of an update, larger ones' of a caption). PixArt is left out: its attention cannot be
counted without a card.

The table is of cards with fused attention. Apple's chips and some of AMD's cards have none, so that a picture keeps
three to four times as much (SD 1.x at 512: 3.1 GB instead of 0.7; with checkpointing 0.8 instead of 0.2), which a
training counts.

{table}
"""


def page(found: Sequence[Need]) -> str:
    """docs/memory.md."""
    import comfyui_version

    return _PAGE.format(
        host=comfyui_version.__version__,
        torch=torch.__version__,
        table=table(found, SIZES),
    )


def with_help(text: str, language: str, found: Sequence[Need]) -> str:
    """A help page with the table of the families in `IN_HELP` written anew; the words around it are kept."""
    words = HELP_WORDS[language]
    rows = table([each for each in found if each.name in IN_HELP], {}, words)
    section = re.compile(rf"(\n## {re.escape(words.heading)}\n.*?)^\|.*?\n(?=\n## )", re.DOTALL | re.MULTILINE)
    return section.sub(lambda found: f"{found[1]}{rows}\n", text, count=1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--publish", action="store_true", help="write docs/memory.md and the help of ReVersion Train")
    arguments = parser.parse_args()
    comfyui.make_importable()
    found = [each for row in widths.WIDTHS for side in row.sides if (each := need(row, side))]
    text = page(found)
    if arguments.publish:
        write_whole(PUBLISHED, text.encode())
        for language in HELP_WORDS:
            path = help_pages.page_path("ReVersionTrain", language)
            write_whole(path, with_help(path.read_text(encoding="utf-8"), language, found).encode())
    print(text)  # noqa: T201


if __name__ == "__main__":
    main()
