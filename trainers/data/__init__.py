"""Data sets: loading, checks that files are present, and registration of user data sets."""

from __future__ import annotations

from trainers.data.sources import Source as Source
from trainers.data.sources import check_present as check_present
from trainers.data.sources import load_test as load_test
from trainers.data.sources import load_train as load_train
from trainers.data.sources import register as register
from trainers.data.split import Data as Data
from trainers.data.split import Split as Split
from trainers.datasets import DataError as DataError
