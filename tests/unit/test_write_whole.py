"""Files that are written whole, by several writers at once."""

import threading

from reversion_core.store.files import write_whole


def test_writers_with_one_process_id_do_not_tear_each_others_files(tmp_path, monkeypatch):
    monkeypatch.setattr("os.getpid", lambda: 7)  # as on two machines that share a folder
    texts, failed = [bytes([letter]) * 100_000 for letter in b"abcd"], []

    def write(text):
        for _ in range(50):
            try:
                write_whole(tmp_path / "shared.bin", text)
            except OSError as error:
                failed.append(error)
            if (tmp_path / "shared.bin").read_bytes() not in texts:
                failed.append("torn")

    threads = [threading.Thread(target=write, args=(text,)) for text in texts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failed
    assert [path.name for path in tmp_path.iterdir()] == ["shared.bin"]
