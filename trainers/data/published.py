"""Published archives of each data set: addresses and MD5 sums from torchvision and SpikingJelly, and their places."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trainers.data.archives import UNPACKED
from trainers.data.download import RemoteFile

TINY_IMAGENET = RemoteFile(
    "tiny-imagenet-200.zip",
    ("http://cs231n.stanford.edu/tiny-imagenet-200.zip",),
    "90528d7ca1a48142e341f4ef8d21d0de",
)
"""Neither library has this data set."""
AIRCRAFT_MD5 = "d4acdd33327262359767eeaa97a4f732"
"""From the publisher's page; torchvision has the address only."""


@dataclass(frozen=True)
class Published:
    """Archives of one data set, and the folder below data_dir for their content.

    `mark` matches the content of each archive; `form` says what stands before a download, empty if nothing does;
    `finish` rearranges the unpacked content.
    """

    files: Callable[[], tuple[RemoteFile, ...]]
    folder: str
    mark: str
    form: str = ""
    finish: Callable[[Path], None] = lambda folder: None


def _cifar(name: str) -> tuple[RemoteFile, ...]:
    import torchvision

    published = getattr(torchvision.datasets, name)
    return (RemoteFile(published.filename, (published.url,), published.tgz_md5),)


def _mnist(name: str) -> tuple[RemoteFile, ...]:
    import torchvision

    published = getattr(torchvision.datasets, name)
    return tuple(
        RemoteFile(file, tuple(f"{mirror}{file}" for mirror in published.mirrors), md5)
        for file, md5 in published.resources
    )


def _flowers() -> tuple[RemoteFile, ...]:
    from torchvision.datasets import Flowers102

    prefix = Flowers102._download_url_prefix
    return tuple(RemoteFile(file, (f"{prefix}{file}",), md5) for file, md5 in Flowers102._file_dict.values())


def _aircraft() -> tuple[RemoteFile, ...]:
    from torchvision.datasets import FGVCAircraft

    return (RemoteFile(FGVCAircraft._URL.rsplit("/", 1)[1], (FGVCAircraft._URL,), AIRCRAFT_MD5),)


def _events(name: str, archives: tuple[str, ...] = ()) -> tuple[RemoteFile, ...]:
    """Returns the archives that SpikingJelly's class lists, all or those of these names."""
    import spikingjelly.datasets as sets

    listed: list[Any] = getattr(sets, name).resource_url_md5()
    return tuple(RemoteFile(file, (url,), md5) for file, url, md5 in listed if not archives or file in archives)


def _sort_validation(folder: Path) -> None:
    """Moves Tiny ImageNet's validation images into class folders, as `val_annotations.txt` lists them."""
    part = folder / "tiny-imagenet-200" / "val"
    for line in (part / "val_annotations.txt").read_text().splitlines():
        image, label = line.split("\t")[:2]
        (part / label).mkdir(exist_ok=True)
        if (part / "images" / image).is_file():
            (part / "images" / image).replace(part / label / image)
    if (test := part.with_name("test")).is_dir():
        test.rename(test.with_name("unlabelled"))  # has no labels: the validation images are the test part
    (part / "val_annotations.txt").rename(part.with_name("val_annotations.txt"))
    (part / "images").rmdir()


_BY_PAGE = "its publisher offers it on a page for browsers"
PUBLISHED: dict[str, Published] = {
    "cifar10": Published(lambda: _cifar("CIFAR10"), ".", "cifar-10-batches-py/*"),
    "cifar100": Published(lambda: _cifar("CIFAR100"), ".", "cifar-100-python/*"),
    "mnist": Published(lambda: _mnist("MNIST"), "MNIST/raw", "*-ubyte"),
    "fashion_mnist": Published(lambda: _mnist("FashionMNIST"), "FashionMNIST/raw", "*-ubyte"),
    "tiny_imagenet": Published(
        lambda: (TINY_IMAGENET,), ".", "tiny-imagenet-200/val/val_annotations.txt", finish=_sort_validation
    ),
    "cifar10_dvs": Published(lambda: _events("CIFAR10DVS"), UNPACKED, "*/*.aedat"),
    "dvs128_gesture": Published(
        lambda: _events("DVS128Gesture", ("DvsGesture.tar.gz",)),
        UNPACKED,
        "DvsGesture/trials_to_*.txt",
        "its publisher asks you to accept a licence first",
    ),
    "n_caltech101": Published(
        lambda: _events("NCaltech101", ("Caltech101.zip",)), UNPACKED, "Caltech101/*/*.bin", _BY_PAGE
    ),
    "fgvc_aircraft": Published(_aircraft, ".", "fgvc-aircraft-2013b/data/images/*"),
    "flowers102": Published(_flowers, "flowers-102", "*"),
    "n_mnist": Published(lambda: _events("NMNIST"), UNPACKED, "T*/*/*.bin", _BY_PAGE),
    "shd": Published(lambda: _events("SpikingHeidelbergDigits"), UNPACKED, "shd_*.h5"),
}
