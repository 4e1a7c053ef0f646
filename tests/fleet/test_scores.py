"""What ReVersion Score measured on many hosts is one table."""

import csv
import json

import torch
from running import ROOT, address

from fleet.__main__ import main
from lab.harness import server, tiny_clip
from lab.tools import beyond, groups
from reversion_core.store.relation import Relation, save

SHOWN = "Relation 0.9 (0.1 to 1), entity 1, 90 pictures of 9 prompts.\nSaved as output/reversion/s.csv.\nOf this Run:\n"


def line(job, texts, error=None):
    return json.dumps({"job": job, "texts": texts, "error": error})


def test_the_scores_of_all_jobs_are_put_together_and_each_counts_once(tmp_path, capsys):
    first = f"{SHOWN}0.2000  0.0100  cat <R> stone\n0.4000  -0.0300  cat <R> stone\n0.3000  -0.0100  mean"
    second = f"{SHOWN}0.6000  0.0500  dog <R> stone\n0.6000  0.0500  dog <R> stone\n0.6000  0.0500  mean"
    lines = [
        line("a" * 32, {"9": first, "1": "Prompt 1 of 2: cat <R> stone"}),
        line("a" * 32, {"9": first}),  # done again, for a file that was gone
        line("b" * 32, {"9": "0.9000  0.9000  dog <R> stone"}, "the host gives no reason"),
        line("b" * 32, {"9": second}),
        line("c" * 32, {"9": second})[:50],
        "[]",
    ]
    (tmp_path / "manifest.jsonl").write_text("\n".join(lines))
    assert main(["scores", str(tmp_path)]) == 0
    said = capsys.readouterr()
    assert "node 9: relation 0.020, entity" in said.out + said.err and "4 pictures of 2 prompts" in said.out + said.err
    with (tmp_path / "scores-9.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [float(row["relation_score"]) for row in rows[:5]] == [0.01, -0.03, 0.05, 0.05, 0.02]
    assert [row["prompt"] for row in rows[2:]] == ["dog <R> stone"] * 2 + ["mean", "95% from", "95% to"]


def test_a_run_without_scores_is_a_sentence(tmp_path, capsys):
    for content in (None, line("a" * 32, {"1": "100 prompts in one run"})):
        if content:
            (tmp_path / "manifest.jsonl").write_text(content)
        assert main(["scores", str(tmp_path)]) == 2
    said = capsys.readouterr().err
    assert "No such file" in said and "no job of this run showed scores" in said


def test_the_template_runs_over_its_prompts_as_it_is(real_host, fleet, tmp_path, capsys):
    models = real_host.folder / "models"
    tiny_clip.write(models / "clip_vision" / beyond.CLIP_FOLDER)
    save(Relation({"clip_l": torch.full((1, 768), 0.01)}), models / "embeddings" / f"{groups.NAME}.safetensors")
    workflow = json.loads((ROOT / "workflows" / "measure_a_relation.json").read_text(encoding="utf-8"))
    quick = {"ckpt_name": server.CHECKPOINT, "width": 64, "height": 64, "steps": 1, "batch_size": 2}
    rows = [{"pick": pick, **quick} for pick in range(3)]
    status, said, lines = fleet(workflow, rows, "--host", address(real_host))
    assert status == 0, said
    assert sum(len(line["outputs"]) for line in lines) == 6
    assert main(["scores", str(tmp_path / "out")]) == 0
    said = capsys.readouterr()
    assert "6 pictures of 3 prompts" in said.out + said.err
    # On one host its own table says the same.
    (theirs,) = (tmp_path / "out").glob("scores-*.csv")
    own = real_host.folder / "output" / "reversion" / f"{groups.NAME}-scores.csv"
    tables = [list(csv.reader(path.open(newline=""))) for path in (theirs, own)]
    assert sorted(row[:3] for row in tables[0][1:7]) == sorted(row[:3] for row in tables[1][1:7])
    assert tables[0][7][:3] == tables[1][7][:3] and tables[0][7][0] == "mean"
