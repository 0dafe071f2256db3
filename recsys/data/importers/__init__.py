"""From published dumps to books.csv and users.csv."""

from recsys.data.importers.dump import DumpKind, FileSummary, ImportSummary
from recsys.data.importers.importing import import_dump

__all__ = ["DumpKind", "FileSummary", "ImportSummary", "import_dump"]
