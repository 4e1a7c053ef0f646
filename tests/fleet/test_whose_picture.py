"""A picture lands only if this job made it, and a run ends only what it asked for."""

import io
import json
import shutil
import signal
import subprocess
import sys
import threading

import hostile
import numpy as np
import pytest
import safetensors.numpy
from PIL import Image
from running import GUARD, JOB, ROOT, RUN, address, command, relation_drawing, run_async, seeds

from fleet import answers, client, origin, simulated
from fleet.errors import HostFault, JobFailed


def pixels(out):
    (path,) = out.glob("*.png")
    return path, np.asarray(Image.open(path))


def test_a_lost_picture_is_drawn_again_and_not_taken_from_another_job_of_the_host(real_host, fleet, tmp_path):
    output, hosts = real_host.folder / "output", ("--host", address(real_host))
    shutil.rmtree(output)
    fleet(relation_drawing(2), seeds(2)[1:], *hosts)
    path, first = pixels(tmp_path / "out")
    path.unlink()
    shutil.rmtree(output)
    other = relation_drawing(2)
    other["picture-sample"]["inputs"]["seed"] = 77
    real_host.run(other)
    assert [file.name for file in output.rglob("*.png")] == ["picture_00001_.png"]  # the name of the lost one
    status, said, _ = fleet(relation_drawing(2), seeds(2)[1:], *hosts)
    assert status == 0, said
    again, second = pixels(tmp_path / "out")
    assert again == path and np.array_equal(first, second)
    assert json.loads(Image.open(again).info["prompt"])["picture-sample"]["inputs"]["seed"] == 1


def test_a_file_that_says_nothing_of_itself_counts_only_from_a_job_that_was_just_run():
    host, graph = hostile.Mute(), simulated.graph(0.0, filename="text_00001_.txt")

    async def twice(url):
        asking, counts = client.Client(url, RUN), []
        for _ in range(2):  # the second time the host's history has the job
            _, ((_, _, data),) = await asking.run(JOB, graph, True, 2**20)
            counts.append(len(host.submitted))
        await asking.close()
        return data, counts

    with hostile.serving(host) as url:
        assert run_async(twice(url)) == (b"text", [1, 2])


def png(graph):
    return simulated.picture(graph, 0)


def webp(graph):
    file, picture = io.BytesIO(), Image.new("RGB", (1, 1))
    exif = picture.getexif()
    exif[origin.EXIF_MODEL] = f"prompt:{json.dumps(graph)}"
    picture.save(file, "WEBP", exif=exif)
    return file.getvalue()


def latent(graph):
    return safetensors.numpy.save({"latent": np.zeros(1)}, metadata={"prompt": json.dumps(graph)})


@pytest.mark.parametrize(("suffix", "made"), [("png", png), ("webp", webp), ("latent", latent)])
def test_a_file_is_known_by_what_leads_to_its_node(suffix, made):
    graph = {
        "1": {"class_type": "Load", "inputs": {"name": "a"}},
        "2": {"class_type": "Save", "inputs": {"of": ["1", 0]}},
        "3": {"class_type": "Save", "inputs": {"of": ["1", 1], "prefix": "x"}},
    }
    data, name = made(graph), f"x.{suffix}"
    elsewhere = {**graph, "3": {"class_type": "Save", "inputs": {}}}
    assert origin.comes_from(data, name, elsewhere, "2") is True
    assert origin.comes_from(data, name, elsewhere, "3") is False
    assert origin.comes_from(data, name, {**graph, "1": {"class_type": "Load", "inputs": {"name": "b"}}}, "2") is False
    assert origin.comes_from(data, name, graph, "2.0.0.7") is True  # a node that the host made while it ran
    assert origin.comes_from(data, name, origin.marked(graph, {"2"}, "again"), "2") is False
    assert origin.comes_from(data, name, graph, "9") is False
    if suffix == "png":
        with pytest.raises(HostFault, match="the file is damaged"):
            origin.comes_from(data[:-20], name, graph, "2")


def test_a_host_may_not_name_any_number_of_files():
    file = {"filename": "x.png", "subfolder": "", "type": "output"}
    assert len(answers.saved_files({"1": {"images": [file] * 4096}})) == 4096
    with pytest.raises(JobFailed, match="the host names 4097 files"):
        answers.saved_files({"1": {"images": [file] * 4097}})


def heed_ctrl_c():
    """A shell has what it starts in the background ignore it, and so what that starts."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@pytest.mark.parametrize("first", ["mine", "other"])
def test_ctrl_c_of_one_user_leaves_the_equal_job_of_another_alone(fleet, tmp_path, first):
    """`other` is a process that is interrupted while it waits behind the equal job of this one, or draws before it."""
    host = hostile.Gated()
    (tmp_path / "other").mkdir()

    def until(count):
        while len(host.submitted) < count:
            threading.Event().wait(0.02)

    def other(url):
        until(1 if first == "mine" else 0)
        words = command(tmp_path / "other", simulated.graph(0.0), [{"number": 1}], "--host", url, out=tmp_path / "b")
        process = subprocess.Popen(
            [sys.executable, "-m", "fleet", *words], cwd=ROOT, stderr=subprocess.DEVNULL, preexec_fn=heed_ctrl_c
        )
        until(2 if first == "mine" else 1)
        if first == "other":
            begun.set()
            until(2)
        process.send_signal(signal.SIGINT)
        try:
            codes.append(process.wait(GUARD))
        finally:  # whatever happened to it, the job of this process goes on
            process.kill()
            host.released.set()

    codes, begun = [], threading.Event()
    with hostile.serving(host) as url:
        thread = threading.Thread(target=other, args=(url,))
        thread.start()
        if first == "other":
            begun.wait()
        status, said, lines = fleet(simulated.graph(0.0), [{"number": 1}], "--host", url)
        thread.join()
    assert codes == [130] and status == 0, said
    assert len(lines) == 1 and lines[0]["error"] is None
    assert len({data["prompt_id"] for data in host.submitted}) == 2
    assert not host.waiting  # what the other asked for is gone
