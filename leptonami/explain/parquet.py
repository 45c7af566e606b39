"""An autoscaler's log as Parquet, for questions of one's own in DuckDB, pandas, polars or Athena."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from leptonami.errors import InputError, LeptonamiError
from leptonami.readers.autoscaler.digest import Digest
from leptonami.readers.autoscaler.log import Event, events
from leptonami.readers.years import From

__all__ = ["export", "schema"]

ROWS = 1 << 14  # rows of a row group: four times as many take 100 MB more, for a file as large


def schema() -> Any:
    """Give the table's columns: an event's fields (`readers.autoscaler.log.Event`); none is a word of SQL."""
    import pyarrow as pa

    words = pa.dictionary(pa.int32(), pa.string())
    return pa.schema(
        [
            ("line", pa.int64()),
            ("time", pa.timestamp("us", tz="UTC")),
            ("severity", words),
            ("kind", words),
            ("place", words),
            ("node", words),
            ("node_group", words),
            ("pod", words),
            ("resource", words),
            ("value", pa.float64()),
            ("number", pa.int64()),
            ("duration_seconds", pa.float64()),  # a duration of Arrow is a bare integer to DuckDB and Athena
            ("since", pa.timestamp("us", tz="UTC")),
            ("reason", words),
        ]
    )


def export(batches: Iterable[list[bytes]], digest: Digest, path: Path, *, others: bool = False) -> int:
    """Write a log's events into a Parquet file, in one piece: a crash leaves no half of it behind.

    Parameters
    ----------
    batches
        The log's lines, read anew.
    digest
        What the first pass found out.
    path
        The file; one that exists is replaced.
    others
        Also write the messages that the catalogue does not hold.

    Returns
    -------
    int
        How many rows it has.

    Raises
    ------
    InputError
        If the file cannot be written.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    columns = schema().with_metadata(
        {"source": digest.source, "autoscaler": str(digest.version), "year_known": str(digest.year_known)}
    )
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    total = 0
    try:
        with pq.ParquetWriter(draft, columns, compression="zstd") as writer:
            rows: list[tuple[Any, ...]] = []
            for event in events(batches, digest, others=others):
                rows.append(row(event, year=digest.year_known is not From.UNKNOWN))
                if len(rows) >= ROWS:
                    writer.write_table(table(rows, columns))
                    total += len(rows)
                    rows.clear()
            writer.write_table(table(rows, columns))
            total += len(rows)
        draft.replace(path)
    except OSError as error:
        raise InputError(
            f"cannot be written: {error.strerror or error}", resource=str(path), hint="choose another place"
        ) from error
    except pa.ArrowException as error:
        raise LeptonamiError(f"cannot be written: {error}", resource=str(path)) from error
    finally:
        with contextlib.suppress(OSError):
            draft.unlink(missing_ok=True)
    return total


def row(event: Event, *, year: bool) -> tuple[Any, ...]:
    """Give an event's values in the order of the columns. A time whose year is not known is none."""
    return (
        event.line,
        event.at if year else None,
        event.severity,
        str(event.kind),
        event.place,
        event.node or None,
        event.group or None,
        event.pod or None,
        event.resource or None,
        event.value,
        event.number,
        None if event.duration is None else event.duration.total_seconds(),
        event.since,
        event.reason or None,
    )


def table(rows: list[tuple[Any, ...]], columns: Any) -> Any:
    """Turn rows into a table."""
    import pyarrow as pa

    values = list(zip(*rows, strict=True)) or [()] * len(columns)
    arrays = [pa.array(each, type=column.type) for each, column in zip(values, columns, strict=True)]
    return pa.Table.from_arrays(arrays, schema=columns)
