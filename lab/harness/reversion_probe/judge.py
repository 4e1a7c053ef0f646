"""The judge of the drawn world as a custom node: another judge for ReVersion Score."""

import sys
from pathlib import Path


class ReVersionJudge:
    """A line a picture, of 0 or 1: are both entities of its prompt "red circle <R> blue star" seen, in the relation?"""

    CATEGORY = "tests"
    FUNCTION = "judge"
    INPUT_IS_LIST = True
    RETURN_TYPES = ("STRING",)

    @classmethod
    def INPUT_TYPES(cls):
        prompts = ("STRING", {"forceInput": True})
        return {"required": {"images": ("IMAGE",), "prompts": prompts, "relation": ("STRING", {"default": "inside"})}}

    def judge(self, images, prompts, relation):
        root = str(Path(__file__).resolve().parents[3])
        if root not in sys.path:
            sys.path.append(root)
        from lab.miniature import judge, world

        lines = ["picture,entity_score,relation_score"]
        for batch, prompt in zip(images, prompts, strict=True):
            pair = tuple(world.Entity(*words.split()) for words in prompt.split("<R>"))
            pictures = list((batch.clamp(0, 1) * 255).round().byte().numpy())
            seen = judge.measures(pictures, [pair] * len(pictures), relation[0])
            for entity, holds in zip(seen["entity"], seen["relation"], strict=True):
                lines.append(f"{len(lines)},{int(entity)},{int(holds)}")
        return ("\n".join(lines),)
