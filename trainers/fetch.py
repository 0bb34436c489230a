"""Downloads data sets: `python -m trainers.fetch cifar10 mnist --data-dir data`.

The archives come from their publishers, are checked by MD5 sums and unpacked where trainings look for them. The same
command continues an interrupted download.
"""
# PYTHON_ARGCOMPLETE_OK

from __future__ import annotations

import argparse
import gzip
import os
import shlex
import shutil
import sys
import tempfile
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from config import cli
from config.errors import ConfigError, unknown_name
from trainers.datasets import EMBEDDED, DataError, first_line

if TYPE_CHECKING:
    from trainers.data.published import Published

DOWNLOADABLE = (
    *("cifar10", "cifar100", "mnist", "fashion_mnist", "tiny_imagenet", "cifar10_dvs"),
    *("fgvc_aircraft", "flowers102", "shd"),
)
BY_HAND = {
    "cub200": "get CUB_200_2011.tgz from its publisher (Caltech) and unpack it in {root}",
    "stanford_cars": "put cars_train, cars_test, devkit and cars_test_annos_withlabels.mat into {root}/stanford_cars",
    "stanford_dogs": "unpack images.tar and lists.tar of its publisher (Stanford) in {root}/stanford_dogs",
    "hardvs": "get MINI_HARDVS_files.zip and its lists from https://github.com/Event-AHU/HARDVS, and unpack it and the "
    "archives in it in {root}, so that it holds action_001/*.npz and train_label.txt",
    "es_imagenet": "get the 25 parts of ES-imagenet-0.18 from https://cloud.tsinghua.edu.cn/d/94873ab4ec2a4eb497b3 and "
    "unpack the first one with unrar in {root}, so that it holds ES-imagenet-0.18/trainlabel.txt",
}
"""Data sets without an address that torchvision or SpikingJelly knows, or that downloads, or in an archive that Python
cannot unpack: what to do."""
BY_FORM = ("dvs128_gesture", "n_caltech101", "n_mnist", "imagenet", *BY_HAND)
KNOWN = (*DOWNLOADABLE, *BY_FORM, *sorted(EMBEDDED))
IMAGENET = (
    "imagenet: image-net.org asks you to register and accept its terms first; put the three ILSVRC2012 archives "
    "(train, val, devkit_t12) in {root}, and torchvision sorts them into {root}/train and {root}/val: "
    "`python -c \"from torchvision.datasets import ImageNet as I; I({root!r}, 'train'); I({root!r}, 'val')\"`"
)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command and returns its exit code (0 done, 2 user's input, 4 not downloaded)."""
    arguments = _parser().parse_args(argv)
    return cli.run(lambda: _main(arguments))


def _parser() -> argparse.ArgumentParser:
    parser = cli.Parser(prog="python -m trainers.fetch", description=__doc__)
    parser.add_argument("datasets", nargs="+", metavar="DATASET", help=f"one or more of {', '.join(KNOWN)}")
    parser.add_argument("--data-dir", type=Path, default=Path("data"), metavar="DIR", help="where to put them (data)")
    parser.add_argument("--from", dest="archives", nargs="+", type=Path, default=[], metavar="FILE",
                        help="archives that are there already, or their folder; nothing is downloaded")  # fmt: skip
    return parser


def _main(arguments: argparse.Namespace) -> int:
    names = list(dict.fromkeys(arguments.datasets))
    for name in names:
        if name == "imagefolder":
            raise ConfigError("imagefolder: holds your own images; there is nothing to fetch")
        if name not in KNOWN:
            raise ConfigError(unknown_name("data set", name, KNOWN))
    if arguments.archives and len(names) > 1:
        raise ConfigError(f"--from goes with one data set (got {', '.join(names)})")
    for path in arguments.archives:
        if not path.exists():
            raise ConfigError(f"--from {path}: no such file")
    root, code = arguments.data_dir.expanduser(), cli.OK
    for name in names:
        try:
            _fetch(name, root, arguments.archives)
        except DataError as error:  # the other data sets are still fetched
            print(error, file=sys.stderr)
            code = cli.ENVIRONMENT
    return code


def _fetch(name: str, root: Path, given: Sequence[Path]) -> None:
    """Makes one data set present. Raises DataError, and ConfigError for archives that are not those of the set."""
    if name in EMBEDDED:
        print(f"{name}: comes with scikit-learn, nothing to fetch")
        return
    if _is_present(name, root):
        print(f"{name}: present in {root}")
        return
    if name == "imagenet":
        raise DataError(IMAGENET.format(root=str(root)))
    if name in BY_HAND:
        raise DataError(f"{name}: no address for downloads is known; {BY_HAND[name].format(root=root)}")
    from trainers.data.archives import DOWNLOADED
    from trainers.data.published import PUBLISHED

    published = PUBLISHED[name]
    paths = _match(name, published, given) if given else _download(name, published, root)
    folder = root / published.folder
    folder.mkdir(parents=True, exist_ok=True)
    for path in paths:
        print(f"{name}: unpacking {path}", flush=True)
        _unpack(name, path, folder, published.mark)
    published.finish(folder)
    for path in paths:
        if path.parent == root / DOWNLOADED and path not in given:
            path.unlink()
    print(f"{name}: complete in {root}{_usage(root)}", flush=True)


def _is_present(name: str, root: Path) -> bool:
    if name == "tiny_imagenet":
        val = root / "tiny-imagenet-200" / "val"
        return val.is_dir() and not (val / "images").exists()
    from trainers.config import TrainConfig
    from trainers.data.events import sets as event_sets
    from trainers.data.events.samples import SETS
    from trainers.data.sources import SOURCES

    config = TrainConfig.model_validate(
        {"dataset": name, "data_dir": str(root), "model": "spikformer_cifar", "epochs": 1}
    )
    try:
        if name in SETS:
            return event_sets.find(config) is not None
        SOURCES[name].check(config)
    except DataError:
        return False
    return True


def _usage(root: Path) -> str:
    """Returns how a training uses the data, as the end of a line."""
    return f"; use it with --set data_dir={shlex.quote(str(root))} (search: --set fixed.data_dir=...)"


def _download(name: str, published: Published, root: Path) -> list[Path]:
    """Returns the archives, which lie in `root` or are downloaded into `root/download`. Raises DataError."""
    from torchvision.datasets.utils import check_integrity

    from trainers.data.archives import DOWNLOADED
    from trainers.data.download import download

    files = published.files()
    again = f"python -m trainers.fetch {name} --data-dir {shlex.quote(str(root))}"
    if published.form:
        listed = " ".join(file.name for file in files)
        text = f"{published.form}: get {listed} from {files[0].urls[0]}, then run `{again} --from {listed}`"
        raise DataError(f"{name}: {text}")
    paths = []
    for i, file in enumerate(files, 1):
        if check_integrity(root / file.name, file.md5):
            paths.append(root / file.name)
            continue
        print(f"{name}: downloading {file.name} ({i} of {len(files)})", flush=True)
        try:
            paths.append(download(file, root / DOWNLOADED))
        except DataError as error:
            text = f"run `{again}` again, which continues, or get the file yourself and add --from FILE"
            raise DataError(f"{name}: {error}; {text}") from None
    return paths


def _match(name: str, published: Published, given: Sequence[Path]) -> list[Path]:
    """Returns the given archives in the published order; warns of MD5 sums that differ. Raises ConfigError."""
    from torchvision.datasets.utils import check_integrity

    files = published.files()
    there = [path for one in given for path in (sorted(one.iterdir()) if one.is_dir() else [one]) if path.is_file()]
    by_name = {path.name: path for path in there}
    if len(files) == len(there) == 1:
        by_name = {files[0].name: there[0]}
    found = [by_name.get(file.name, by_name.get(file.name.removesuffix(".gz"))) for file in files]
    missing = [file.name for file, path in zip(files, found, strict=True) if path is None]
    if missing:
        raise ConfigError(f"--from must give all archives of {name}, or their folder: {', '.join(missing)} missing")
    paths = [path for path in found if path is not None]
    differ = [
        path.name
        for file, path in zip(files, paths, strict=True)
        if path.suffix and not check_integrity(path, file.md5)
    ]
    if differ:
        warnings.warn(f"{name}: {', '.join(differ)} differ from the published ones (MD5)", stacklevel=2)
    return paths


def _unpack(name: str, path: Path, folder: Path, mark: str) -> None:
    """Moves an archive's content into a folder once it is unpacked whole. Raises DataError for a damaged archive."""
    with tempfile.TemporaryDirectory(prefix=".unpack-", dir=folder) as scratch:
        content = Path(scratch)
        try:
            _extract(path, content)
        except Exception as error:  # zipfile, tarfile and zlib raise errors of many types
            if isinstance(error, OSError) and error.errno is not None:
                raise  # the disk, not the archive
            raise DataError(f"{name}: {path} cannot be unpacked ({first_line(error)}); get it again") from error
        if not any(content.glob(mark)):
            raise DataError(f"{name}: {path} holds no {mark}; it is not an archive of {name}")
        for file in sorted(one for one in content.rglob("*") if one.is_file()):
            target = folder / file.relative_to(content)
            target.parent.mkdir(parents=True, exist_ok=True)
            os.replace(file, target)


def _extract(path: Path, content: Path) -> None:
    """Unpacks a tar or zip file; single files are copied, or decompressed if they are compressed."""
    if path.name.endswith(("-ubyte", ".mat")):
        shutil.copyfile(path, content / path.name)
    elif path.name.endswith("-ubyte.gz"):
        with gzip.open(path) as packed, (content / path.stem).open("wb") as out:
            shutil.copyfileobj(packed, out)
    else:
        shutil.unpack_archive(path, content, filter=None if path.suffix == ".zip" else "data")


if __name__ == "__main__":
    sys.exit(main())
