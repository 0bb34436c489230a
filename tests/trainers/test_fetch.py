"""Downloads from a loopback server that stands for the publishers, with small archives in the true formats."""

from __future__ import annotations

import gzip
import hashlib
import http.server
import re
import shutil
import tarfile
import threading
import warnings
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torchvision

from trainers.config import TrainConfig
from trainers.data import download, published
from trainers.data.sources import DataError, check_present, load_test
from trainers.fetch import BY_HAND, KNOWN, main

Write = Callable[..., Path]

pytestmark = pytest.mark.filterwarnings("ignore:.* published (images|samples|ones)")


class Publisher(http.server.ThreadingHTTPServer):
    """Serves files by name; `cut` ends the next responses after so many bytes of the file; `ranges` lists requests."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.files: dict[str, bytes] = {}
        self.cut: list[int] = []
        self.ranges: list[tuple[str, str | None]] = []
        self.takes_ranges = True

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/"


class _Handler(http.server.BaseHTTPRequestHandler):
    server: Publisher

    def do_GET(self) -> None:
        name, asked = self.path.strip("/"), self.headers.get("Range")
        self.server.ranges.append((name, asked))
        content = self.server.files.get(name)
        if content is None:
            return self.send_error(404)
        start = int(asked.removeprefix("bytes=").rstrip("-")) if asked and self.server.takes_ranges else 0
        if start and start >= len(content):
            return self.send_error(416)
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(content) - start))
        self.end_headers()
        self.wfile.write(content[start : self.server.cut.pop(0) if self.server.cut else None])

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def publisher(monkeypatch: pytest.MonkeyPatch) -> Iterator[Publisher]:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with Publisher() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def md5(content: bytes) -> str:
    return hashlib.md5(content, usedforsecurity=False).hexdigest()


@pytest.fixture
def cifar_archive(write_cifar: Write, tmp_path: Path) -> Path:
    folder = write_cifar(tmp_path / "made")
    path = tmp_path / "cifar-10-python.tar.gz"
    with tarfile.open(path, "w:gz") as archive:
        archive.add(folder, folder.name)
    return path


@pytest.fixture
def cifar(publisher: Publisher, cifar_archive: Path, monkeypatch: pytest.MonkeyPatch) -> bytes:
    """Offers a small CIFAR-10; returns the archive's bytes."""
    content = cifar_archive.read_bytes()
    publisher.files["cifar-10-python.tar.gz"] = content
    monkeypatch.setattr(torchvision.datasets.CIFAR10, "url", f"{publisher.url}cifar-10-python.tar.gz")
    monkeypatch.setattr(torchvision.datasets.CIFAR10, "tgz_md5", md5(content))
    return content


def config(name: str, root: Path) -> TrainConfig:
    keys = {"dataset": name, "data_dir": str(root), "model": "spikformer_cifar", "epochs": 1}
    return TrainConfig.model_validate(keys)


def fetch(*words: object) -> int:
    return main([str(word) for word in words])


def test_a_fetched_archive_is_unpacked_where_trainings_find_it(
    publisher: Publisher, cifar: bytes, tmp_path: Path
) -> None:
    root = tmp_path / "data"
    assert fetch("cifar10", "--data-dir", root) == 0
    assert len(load_test(config("cifar10", root))) == 20
    assert sorted(path.name for path in root.rglob("*.tar.gz*")) == [], "the archive is not kept"
    publisher.ranges.clear()
    assert fetch("cifar10", "--data-dir", root) == 0
    assert publisher.ranges == [], "data that is present is not downloaded again"


@pytest.mark.parametrize(("name", "folder"), [("mnist", "MNIST"), ("fashion_mnist", "FashionMNIST")])
def test_the_second_mirror_gives_what_the_first_lacks(
    publisher: Publisher, write_mnist: Write, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str, folder: str
) -> None:
    made = {f"{path.name}.gz": gzip.compress(path.read_bytes()) for path in write_mnist(tmp_path, folder).iterdir()}
    publisher.files |= {f"two/{file}": content for file, content in made.items()}
    theirs = getattr(torchvision.datasets, folder)
    monkeypatch.setattr(theirs, "mirrors", [f"{publisher.url}one/", f"{publisher.url}two/"])
    monkeypatch.setattr(theirs, "resources", [(file, md5(content)) for file, content in made.items()])
    assert fetch(name, "--data-dir", tmp_path / "data") == 0
    for path in (tmp_path / folder / "raw").iterdir():
        assert (tmp_path / "data" / folder / "raw" / path.name).read_bytes() == path.read_bytes()
    assert len([1 for asked, _ in publisher.ranges if asked.startswith("one/")]) == 4, (
        "a missing file is asked for once"
    )


def test_an_interrupted_download_is_continued_where_it_ended(
    publisher: Publisher, cifar: bytes, tmp_path: Path
) -> None:
    publisher.cut = [1000, 3000]
    assert fetch("cifar10", "--data-dir", tmp_path / "data") == 0
    assert [asked for _, asked in publisher.ranges] == [None, "bytes=1000-", "bytes=3000-"]
    check_present(config("cifar10", tmp_path / "data"))


def test_a_later_command_continues_a_download_too(
    publisher: Publisher, cifar: bytes, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    publisher.cut = [1000 * i for i in range(1, download.ROUNDS + 1)]
    assert fetch("cifar10", "--data-dir", tmp_path / "data") == 4
    error = capsys.readouterr().err
    assert f"the connection ended after 3,000 of {len(cifar):,} bytes" in error
    assert f"run `python -m trainers.fetch cifar10 --data-dir {tmp_path}/data` again, which continues" in error
    publisher.ranges.clear()
    assert fetch("cifar10", "--data-dir", tmp_path / "data") == 0
    assert publisher.ranges[0][1] == "bytes=3000-"


def test_a_server_without_ranges_sends_the_whole_file_again(publisher: Publisher, cifar: bytes, tmp_path: Path) -> None:
    publisher.cut, publisher.takes_ranges = [1000], False
    assert fetch("cifar10", "--data-dir", tmp_path) == 0


@pytest.mark.parametrize("left", [b"of another file" * 1000, b""])
def test_a_partial_file_that_does_not_fit_is_replaced(
    publisher: Publisher, cifar: bytes, tmp_path: Path, left: bytes
) -> None:
    (tmp_path / "download").mkdir()
    (tmp_path / "download" / "cifar-10-python.tar.gz.part").write_bytes(left or cifar)
    assert fetch("cifar10", "--data-dir", tmp_path) == 0
    check_present(config("cifar10", tmp_path))


def test_a_wrong_checksum_leaves_nothing_behind(
    publisher: Publisher, cifar: bytes, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    publisher.files["cifar-10-python.tar.gz"] = cifar + b"?"
    assert fetch("cifar10", "--data-dir", tmp_path / "data") == 4
    error = capsys.readouterr().err
    assert f"its MD5 sum is not the published one, {md5(cifar)}" in error
    assert [path for path in (tmp_path / "data").rglob("*") if path.is_file()] == []
    assert len(publisher.ranges) == 1


def test_without_a_server_the_sentence_names_address_and_command(
    monkeypatch: pytest.MonkeyPatch, publisher: Publisher, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(torchvision.datasets.CIFAR10, "url", "http://127.0.0.1:9/cifar-10-python.tar.gz")
    assert fetch("cifar10", "digits", "--data-dir", tmp_path) == 4
    printed = capsys.readouterr()
    assert "http://127.0.0.1:9/cifar-10-python.tar.gz: URLError" in printed.err
    assert printed.err.count("\n") == 1
    assert "digits: comes with scikit-learn" in printed.out, "the other data sets are still fetched"


def test_an_archive_that_is_there_is_taken_under_any_name(
    cifar_archive: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mine = cifar_archive.rename(tmp_path / "my.tar.gz")
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        assert fetch("cifar10", "--data-dir", tmp_path / "data", "--from", mine) == 0
    assert "my.tar.gz differ from the published ones (MD5)" in capsys.readouterr().err
    check_present(config("cifar10", tmp_path / "data"))
    assert mine.is_file()


def test_an_archive_in_the_folder_is_not_downloaded_again(
    publisher: Publisher, cifar: bytes, cifar_archive: Path
) -> None:
    assert fetch("cifar10", "--data-dir", cifar_archive.parent) == 0
    assert publisher.ranges == []
    assert cifar_archive.is_file()
    check_present(config("cifar10", cifar_archive.parent))


@pytest.mark.parametrize("packed", [True, False])
def test_a_folder_of_archives_is_taken(write_mnist: Write, tmp_path: Path, packed: bool) -> None:
    folder = write_mnist(tmp_path)
    for path in list(folder.iterdir()) if packed else []:
        (folder / f"{path.name}.gz").write_bytes(gzip.compress(path.read_bytes()))
        path.unlink()
    assert fetch("mnist", "--data-dir", tmp_path / "data", "--from", folder) == 0
    assert len(load_test(config("mnist", tmp_path / "data"))) == 40


@pytest.mark.parametrize("name", ["cifar10_dvs", "dvs128_gesture", "n_caltech101"])
def test_event_sets_are_unpacked_where_trainings_find_them(write_events: Write, tmp_path: Path, name: str) -> None:
    folder, packed = (
        write_events(tmp_path / "made", name, count=1 if name == "n_caltech101" else 2),
        tmp_path / "packed",
    )
    packed.mkdir()
    if name == "cifar10_dvs":
        for label in folder.iterdir():
            shutil.make_archive(str(packed / label.name), "zip", folder, label.name)
    else:
        kind, stem = ("gztar", "DvsGesture") if name == "dvs128_gesture" else ("zip", "Caltech101")
        shutil.make_archive(str(packed / stem), kind, folder.parent, folder.name)
    assert fetch(name, "--data-dir", tmp_path / "data", "--from", *packed.iterdir()) == 0
    check_present(config(name, tmp_path / "data"))


def test_tiny_imagenet_becomes_folders_of_classes(
    publisher: Publisher, write_images: Write, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    made = write_images(tmp_path / "tiny-imagenet-200", 2, 5)
    (made / "val" / "images").mkdir()
    lines = []
    for path in sorted(made.glob("val/n*/*")):
        image = f"{path.parent.name}_{path.name}"
        path.rename(made / "val" / "images" / image)
        lines.append(f"{image}\t{path.parent.name}\t0\t0\t62\t62\n")
    for folder in made.glob("val/n*"):
        folder.rmdir()
    (made / "val" / "val_annotations.txt").write_text("".join(lines))
    content = Path(shutil.make_archive(str(tmp_path / "tiny"), "zip", tmp_path, made.name)).read_bytes()
    publisher.files["tiny"] = content
    file = download.RemoteFile("tiny-imagenet-200.zip", (f"{publisher.url}tiny",), md5(content))
    monkeypatch.setattr(published, "TINY_IMAGENET", file)
    assert fetch("tiny_imagenet", "--data-dir", tmp_path / "data") == 0
    found = config("imagefolder", tmp_path / "data" / "tiny-imagenet-200").model_copy(
        update={"num_classes": 2, "val_fraction": 0.0}
    )
    check_present(found)
    assert load_test(found).labels.tolist() == [0] * 5 + [1] * 5
    publisher.ranges.clear()
    assert fetch("tiny_imagenet", "--data-dir", tmp_path / "data") == 0
    assert publisher.ranges == []


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["cifr10"], "unknown data set (got 'cifr10')"),
        (["cifar10", "mnits"], "Did you mean mnist?"),
        (["imagefolder"], "imagefolder: holds your own images"),
        (["cifar10", "mnist", "--from", "x"], "--from goes with one data set (got cifar10, mnist)"),
        (["cifar10", "--from", "x.tar.gz"], "--from x.tar.gz: no such file"),
        (["mnist", "--from", __file__], "train-images-idx3-ubyte.gz, train-labels-idx1-ubyte.gz, t10k-images"),
        ([], "DATASET"),
    ],
)
def test_wrong_words_are_the_users_input(
    words: list[str], text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    try:
        code = fetch(*words, "--data-dir", tmp_path)
    except SystemExit as error:
        code = error.code
    assert code == 2
    assert text in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("content", [b"<html>404</html>", b""])
def test_a_damaged_archive_is_reported_in_one_sentence(
    content: bytes, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "cifar-10-python.tar.gz"
    path.write_bytes(content)
    assert fetch("cifar10", "--data-dir", tmp_path / "data", "--from", path) == 4
    assert re.search(rf"cifar10: {path} cannot be unpacked \(ReadError: .*\); get it again\n", capsys.readouterr().err)


def test_an_archive_of_another_data_set_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with zipfile.ZipFile(tmp_path / "my.zip", "w") as archive:
        archive.writestr("train/x.txt", "mine")
    (tmp_path / "data" / "train").mkdir(parents=True)
    (tmp_path / "data" / "train" / "x.txt").write_text("kept")
    assert fetch("cifar10", "--data-dir", tmp_path / "data", "--from", tmp_path / "my.zip") == 4
    assert "holds no cifar-10-batches-py/*; it is not an archive of cifar10" in capsys.readouterr().err
    assert (tmp_path / "data" / "train" / "x.txt").read_text() == "kept"


@pytest.mark.parametrize("name", ["imagenet", "dvs128_gesture", "n_caltech101", "n_mnist", *BY_HAND])
def test_data_behind_a_form_is_explained(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert fetch(name, "--data-dir", tmp_path / "data") == 4
    error = capsys.readouterr().err
    assert error.startswith(f"{name}: ")
    assert re.search("accept its terms|accept a licence|page for browsers|no address for downloads", error)
    assert error.count("\n") == 1
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize("name", sorted(set(KNOWN) - {"digits", "digits_dvs"}))
def test_the_error_of_missing_data_names_the_command(name: str, tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        check_present(config(name, tmp_path / "my data"))
    command = f"`python -m trainers.fetch {name} --data-dir '{tmp_path}/my data'`"
    assert f"get them with {command}, or name their folder with --set data_dir=..." in str(caught.value)
    assert "--set fixed.data_dir=..." in str(caught.value)
