"""From published data sets to books.csv and users.csv."""

from recsys.data.importers.importing import DatasetKind, ImportSummary, import_dataset
from recsys.data.importers.source import FileSummary

__all__ = ["DatasetKind", "FileSummary", "ImportSummary", "import_dataset"]
