"""Runs through real hosts with the miniature: hosts and runs that are killed, jobs that fail."""

import os
import subprocess
import sys
import threading
import time

import psutil
from running import ROOT, address, assert_each_once, command, relation_drawing, seeds, wait_for_lines

from fleet.results import Results
from lab.harness import comfyui, graphs, server


def processes(folder):
    """The hosts that write into a folder, or one below it: process id by its options."""
    found = [process for process in psutil.process_iter(["cmdline"]) if process.info["cmdline"]]
    return [p for p in found if any(word.startswith(f"{folder}{os.sep}") for word in p.info["cmdline"])]


class KillInTheMiddle:
    """Stands in for Results.land. The host that lands first is killed at its next job, while the other one is frozen
    until the killed one has come back: in whatever order things happen, the run cannot end before."""

    def __init__(self, land, hosts):
        self.land, self.hosts = land, hosts
        self.victim = self.killer = None
        self.landed = 0

    def __call__(self, results, job, inputs, host, outcome):
        self.land(results, job, inputs, host, outcome)
        if self.victim is None:
            self.victim = host
            while len(processes(self.hosts)) < 2:
                time.sleep(0.05)
            (self.process,) = processes(self.hosts / host.removeprefix("local "))
            self.frozen = [other for other in processes(self.hosts) if other != self.process]
            for other in self.frozen:
                other.suspend()
            self.killer = threading.Thread(target=self.kill)
            self.killer.start()
        elif host == self.victim:
            self.landed += 1
            self.killer.join()
            if self.landed == 2:  # at most one of these was done before the kill
                for other in self.frozen:
                    other.resume()

    def kill(self):
        log = self.hosts / self.victim.removeprefix("local ") / "log.txt"
        while log.read_text().count("got prompt") < 2:
            time.sleep(0.01)
        self.process.kill()


def test_kill_9_of_one_of_two_hosts_loses_nothing_and_doubles_nothing(fleet, tmp_path, monkeypatch):
    base, out = server.prepare(tmp_path / "base"), tmp_path / "out"
    monkeypatch.setenv("COMFYUI_PATH", str(comfyui.path()))
    killing = KillInTheMiddle(Results.land, out / "hosts")
    monkeypatch.setattr(Results, "land", lambda *given: killing(*given))
    options = f"--disable-all-custom-nodes --whitelist-custom-nodes {server.PACK}"
    status, said, lines = fleet(
        relation_drawing(10), seeds(8), "--local", "2", "--base", str(base), "--options", options, out=out
    )
    assert status == 0
    assert_each_once(out, 8)
    assert said.count(" was lost: ") == 1 and f"{killing.victim} was lost: " in said
    assert sum(line["host"] == killing.victim for line in lines) >= 3, "the dead host was not started again"
    assert not processes(out / "hosts")


def test_a_killed_run_goes_on_without_asking_for_a_picture_again(real_host, fleet, tmp_path):
    out, asked = tmp_path / "out", real_host.log.read_text().count("got prompt")
    words = command(tmp_path, relation_drawing(10), seeds(5), "--host", address(real_host), out=out)
    stopped = subprocess.Popen([sys.executable, "-m", "fleet", *words], cwd=ROOT, stderr=subprocess.DEVNULL)
    wait_for_lines(out, 2)
    stopped.kill()
    stopped.wait()
    status, said, _ = fleet(relation_drawing(10), seeds(5), "--host", address(real_host), out=out)
    assert status == 0 and "of them done before" in said and "5 jobs, 0 of them" not in said
    assert_each_once(out, 5)
    assert real_host.log.read_text().count("got prompt") - asked == 5


def test_a_failing_job_is_told_in_the_hosts_words_and_the_others_go_on(real_host, fleet):
    rows = [{"sampler_name": name, "seed": 70} for name in ("euler", "nonsense", "heun")]
    status, said, lines = fleet(relation_drawing(1), rows, "--host", address(real_host))
    assert status == 1
    errors = {line["inputs"]["sampler_name"]: line["error"] for line in lines}
    assert errors["euler"] is None and errors["heun"] is None
    assert "node picture-sample (KSampler): Value not in list" in errors["nonsense"] and errors["nonsense"] in said


def test_folders_are_learned_one_by_one_with_a_sheet_each(real_host, fleet, tmp_path):
    from lab.miniature.exemplars import write_exemplars

    for relation in ("inside", "above"):
        write_exemplars(real_host.folder / "input" / relation, relation, count=4)
    graph = graphs.learn("", preset="fast", steps=1, batch_size=1) | {
        "save": graphs.node("ReVersionSaveRelation", relation=["train", 0], name="", overwrite=True),
        "apply": graphs.node(
            "ReVersionApplyRelation", clip=["checkpoint", 1], relation=["train", 0], placeholder="<R>", strength=1.0
        ),
        "prompts": graphs.node(
            "ReVersionPrompts",
            template="{subject} <R> {object}",
            subjects="red circle\nblue star",
            objects="green square",
            preset="my own lists",
            limit=0,
            order_seed=0,
        ),
    }
    graph |= graphs.draw("sheet", ["prompts", 0], 1, clip=("apply", 0), steps=1)
    graph["grid"] = graphs.node(
        "ImageGrid", images=["sheet-picture", 0], columns=2, cell_width=64, cell_height=64, padding=0
    )
    graph["sheet"]["inputs"]["images"] = ["grid", 0]
    from fleet import ready_tables

    status, said, lines = fleet(graph, ready_tables.folders(["inside", "above"]), "--host", address(real_host))
    assert status == 0, said
    assert [len(line["outputs"]) for line in lines] == [1, 1]
    for name in ("inside", "above"):
        assert (real_host.folder / "models" / "embeddings" / f"{name}.safetensors").exists()


def test_a_host_does_not_outlive_what_started_it(tmp_path):
    (tmp_path / "sleeping.py").write_text("import time\ntime.sleep(60)\n")
    process = subprocess.Popen(
        [sys.executable, ROOT / "fleet" / "child_process.py", tmp_path / "sleeping.py"], stdin=subprocess.PIPE
    )
    process.stdin.close()
    assert process.wait(20) == 1
