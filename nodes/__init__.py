from comfy_api.latest import ComfyExtension

from .exemplars import ReVersionExemplars, ReVersionLoadExemplars
from .method import ReVersionFocalSampling, ReVersionSteering
from .prompts import ReVersionPrompts
from .relation import ReVersionApplyRelation, ReVersionLoadRelation, ReVersionSaveRelation
from .sampling import ReVersionFocalGuider, ReVersionFocalScheduler
from .tools import ReVersionInspect, ReVersionScore
from .train import ReVersionTrain

NODES = (
    ReVersionLoadExemplars,
    ReVersionExemplars,
    ReVersionSteering,
    ReVersionFocalSampling,
    ReVersionTrain,
    ReVersionSaveRelation,
    ReVersionLoadRelation,
    ReVersionApplyRelation,
    ReVersionFocalScheduler,
    ReVersionFocalGuider,
    ReVersionPrompts,
    ReVersionInspect,
    ReVersionScore,
)


class ReVersionExtension(ComfyExtension):
    async def get_node_list(self):
        return list(NODES)


async def comfy_entrypoint():
    return ReVersionExtension()
