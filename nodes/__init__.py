from comfy_api.latest import ComfyExtension

from .exemplars import ReVersionExemplars, ReVersionLoadExemplars
from .method import ReVersionFocalSampling, ReVersionSteering
from .relation import ReVersionApplyRelation, ReVersionLoadRelation, ReVersionSaveRelation
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
)


class ReVersionExtension(ComfyExtension):
    async def get_node_list(self):
        return list(NODES)


async def comfy_entrypoint():
    return ReVersionExtension()
