"""Stable Diffusion 3's form of the miniature in a real server: it draws its words, and learns a relation."""

from lab.harness import server
from lab.miniature.forms import FORMS
from lab.tools.demo import Demo
from reversion_core.store import relation as relation_files


def test_sd3_draws_its_words_and_learns_a_relation_that_can_be_used(tmp_path):
    form = FORMS["sd3"]
    with server.Server(tmp_path, "--cpu", checkpoints=[server.miniature(form)]) as running:
        demo = Demo(running, form, "above")
        demo.graph["train"]["inputs"] |= {"steps": 2, "batch_size": 1}
        demo.learn()
        assert demo.scores(demo.draw("above", 4))["relation"] >= 0.5
        assert len(demo.draw("<R>", 1)) == 1
    learned = relation_files.load(tmp_path / "models" / "embeddings" / "demo.safetensors")
    assert learned.family == "SD 3.x" and learned.metadata["reversion.steps_done"] == "2"
