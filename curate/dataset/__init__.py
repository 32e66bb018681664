"""Named, versioned datasets: what is known of images, their annotations, and what was found wrong with them."""

from curate.dataset.commits import Commit, read_history
from curate.dataset.home import dataset_names
from curate.dataset.store import Dataset, Transaction, begin, open_dataset, remove, undo

__all__ = [
    "Commit",
    "Dataset",
    "Transaction",
    "begin",
    "dataset_names",
    "open_dataset",
    "read_history",
    "remove",
    "undo",
]
