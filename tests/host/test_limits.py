"""Numbers that come by link are held to the limits of the widget."""

import math

import pytest


def nodes(reversion):
    from reversion_pack.nodes import NODES

    return {node.define_schema().node_id: node for node in NODES}


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 3e38, -1, "1", None])
@pytest.mark.parametrize(
    ("name", "given"),
    [
        ("ReVersionSteering", {"weight": 0.01, "temperature": 0.07, "positives": 4, "swap": 0.0}),
        ("ReVersionFocalSampling", {"alpha": 0.5, "lowest_timestep": 0, "highest_timestep": 999}),
        ("ReVersionFocalScheduler", {"steps": 20, "alpha": 0.5, "denoise": 1.0}),
        ("ReVersionFocalGuider", {"cfg": 7.5, "strength": 11.0, "alpha": 0.5}),
        ("ReVersionApplyRelation", {"strength": 1.0}),
        ("ReVersionInspect", {"words": 10}),
        ("ReVersionPrompts", {"limit": 0, "order_seed": 0}),
        ("ReVersionTrain", {"steps": 0, "learning_rate": 0.0, "vectors": 1, "previews": 0, "training_seed": 0}),
    ],
)
def test_what_is_no_number_within_the_limits_is_refused_first(reversion, core, name, given, value):
    node = nodes(reversion)[name]
    parameters = [port.id for port in node.define_schema().inputs]
    choices = {"preset": "balanced", "memory": "auto", "law": "focal", "prior": "preset", "autosave": 50}
    known = {p: choices.get(p) for p in parameters} | {"batch_size": 0, "accumulation": 0} | given
    known = {p: known[p] for p in parameters}
    for wrong in given:
        said = f"{node.NAME}, input '{wrong}': .* is not a (whole )?number"
        with pytest.raises(core.errors.ReVersionError, match=said):
            node.execute(**{**known, wrong: value})
