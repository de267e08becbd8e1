"""The record of promotions in a Postgres database, and the advisory lock that all its promoters share."""

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import Connection, create_engine
from sqlalchemy.exc import ArgumentError, DBAPIError
from sqlalchemy.pool import NullPool

from isthmus.core.addresses import check_login, without_passwords
from isthmus.core.errors import StoreError
from isthmus.core.plugins import install_command

PATIENCE = 120.0  # [s] to wait for another promoter
_LOCK = 0x6973_7468_6D75_73  # any number that is ours in this database
_REACHED_WITHIN = 10  # [s]
# The database notices a promoter whose machine has vanished, and lets go of its lock, after 30 + 3 * 10 s.
_ALIVE = "-c tcp_keepalives_idle=30 -c tcp_keepalives_interval=10 -c tcp_keepalives_count=3"
_SESSION = "SET search_path TO isthmus; SET synchronous_commit TO on"
_TABLES = """
CREATE SCHEMA IF NOT EXISTS isthmus;
CREATE TABLE isthmus.intents (
    id BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY, at TEXT NOT NULL, action TEXT NOT NULL, model TEXT NOT NULL,
    old_champion TEXT, old_previous TEXT, new_champion TEXT NOT NULL, new_previous TEXT,
    decision TEXT NOT NULL, approved_by TEXT NOT NULL);
CREATE TABLE isthmus.outcomes (
    intent BIGINT PRIMARY KEY REFERENCES isthmus.intents(id), at TEXT NOT NULL, outcome TEXT NOT NULL);
CREATE FUNCTION isthmus.refuse() RETURNS trigger LANGUAGE plpgsql AS
    $$ BEGIN RAISE EXCEPTION 'the record of promotions is append-only'; END $$;
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON isthmus.intents EXECUTE FUNCTION isthmus.refuse();
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON isthmus.outcomes EXECUTE FUNCTION isthmus.refuse();
"""


@contextmanager
def locked_database(address: str, patience: float = PATIENCE) -> Iterator[Connection]:
    """Yields a connection to the record, its tables made, while all other promoters wait.

    The lock belongs to the connection: it is gone when its holder is killed. A pooler that hands one connection to
    several clients would break that, so the address must be the database's own.

    Args:
        address: `postgresql://USER:PASSWORD@HOST:PORT/DATABASE`.
        patience: how long to wait for another promoter [s].

    Raises:
        StoreError: the address cannot be used, the database is out of reach, or another promoter holds the lock.
    """
    with _connected(address) as connection:
        try:
            connection.exec_driver_sql(f"SET lock_timeout TO {int(patience * 1000)}")
            connection.exec_driver_sql(f"SELECT pg_advisory_lock({_LOCK})")
        except DBAPIError as error:
            raise StoreError(
                f"{without_passwords(address)}: another process has held the lock for promotion for {patience:.0f} s"
                f" ({_line(error)}). Wait for it to end and run the same command again"
            ) from error
        _make_tables(connection, address)
        yield connection


@contextmanager
def reading_database(address: str) -> Iterator[Connection | None]:
    """Yields a connection to the record, without the lock; None where there is no record yet.

    Raises:
        StoreError: the address cannot be used, or the database is out of reach.
    """
    with _connected(address) as connection:
        try:
            there = connection.exec_driver_sql("SELECT to_regclass('isthmus.outcomes')").scalar() is not None
            connection.exec_driver_sql(_SESSION)
        except DBAPIError as error:
            raise StoreError(
                f"{without_passwords(address)}: the record of promotions cannot be read ({_line(error)})"
            ) from error
        yield connection if there else None


@contextmanager
def _connected(address: str) -> Iterator[Connection]:
    try:
        options = {"connect_timeout": _REACHED_WITHIN, "options": _ALIVE, "application_name": "isthmus promotion"}
        check_login("ISTHMUS_PROMOTION_DB", address)
        engine = create_engine(address, isolation_level="AUTOCOMMIT", poolclass=NullPool, connect_args=options)
        connection = engine.connect()
    except (ArgumentError, ValueError) as error:
        raise StoreError(
            f"ISTHMUS_PROMOTION_DB: not an address ({error})."
            " Allowed: the path of an SQLite file, or postgresql://USER:PASSWORD@HOST:PORT/DATABASE"
        ) from None
    except ModuleNotFoundError as error:
        raise StoreError(
            f"ISTHMUS_PROMOTION_DB names a Postgres database, which needs '{error.name}': {install_command('postgres')}"
        ) from None
    except DBAPIError as error:
        raise StoreError(
            f"ISTHMUS_PROMOTION_DB: {without_passwords(address)} cannot be reached ({_line(error)})."
            " Start it, or correct the address, and run the same command again"
        ) from error
    with connection:
        yield connection


def _make_tables(connection: Connection, address: str) -> None:
    try:
        # A promoter with no right but to read and to append must get past this line.
        if connection.exec_driver_sql("SELECT to_regclass('isthmus.outcomes')").scalar() is None:
            connection.exec_driver_sql(_TABLES)  # one message, so one transaction: all of it or nothing
        connection.exec_driver_sql(_SESSION)
    except DBAPIError as error:
        raise StoreError(
            f"{without_passwords(address)}: the tables of the record of promotions cannot be created ({_line(error)})."
            " Promote once as the database's owner, or grant CREATE on the database"
        ) from error


def _line(error: DBAPIError) -> str:
    return " ".join(str(error.orig).split())[:400]
