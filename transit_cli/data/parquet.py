"""Parquet files as tables of pyarrow, in bounded memory."""

from __future__ import annotations

import io
from typing import Any

from transit_cli.utils import bounded, machine_errors
from transit_cli.utils.packages import require


def read(content: bytes, purpose: str) -> Any:
    """The table in a Parquet file.

    Args:
        content: of the file.
        purpose: what needs pyarrow, if it is missing: "reading star.parquet".

    Raises:
        ValueError: the file is damaged, or declares more data than its size allows.
        TransitError: pyarrow is missing.
    """
    reader = require("pyarrow.parquet", "data", purpose)
    try:
        file = reader.ParquetFile(io.BytesIO(content))
        about = file.metadata
        declared = sum(about.row_group(index).total_byte_size for index in range(about.num_row_groups))
        bounded.check(max(declared, about.num_rows * about.num_columns), len(content))
        return file.read()
    except bounded.TooLargeError:
        raise
    except Exception as error:
        machine_errors.raise_if_machine(error)
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise ValueError(f"not a Parquet file that can be read ({reason[:120]})") from error
