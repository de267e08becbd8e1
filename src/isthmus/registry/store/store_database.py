"""A store in a database server, asked without MLflow's server between: one process at a time makes its tables."""

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import Engine, create_engine
from sqlalchemy.exc import ArgumentError, SQLAlchemyError
from sqlalchemy.pool import NullPool

from isthmus.core.addresses import without_passwords
from isthmus.core.errors import StoreError
from isthmus.core.plugins import install_command
from isthmus.registry.store import tables
from isthmus.registry.store.store_file import NoStoreError

_LOCK = 0x6973_7468_6D75_74  # any number that is ours in this database, and not that of the promotions


def ready(uri: str, artifacts: str, *, make: bool) -> None:
    """Sees to it that MLflow can use a database.

    Args:
        uri: its address.
        artifacts: address of the folder for artifacts, should the tables be made.
        make: make them where there are none; else that is an error, and nothing is written.

    Raises:
        StoreError: there are no tables, they are not this MLflow's, or the database is out of reach.
    """
    with _reached(uri) as engine:
        if make:
            with _alone(engine):
                if _is_whole(engine):
                    return
                tables.make(engine, uri, artifacts)
        elif not _is_whole(engine):
            raise NoStoreError(engine.url.render_as_string(hide_password=True))


def _is_whole(engine: Engine) -> bool:
    # each statement on its own: a transaction over many tables would lock out, and be locked out by, who is making them
    found = tables.look(engine.execution_options(isolation_level="AUTOCOMMIT"))
    if found.condition == "newer" or found.used:
        raise StoreError(
            f"{engine.url.render_as_string(hide_password=True)}: its tables are of another MLflow (revision"
            f" {found.revision or 'none'}). The database's administrator must back it up and run 'mlflow db"
            f" upgrade ADDRESS',"
            " or install that MLflow here"
        )
    return found.condition == "whole"


@contextmanager
def _reached(uri: str) -> Iterator[Engine]:
    # not above: `tracking.py` sets what MLflow reads when it is imported
    from mlflow.exceptions import MlflowException

    try:
        yield create_engine(uri, poolclass=NullPool)
    except ModuleNotFoundError as error:
        raise StoreError(
            f"MLFLOW_TRACKING_URI names a database that needs '{error.name}': {install_command('postgres')}"
        ) from None
    except (ArgumentError, ValueError) as error:
        raise StoreError(
            f"MLFLOW_TRACKING_URI: not an address ({error})."
            " Allowed: sqlite:///PATH, postgresql://USER:PASSWORD@HOST:PORT/DATABASE, http(s)://..."
        ) from None
    except (SQLAlchemyError, MlflowException) as error:
        place = without_passwords(uri)
        raise StoreError(
            f"the MLflow store {place} cannot be reached: {' '.join(str(error).split())[:300]}. Nothing is lost:"
            " results and records are files of the project. Start it, or correct MLFLOW_TRACKING_URI, and run the same"
            " command again"
        ) from error


@contextmanager
def _alone(engine: Engine) -> Iterator[None]:
    """Keeps other makers out where the database can: Postgres has locks that die with their connection."""
    if engine.dialect.name != "postgresql":
        yield
        return
    with engine.connect() as connection:
        connection.exec_driver_sql(f"SELECT pg_advisory_lock({_LOCK})")
        yield
