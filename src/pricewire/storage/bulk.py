"""Many rows in one statement; the hot writes of this room go through it.

Rows are turned into columns once, each column's values converted at one go, and handed to the
driver as they are: SQLAlchemy's way of one dictionary a row costs more than the databases do
(docs/decisions/0009). PostgreSQL takes the columns as arrays, since it answers each execution for
itself. Invariant: values get the very conversions that the columns' types have elsewhere.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cache
from itertools import count
from typing import Any

import asyncpg
from sqlalchemy import (
    ARRAY,
    Column,
    Connection,
    Dialect,
    LargeBinary,
    RowMapping,
    Table,
    and_,
    bindparam,
    func,
    select,
    tuple_,
)
from sqlalchemy import cast as sql_cast
from sqlalchemy import column as sql_column
from sqlalchemy.exc import DataError, DBAPIError
from sqlalchemy.util import await_only

Row = Mapping[str, Any]
Columns = Mapping[str, Sequence[Any]]
"""The values of each column, all of the same number."""
Batch = tuple[Table, Columns]

_Shape = tuple[Table, tuple[str, ...], bool]
"""A table, columns of it, and whether rows that are there are replaced."""

MAX_KEYS = 500
"""So many keys in one statement where they are no arrays: SQLite takes 32,766 values."""


def insert_rows(connection: Connection, *batches: tuple[Table, Sequence[Row]]) -> None:
    """Insert into each table its rows, all with the same columns, in their order.

    For PostgreSQL it is one statement, and so one round trip, for all tables.
    """
    write_columns(connection, [(table, as_columns(rows)) for table, rows in batches])


def as_columns(rows: Sequence[Row]) -> Columns:
    """Turn rows, all with the same columns, into these."""
    return {name: [row[name] for row in rows] for name in rows[0]}


def write_columns(
    connection: Connection, inserts: Sequence[Batch], upserts: Sequence[Batch] = ()
) -> None:
    """Do as `insert_rows` does with what never was a row for itself.

    Of `upserts`, where the primary key is there, the rest is replaced.
    """
    if not inserts and not upserts:
        return
    shapes = (
        *((table, tuple(columns), False) for table, columns in inserts),
        *((table, tuple(columns), True) for table, columns in upserts),
    )
    columns = [
        [_values(connection, table.c[name], values) for name, values in each.items()]
        for table, each in (*inserts, *upserts)
    ]
    if _takes_arrays(connection):
        arrays = tuple(values for each in columns for values in each)
        connection.exec_driver_sql(_insert_arrays(shapes, connection.dialect), arrays)
        return
    for shape, each in zip(shapes, columns, strict=True):
        connection.exec_driver_sql(_insert_row(*shape), list(zip(*each, strict=True)))


def copy_rows(connection: Connection, table: Table, rows: Sequence[Row]) -> None:
    """Insert rows, all with the same columns, in their order; by COPY where there is one."""
    copy_columns(connection, table, as_columns(rows))


def copy_columns(connection: Connection, table: Table, given: Columns) -> None:
    """Do as `copy_rows` does with what never was a row for itself."""
    if not _takes_arrays(connection):
        write_columns(connection, [(table, given)])
        return
    columns = [_values(connection, table.c[name], values) for name, values in given.items()]
    driver: Any = connection.connection.driver_connection
    # The transaction is the connection's: asyncpg begins none of its own for COPY.
    copying = driver.copy_records_to_table(
        table.name, records=zip(*columns, strict=True), columns=list(given)
    )
    try:
        await_only(copying)
    except (asyncpg.PostgresError, asyncpg.InterfaceError) as error:
        # As SQLAlchemy would raise it, had the statement gone through it.
        wrap = DataError if isinstance(error, ValueError) else DBAPIError
        raise wrap(f"COPY {table.name}", None, error) from error


def known_keys(connection: Connection, table: Table, keys: Sequence[Row]) -> set[Any]:
    """Return the values of the keys' last column of those rows that are in `table`."""
    names = tuple(keys[0])
    columns = [_values(connection, table.c[name], [key[name] for key in keys]) for name in names]
    if _takes_arrays(connection):
        sql = _find_arrays(table, names, connection.dialect)
        return {row[0] for row in connection.exec_driver_sql(sql, tuple(columns))}
    rows = ", ".join([f"({', '.join('?' for _ in names)})"] * len(keys))
    # CROSS JOIN fixes the order of the two: SQLite would rather scan the whole table.
    sql = (
        f"WITH k({_listed(names)}) AS (VALUES {rows}) "  # noqa: S608
        f'SELECT t."{names[-1]}" FROM k CROSS JOIN {table.name} AS t USING ({_listed(names)})'
    )
    values = tuple(value for row in zip(*columns, strict=True) for value in row)
    return {row[0] for row in connection.exec_driver_sql(sql, values)}


def upsert_rows(connection: Connection, table: Table, rows: Sequence[Row]) -> None:
    """Insert rows, all with the same columns; where the primary key is there, replace the rest."""
    write_columns(connection, (), [(table, as_columns(rows))])


def update_by_key(
    connection: Connection, key: Column[Any], value: Column[Any], new: Mapping[Any, Any]
) -> None:
    """Set `value` where `key` is, for each pair in `new`."""
    keys, values = _values(connection, key, list(new)), _values(connection, value, new.values())
    table = key.table.name
    if _takes_arrays(connection):
        arrays = f"$1::{_array(key, connection.dialect)}, $2::{_array(value, connection.dialect)}"
        sql = (
            f"UPDATE {table} SET {value.name} = n.v FROM unnest({arrays}) AS n(k, v) "  # noqa: S608
            f"WHERE {table}.{key.name} = n.k"
        )
        connection.exec_driver_sql(sql, (keys, values))
    else:
        sql = f"UPDATE {table} SET {value.name} = ? WHERE {key.name} = ?"  # noqa: S608
        connection.exec_driver_sql(sql, list(zip(values, keys, strict=True)))


def delete_by_key(connection: Connection, key: Column[Any], which: Sequence[Any]) -> None:
    """Delete the rows whose `key` is in `which`."""
    keys = _values(connection, key, which)
    sql = f"DELETE FROM {key.table.name} WHERE {key.name} = "  # noqa: S608
    if _takes_arrays(connection):
        array = _array(key, connection.dialect)
        connection.exec_driver_sql(f"{sql} ANY($1::{array})", (keys,))
    else:
        connection.exec_driver_sql(f"{sql} ?", [(one,) for one in keys])


def select_by_keys(
    connection: Connection, table: Table, keys: Sequence[tuple[Any, ...]]
) -> Iterator[RowMapping]:
    """Give the rows that have one of these primary keys."""
    if not keys:
        return
    columns = tuple(table.primary_key.columns)
    if _takes_arrays(connection):
        arrays = [
            sql_cast(bindparam(None, values, type_=ARRAY(column.type)), ARRAY(column.type))
            for column, values in zip(columns, map(list, zip(*keys, strict=True)), strict=True)
        ]
        named = [sql_column(column.name, column.type) for column in columns]
        wanted = func.unnest(*arrays).table_valued(*named).render_derived("wanted")
        same = and_(*(column == wanted.c[column.name] for column in columns))
        yield from connection.execute(select(table).join(wanted, same)).mappings()
        return
    for first in range(0, len(keys), MAX_KEYS):
        some = tuple_(*columns).in_(keys[first : first + MAX_KEYS])
        yield from connection.execute(select(table).where(some)).mappings()


def _takes_arrays(connection: Connection) -> bool:
    return connection.dialect.name == "postgresql"


def _values(connection: Connection, column: Column[Any], values: Iterable[Any]) -> list[Any]:
    convert = _conversion(column, connection.dialect)
    given = list(values)
    if convert is None:
        return given
    # Of a batch's rows some values are the very same: what they were recorded at.
    if all(value is given[0] for value in given):
        return [convert(value) for value in given[:1]] * len(given)
    return [convert(value) for value in given]


@cache
def _conversion(column: Column[Any], dialect: Dialect) -> Callable[[Any], Any] | None:
    if isinstance(column.type, LargeBinary):
        return None  # Bytes are bytes to both drivers; SQLAlchemy would make a view of each.
    return column.type.dialect_impl(dialect).bind_processor(dialect)


@cache
def _insert_row(table: Table, names: tuple[str, ...], replaces: bool) -> str:
    places = ", ".join("?" for _ in names)
    insert = f"INSERT INTO {table.name} ({_listed(names)}) VALUES ({places})"  # noqa: S608
    return insert + _on_conflict(table, names) if replaces else insert


@cache
def _insert_arrays(shapes: tuple[_Shape, ...], dialect: Dialect) -> str:
    """Return one statement for all tables: the last insert, the others as WITH before it."""
    numbers = count(1)
    inserts = []
    for table, names, replaces in shapes:
        arrays = ", ".join(f"${next(numbers)}::{_array(table.c[name], dialect)}" for name in names)
        columns = _listed(names)
        # Ordered in so many words: ids that are drawn here must rise in the rows' order.
        inserts.append(
            f"INSERT INTO {table.name} ({columns}) SELECT {columns} "  # noqa: S608
            f"FROM unnest({arrays}) WITH ORDINALITY AS r({columns}, n) ORDER BY n"
            f"{_on_conflict(table, names) if replaces else ''}"
        )
    *before, last = inserts
    named = ", ".join(f"i{number} AS ({insert})" for number, insert in enumerate(before))
    return f"WITH {named} {last}" if named else last


@cache
def _find_arrays(table: Table, names: tuple[str, ...], dialect: Dialect) -> str:
    arrays = ", ".join(
        f"${number}::{_array(table.c[name], dialect)}" for number, name in enumerate(names, 1)
    )
    return (
        f'SELECT t."{names[-1]}" FROM unnest({arrays}) AS k({_listed(names)}) '  # noqa: S608
        f"JOIN {table.name} AS t USING ({_listed(names)})"
    )


def _on_conflict(table: Table, names: tuple[str, ...]) -> str:
    keys = tuple(column.name for column in table.primary_key.columns)
    rest = ", ".join(f'"{name}" = excluded."{name}"' for name in names if name not in keys)
    return f" ON CONFLICT ({_listed(keys)}) DO UPDATE SET {rest}"


def _listed(names: tuple[str, ...]) -> str:
    return ", ".join(f'"{name}"' for name in names)


@cache
def _array(column: Column[Any], dialect: Dialect) -> str:
    """Return the array type of a column, without its collation, which no array has."""
    return column.type.compile(dialect=dialect).partition(" COLLATE")[0] + "[]"
