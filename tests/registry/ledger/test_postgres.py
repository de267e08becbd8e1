"""The record of promotions in a real Postgres, beside a store of files."""

import sys

import pytest
from sqlalchemy.exc import DBAPIError

from isthmus.core.errors import StoreError
from isthmus.registry.ledger.postgres import locked_database
from isthmus.registry.promotion.promotion import promote, rollback
from isthmus.registry.store.tracking import Store
from tests.registry.versions import add_version, aliases, decide, ledger_connection, record
from tests.servers import free_port, psql

pytestmark = pytest.mark.slow


@pytest.fixture
def project(empty_files, record_database, monkeypatch):
    monkeypatch.setenv("ISTHMUS_PROMOTION_DB", record_database)
    decide(empty_files, add_version(empty_files), None)
    promote(empty_files, "demo")
    decide(empty_files, add_version(empty_files), "1")
    return empty_files


def test_promotions_and_rollbacks_are_recorded_in_the_database_and_nowhere_else(project):
    promote(project, "demo")
    rollback(project, "demo")

    assert [row[1:] for row in record(project)] == [
        ("promote", None, "1", "done"),
        ("promote", "1", "2", "done"),
        ("rollback", "2", "1", "done"),
    ]
    assert list(project.glob("*promotions*")) == []


def test_the_record_cannot_be_rewritten_not_even_emptied(project):
    with ledger_connection(project) as connection:
        replacing = (
            "INSERT INTO outcomes VALUES (1, '', 'x') ON CONFLICT (intent) DO UPDATE SET outcome = 'x'",
            "MERGE INTO outcomes USING intents ON intent = id WHEN MATCHED THEN UPDATE SET outcome = 'x'",
        )
        for statement in (
            "UPDATE intents SET model = 'x'", "DELETE FROM outcomes", "TRUNCATE intents, outcomes", *replacing,
        ):  # fmt: skip
            with pytest.raises(DBAPIError, match="the record of promotions is append-only"):
                connection.exec_driver_sql(statement)


def test_a_promoter_needs_no_right_but_to_read_and_to_append(project, postgres, monkeypatch, record_database):
    database = record_database.rpartition("/")[2]
    psql(postgres, database, "CREATE ROLE promoter LOGIN PASSWORD 'letters0and1digits'")
    psql(postgres, database, "GRANT USAGE ON SCHEMA isthmus TO promoter")
    psql(postgres, database, "GRANT SELECT, INSERT ON ALL TABLES IN SCHEMA isthmus TO promoter")
    monkeypatch.setenv("ISTHMUS_PROMOTION_DB", record_database.replace("isthmus:", "promoter:"))

    assert promote(project, "demo").champion == "2"


def test_the_lock_of_another_promoter_is_waited_for_and_then_reported_without_a_password(record_database):
    with (
        locked_database(record_database),
        pytest.raises(StoreError, match=r"isthmus:\*\*\*@.*another process has held the lock for promotion for 0 s"),
        locked_database(record_database, patience=0.2),
    ):
        pass


def test_a_connection_lost_in_the_middle_stops_the_promotion_and_the_next_call_finishes_it(
    project, postgres, monkeypatch
):
    real = Store.set_alias

    def cut_after_previous(store, model, alias, version):
        real(store, model, alias, version)
        mine = "application_name = 'isthmus promotion'"
        psql(postgres, "postgres", f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE {mine}")

    with monkeypatch.context() as patch:
        patch.setattr(Store, "set_alias", cut_after_previous)
        with pytest.raises(StoreError, match=r"record of promotions cannot be used \(.*Nothing is lost") as raised:
            promote(project, "demo")

    assert "letters0and1digits" not in str(raised.value)
    assert aliases(project) == {"champion": "1", "previous": "1"}
    assert promote(project, "demo").champion == "2"
    assert record(project)[-1][1:] == ("promote", "1", "2", "finished later")


@pytest.mark.parametrize(
    ("address", "message"),
    [
        (
            "postgresql://ada:secret@127.0.0.1:{port}/none",
            r"ada:\*\*\*@127.0.0.1:\d+/none cannot be reached \(.*refused",
        ),
        (
            "postgresql://ada:secret@127.0.0.1:port/none",
            r"ISTHMUS_PROMOTION_DB: not an address .*Allowed: the path of an",
        ),
    ],
)
def test_an_address_that_leads_nowhere_is_a_clear_error(address, message):
    with pytest.raises(StoreError, match=message) as raised, locked_database(address.format(port=free_port())):
        pass
    assert "secret" not in str(raised.value)


def test_a_missing_driver_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "psycopg2", None)

    with (
        pytest.raises(StoreError, match=r"needs 'psycopg2': .*pip install -e '\.\[postgres\]'"),
        locked_database("postgresql://ada@127.0.0.1/none"),
    ):
        pass


def test_a_user_who_may_not_make_the_tables_is_told_what_to_do(postgres, record_database):
    database = record_database.rpartition("/")[2]
    psql(postgres, database, "CREATE ROLE guest LOGIN PASSWORD 'letters0and1digits'")

    with (
        pytest.raises(StoreError, match=r"tables of the record of promotions cannot be created .*Promote once as the"),
        locked_database(record_database.replace("isthmus:", "guest:")),
    ):
        pass
