"""MLflow's tables in a database: whether they are whole, and how they are made or brought up to date.

Making them takes seconds and a hundred statements, in SQLite each on its own: a kill in between leaves a database that
MLflow can neither use nor mend (`table secrets already exists`).
"""

from dataclasses import dataclass
from typing import Literal

from sqlalchemy import Engine, inspect, text

# MLflow is imported in the functions: `tracking.py` sets what it reads when it is imported.
Condition = Literal["empty", "whole", "unfinished", "newer", "foreign"]
_BOOKKEEPING = "alembic_version"
# what a database has that nobody used: MLflow's own first experiment and workspace, and our tag of it
_MADE_WITH_IT = {
    "experiments": "experiment_id <> 0", "experiment_tags": "experiment_id <> 0", "workspaces": "name <> 'default'",
}  # fmt: skip


@dataclass(frozen=True)
class Tables:
    """What there is in a database.

    Attributes:
        condition: `empty`: no table; `whole`: as this MLflow needs them; `unfinished`: half-made, or of an older
            MLflow; `newer`: of a newer MLflow; `foreign`: of something else.
        revision: MLflow's own mark of the version, empty without one.
        used: whether anything was ever written into an unfinished one.
    """

    condition: Condition
    revision: str = ""
    used: bool = False


def look(engine: Engine) -> Tables:
    """Returns what there is in a database, and changes nothing."""
    from alembic.migration import MigrationContext
    from alembic.script import ScriptDirectory
    from alembic.script.revision import RevisionError
    from alembic.util import CommandError
    from mlflow.store.db import utils
    from mlflow.store.db.base_sql_model import Base

    there = set(inspect(engine).get_table_names())
    if not there:
        return Tables("empty")
    wanted = set(Base.metadata.tables)
    if not there & {_BOOKKEEPING, *wanted}:
        return Tables("foreign")
    with engine.connect() as connection:
        revision = MigrationContext.configure(connection).get_current_revision() or ""
    scripts = ScriptDirectory.from_config(utils._get_alembic_config(""))
    if revision == scripts.get_current_head() and wanted <= there:
        return Tables("whole", revision)
    if revision:
        try:
            scripts.get_revision(revision)
        except (CommandError, RevisionError):
            return Tables("newer", revision)
    return Tables("unfinished", revision, _is_used(engine, there))


def make(engine: Engine, uri: str, artifacts: str) -> None:
    """Makes the tables that a database lacks, and the first experiment, whose artifacts lie under `artifacts`."""
    from mlflow.store.db import utils
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    utils._initialize_tables(engine)
    SqlAlchemyStore(uri, artifacts).engine.dispose()
    SqlAlchemyStore._engine_map.pop(uri, None)  # it would keep a file open that is about to get another name


def upgrade(engine: Engine) -> None:
    """Does what `mlflow db upgrade` does."""
    from mlflow.store.db import utils

    utils._upgrade_db(engine)


def _is_used(engine: Engine, tables: set[str]) -> bool:
    with engine.connect() as connection:
        for table in sorted(tables - {_BOOKKEEPING}):
            condition = _MADE_WITH_IT.get(table, "1 = 1")
            name = engine.dialect.identifier_preparer.quote(table)
            query = f"SELECT 1 FROM {name} WHERE {condition} LIMIT 1"  # noqa: S608 - a table's own name
            if connection.execute(text(query)).first():
                return True
    return False
