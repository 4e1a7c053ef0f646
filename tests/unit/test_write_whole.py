"""Files that are written whole, by several writers at once."""

import os
import threading
import time

import pytest

from reversion_core.store import files
from reversion_core.store.files import check_writable, remove_old_partials, write_whole


def at_once(call, arguments):
    """Call a function with each of the arguments, all at once."""
    threads = [threading.Thread(target=call, args=(argument,)) for argument in arguments]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def test_writers_with_one_process_id_do_not_take_each_others_files(tmp_path, monkeypatch):
    both_have_written, replace, failed = threading.Barrier(2), os.replace, []

    def replace_after_both(*paths):
        both_have_written.wait(20)
        replace(*paths)

    def write(text):
        try:
            write_whole(tmp_path / "shared.bin", text)
        except OSError as error:
            failed.append(error)

    monkeypatch.setattr(os, "replace", replace_after_both)
    monkeypatch.setattr(os, "getpid", lambda: 7)  # as on two machines that share a folder
    texts = [b"a" * 1000, b"b" * 2000]
    at_once(write, texts)
    assert not failed
    assert (tmp_path / "shared.bin").read_bytes() in texts
    assert [path.name for path in tmp_path.iterdir()] == ["shared.bin"]


def test_processes_that_check_a_folder_at_once_do_not_refuse_each_other(tmp_path, monkeypatch):
    together, replace, failed = threading.Barrier(8), os.replace, []

    def replace_after_all(*paths):
        together.wait(20)
        replace(*paths)

    def check(_):
        try:
            check_writable(tmp_path)
        except OSError as error:
            failed.append(error)

    monkeypatch.setattr(os, "replace", replace_after_all)
    at_once(check, range(8))
    assert not failed and not list(tmp_path.iterdir())


@pytest.mark.parametrize("links", [True, False], ids=["", "a file system without links"])
def test_of_programs_that_save_a_new_file_at_once_one_does(tmp_path, monkeypatch, links):
    both_have_written, fsync, outcomes = threading.Barrier(2), os.fsync, []

    def fsync_both(descriptor):
        fsync(descriptor)
        both_have_written.wait(20)

    def refused(*paths):
        raise PermissionError("no links here")

    def write(text):
        try:
            write_whole(tmp_path / "new.bin", text, replace=False)
            outcomes.append(text)
        except FileExistsError:
            outcomes.append(None)

    monkeypatch.setattr(os, "fsync", fsync_both)
    if not links:
        monkeypatch.setattr(os, "link", refused)
    at_once(write, (b"a", b"b"))
    assert len(outcomes) == 2 and outcomes.count(None) == 1
    assert (tmp_path / "new.bin").read_bytes() in outcomes
    assert [path.name for path in tmp_path.iterdir()] == ["new.bin"]


@pytest.mark.parametrize("replace", [True, False])
def test_a_folder_that_is_none_is_no_file_that_is_there(tmp_path, replace):
    (tmp_path / "folder").symlink_to(tmp_path / "not mounted")
    with pytest.raises(NotADirectoryError):
        write_whole(tmp_path / "folder" / "file.bin", b"x", replace)


def test_who_waits_too_long_for_a_file_is_told(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "LONGEST_LOCK", 0.1)
    with files.lock(tmp_path / "table.csv"), pytest.raises(OSError), files.lock(tmp_path / "table.csv"):
        pass


def test_what_a_kill_left_is_removed_after_a_day_and_what_is_being_written_is_not(tmp_path):
    for name, age in ((".old.safetensors.ab.partial", 2 * 86_400), (".new.safetensors.cd.partial", 60)):
        (tmp_path / name).write_bytes(b"x")
        os.utime(tmp_path / name, (time.time() - age,) * 2)
    remove_old_partials(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [".new.safetensors.cd.partial"]
