"""The commands `run`, `table` and `scores`."""

import argparse
import csv
import os
import shlex
import sys
import traceback
from dataclasses import replace
from pathlib import Path

from .addresses import checked_url
from .errors import FleetError
from .local import Installation
from .terminal import complain, say

MEGABYTE = 2**20
SOME_FAILED, NOTHING_RUNS, BROKEN, STOPPED = 1, 2, 3, 130  # exit statuses


def run(arguments: argparse.Namespace) -> int:
    """Run a workflow for every row of a table; returns 0 where every job succeeded, else SOME_FAILED."""
    driver, tqdm = _installed()
    from . import workflow
    from .jobs import Jobs
    from .results import Results
    from .table_file import read_table

    data, table = workflow.read(arguments.workflow), read_table(arguments.table)
    on_canvas = workflow.is_canvas(data)
    jobs = None if on_canvas else Jobs(workflow.from_api(data), table.rows, table.numbers)
    urls, installation = [checked_url(text) for text in arguments.host], _installation(arguments)
    hosts = {}
    with Results(arguments.out) as results:
        done, unknown = results.done()
        try:
            gpus = driver.connect(arguments.cluster)
            common = {"run": results.run, "patience": arguments.patience, "limit": arguments.limit * MEGABYTE}
            for name, given in _hosts(arguments, urls, installation, gpus).items():
                hosts[name] = driver.actor(**common, **given)
            if on_canvas:
                schemas = driver.first_schemas(hosts, workflow.classes(data))
                jobs = Jobs(workflow.from_canvas(data, schemas), table.rows, table.numbers)
            first = {id_: i for i, id_ in reversed(list(enumerate(jobs.ids)))}
            todo = sorted(i for id_, i in first.items() if id_ not in done)
            _say_before(table, jobs, results, unknown)
            say(f"{len(table.rows)} rows, {len(first)} jobs, {len(first) - len(todo)} of them done before")
            with tqdm(total=len(todo), unit="job", smoothing=0.05) as bar:
                failed = driver.Run(hosts, jobs, todo, results, bar, arguments.rest).finish()
                return SOME_FAILED if failed else 0
        finally:
            driver.stop(list(hosts.values()))


def _installed():
    """What only a run needs: `driver`, which needs Ray, and the progress bar."""
    try:
        from tqdm import tqdm

        from . import driver
    except ImportError as error:
        raise FleetError(f"{error.name} is not installed: pip install -r fleet/requirements.txt") from error
    return driver, tqdm


def _say_before(table, jobs, results, unknown):
    """What the user should know of the table, the workflow and the manifest before jobs run."""
    for note in (table.note, *jobs.left_to_the_browser()):
        if note:
            say(note)
    if unknown:
        say(f"{results.manifest}: {unknown} lines are cut off or not of the fleet, and count for nothing")


def _installation(arguments):
    """The ComfyUI that hosts are started from, or None where none are."""
    if not (arguments.local or arguments.cluster):
        if not arguments.host:
            raise FleetError("say where to run: --host URL, --local N or --cluster ADDRESS")
        return None
    comfyui = arguments.comfyui or os.environ.get("COMFYUI_PATH")
    if not comfyui or not (arguments.cluster or Path(comfyui, "main.py").is_file()):
        raise FleetError("to start hosts, say with --comfyui or COMFYUI_PATH where a ComfyUI is installed")
    try:
        options = tuple(shlex.split(arguments.options))
    except ValueError as error:
        raise FleetError(f"--options {arguments.options!r}: {error}") from error
    return Installation(comfyui, arguments.base or comfyui, options, os.environ.get("OMP_NUM_THREADS"))


def _hosts(arguments, urls, installation, gpus):
    """Name -> what its actor is given."""
    hosts = {url: {"url": url} for url in urls}
    started = arguments.local or (gpus if arguments.cluster else 0)
    if installation and not started:
        raise FleetError("the cluster has no GPU; say with --local how many hosts it is to start")
    if gpus and started > gpus:
        raise FleetError(f"there are {gpus} GPUs for {started} hosts")
    for i in range(started):
        folder = None if arguments.cluster else str(Path(arguments.out, "hosts", str(i)).resolve())
        gpu = min(gpus, 1)
        given = installation if gpu else replace(installation, options=("--cpu", *installation.options))
        hosts[f"local {i}"] = {"installation": given, "folder": folder, "gpus": gpu}
    return hosts


def table(arguments: argparse.Namespace) -> int:
    """Write a ready table to standard output, in UTF-8 whatever the terminal; returns 0."""
    from . import ready_tables

    if arguments.which == "benchmark":
        rows = ready_tables.benchmark(
            arguments.relation, arguments.seeds, arguments.template, arguments.file, arguments.lists
        )
    else:
        rows = ready_tables.folders(arguments.folders)
    sys.stdout.reconfigure(encoding="utf-8")
    writer = csv.DictWriter(sys.stdout, rows[0], lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return 0


def scores(arguments: argparse.Namespace) -> int:
    """Put together what ReVersion Score measured in the jobs of a run; returns 0."""
    from .scores import put_together

    for sentence in put_together(arguments.folder):
        say(sentence)
    return 0


def seconds(text: str) -> float:
    """A finite time, for argparse."""
    if not 0 <= (value := float(text)) < float("inf"):
        raise ValueError(text)
    return value


def count(text: str) -> int:
    """A number from 1 on, for argparse."""
    if (value := int(text)) < 1:
        raise ValueError(text)
    return value


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m fleet", description="A workflow over many hosts; see README.md.")
    commands = parser.add_subparsers(required=True)
    running = commands.add_parser("run", help="run a workflow for every row of a table")
    running.set_defaults(command=run)
    running.add_argument("workflow", help="saved workflow, or API format")
    running.add_argument("table", help=".csv, or .jsonl with an object a line; its columns name inputs")
    running.add_argument("--out", required=True, help="folder of the results; the same one goes on where it was")
    running.add_argument("--host", action="append", default=[], help="a running ComfyUI: http://name:8188; repeatable")
    running.add_argument("--local", type=count, default=0, help="how many ComfyUIs to start, one a GPU where there are")
    running.add_argument("--cluster", help="address of a Ray cluster that starts them instead; 'auto' on its head")
    running.add_argument("--comfyui", help="folder of main.py for --local and --cluster; default: COMFYUI_PATH")
    running.add_argument("--base", help="their --base-directory: models, custom nodes, input; default: --comfyui")
    running.add_argument("--options", default="", help="more options of theirs, in one string")
    running.add_argument("--patience", type=seconds, default=120, help="seconds to wait for a host (%(default)s)")
    running.add_argument("--rest", type=seconds, default=30, help="seconds without jobs for a host on which they fail")
    running.add_argument("--limit", type=count, default=512, help="megabytes fetched for a job at most (%(default)s)")
    tables = commands.add_parser("table", help="write a ready table")
    tables.set_defaults(command=table)
    which = tables.add_subparsers(dest="which", required=True)
    benchmark = which.add_parser("benchmark", help="a relation's 100 prompts, with seeds")
    benchmark.add_argument("--relation", required=True)
    benchmark.add_argument("--seeds", type=count, default=10)
    benchmark.add_argument("--template", default="{subject} <R> {object}")
    benchmark.add_argument("--file", help="the relation's file, for a column 'relation'")
    benchmark.add_argument("--lists", help="a JSON file of lists instead of the pack's own, such as the authors'")
    folders = which.add_parser("folders", help="one relation a folder of the hosts' input folder")
    folders.add_argument("folders", nargs="+")
    scoring = commands.add_parser("scores", help="put together what ReVersion Score measured in a run")
    scoring.set_defaults(command=scores)
    scoring.add_argument("folder", help="the --out of the run")
    return parser


def main(words: list[str] | None = None) -> int:
    """Run a command; returns the exit status."""
    arguments = _parser().parse_args(words)
    try:
        return arguments.command(arguments)
    except FleetError as error:
        complain(error)
        return NOTHING_RUNS
    except KeyboardInterrupt:
        complain("stopped; the same command goes on")
        return STOPPED
    except Exception as error:
        complain(f"{traceback.format_exc()}\nan error in the fleet itself ({error!r}); the same command goes on")
        return BROKEN


if __name__ == "__main__":
    sys.exit(main())
