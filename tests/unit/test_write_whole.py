"""Files that are written whole, by several writers at once."""

import os
import threading

from reversion_core.store.files import write_whole


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
    threads = [threading.Thread(target=write, args=(text,)) for text in texts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failed
    assert (tmp_path / "shared.bin").read_bytes() in texts
    assert [path.name for path in tmp_path.iterdir()] == ["shared.bin"]
