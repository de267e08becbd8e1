import re
import subprocess
import sys

import pytest
from sqlalchemy.exc import DBAPIError

from isthmus.core.errors import StoreError
from isthmus.registry.ledger.consistency import disagreement
from isthmus.registry.ledger.ledger import last_done, ledger_address
from isthmus.registry.ledger.sqlite import locked_file
from isthmus.registry.promotion.promotion import ApprovalNeededError, PromotionRefusedError, promote, rollback
from isthmus.registry.store.stores import open_store
from isthmus.registry.store.tracking import Store
from pipelines.doctor import EXAMINED
from tests.registry.versions import MODEL, add_version, aliases, decide, ledger_connection, record

# Promotes or rolls back and is killed before or after the n-th call of a method.
KILLED = """
import os, signal, sys
from pathlib import Path
from isthmus.registry.ledger import ledger
from isthmus.registry.promotion import promotion
from isthmus.registry.store import tracking
project, action, owner, method, call = Path(sys.argv[1]), *sys.argv[2:5], int(sys.argv[5])
kind = {"Store": tracking.Store, "Ledger": ledger.Ledger}[owner]
real, count = getattr(kind, method), 0
def killed(self, *arguments):
    global count
    count += 1
    result = real(self, *arguments)
    if count == call:
        os.kill(os.getpid(), signal.SIGKILL)
    return result
setattr(kind, method, killed)
getattr(promotion, action)(project, "demo")
"""
STEPS = [("Ledger", "intend", 1), ("Store", "set_alias", 1), ("Store", "set_alias", 2), ("Ledger", "conclude", 1)]
IN_SOAK = [pytest.param(step, marks=pytest.mark.soak) for step in STEPS]

PROMOTER = """
import sys
from pathlib import Path
from isthmus.registry.promotion.promotion import PromotionRefusedError, promote
print("ready", flush=True)
for line in sys.stdin:
    try:
        print("won" if promote(Path(sys.argv[1]), "demo", version=line.strip()).changed else "same", flush=True)
    except PromotionRefusedError as error:
        print("lost", error, flush=True)
"""


@pytest.fixture
def first(empty):
    version = add_version(empty)
    decide(empty, version, None)
    promote(empty, "demo")
    return empty


@pytest.fixture
def second(first):
    version = add_version(first)
    decide(first, version, "1")
    return first


def test_a_first_promotion_makes_a_champion_and_no_previous(empty):
    decide(empty, add_version(empty), None)

    done = promote(empty, "demo")

    assert (done.champion, done.previous, done.changed) == ("1", None, True)
    assert aliases(empty) == {"champion": "1"}


def test_the_next_promotion_keeps_the_old_champion_as_previous(second):
    done = promote(second, "demo")

    assert (done.champion, done.previous, done.changed) == ("2", "1", True)
    assert aliases(second) == {"champion": "2", "previous": "1"}


def test_promoting_twice_is_promoting_once(second):
    promote(second, "demo")

    again = promote(second, "demo")

    assert (again.champion, again.previous, again.changed) == ("2", "1", False)
    assert [row[1:] for row in record(second)] == [("promote", None, "1", "done"), ("promote", "1", "2", "done")]


def test_a_no_of_the_gate_is_refused_whoever_approves(first):
    decide(first, add_version(first, "no"), "1")

    for name in (None, "Ada"):
        with pytest.raises(
            PromotionRefusedError, match="version 2: the gate says no: target balanced accuracy of coral .* is below"
        ) as raised:
            promote(first, "demo", name)
    assert raised.value.exit_status == 3
    assert aliases(first) == {"champion": "1"}


def test_what_a_person_must_decide_needs_a_name_and_the_name_is_recorded(first):
    decision = decide(first, add_version(first, "person"), "1")

    with pytest.raises(
        ApprovalNeededError,
        match=r"a person must decide: .*'isthmus promote demo --approve NAME', or label target test images",
    ) as raised:
        promote(first, "demo")
    assert raised.value.exit_status == 4
    assert promote(first, "demo", "Ada").approved_by == "Ada"
    with ledger_connection(first) as connection:
        row = connection.exec_driver_sql("SELECT approved_by, decision FROM intents ORDER BY id DESC").first()
    assert row == ("Ada", decision.sha256)


def test_a_decision_against_another_champion_is_refused(second):
    decide(second, "2", None)

    told = r"compared it with champion none, but the champion is now 1 \(m-\w+\). Run 'isthmus gate demo' again"
    with pytest.raises(PromotionRefusedError, match=told):
        promote(second, "demo")


def test_an_approval_ends_when_the_champion_changes(second):
    person = add_version(second, "person")
    decide(second, person, "1")
    promote(second, "demo", version="2")

    with pytest.raises(PromotionRefusedError, match="the champion is now 2"):
        promote(second, "demo", "Ada", version=person)


def test_nothing_published_and_an_unknown_version_are_named(empty):
    with pytest.raises(StoreError, match=r"isthmus-demo: no version is published. Run 'isthmus publish demo'"):
        promote(empty, "demo")
    with pytest.raises(StoreError, match=r"isthmus-demo: no version 9 in (sqlite|http)"):
        promote(empty, "demo", version="9")


def test_a_version_without_a_decision_is_refused(empty):
    add_version(empty)

    with pytest.raises(StoreError, match="no decision on version 1. Run 'isthmus gate demo'"):
        promote(empty, "demo")


def test_rollback_swaps_champion_and_previous(second):
    promote(second, "demo")

    done = rollback(second, "demo")

    assert (done.champion, done.previous, done.changed) == ("1", "2", True)
    assert record(second)[-1][1:] == ("rollback", "2", "1", "done")


def test_the_first_champion_has_nothing_to_go_back_to_and_can_be_withdrawn(first):
    with pytest.raises(
        StoreError, match=r"version 1 is the first champion: .*'isthmus rollback demo --withdraw' removes"
    ):
        rollback(first, "demo")

    done = rollback(first, "demo", withdraw=True)

    assert (done.champion, done.previous, done.changed) == (None, None, True)
    assert aliases(first) == {}
    assert record(first)[-1][1:] == ("rollback", "1", "", "done")
    with pytest.raises(StoreError, match="there is no champion, so there is nothing to roll back"):
        rollback(first, "demo")
    with pytest.raises(ApprovalNeededError, match="it was champion and was rolled back; a person must decide"):
        promote(first, "demo")
    decide(first, "1", None)
    assert promote(first, "demo", "Ada").champion == "1"


def test_a_champion_that_has_a_previous_one_can_be_withdrawn_too_and_the_previous_one_stays(second):
    promote(second, "demo")

    rollback(second, "demo", withdraw=True)

    assert aliases(second) == {"previous": "1"}


def test_a_version_that_was_rolled_back_comes_back_only_by_a_person(second):
    promote(second, "demo")
    rollback(second, "demo")

    with pytest.raises(ApprovalNeededError, match="it was champion and was rolled back; a person must decide"):
        promote(second, "demo")
    assert promote(second, "demo", "Ada").champion == "2"


def test_the_record_cannot_be_rewritten(first):
    with ledger_connection(first) as connection:
        row = "at, action, model, new_champion, decision, approved_by) VALUES ({id}'', '', 'isthmus-demo', '9', '', '')"
        outcome = "outcomes (intent, at, outcome) VALUES (1, '', 'overtaken')"
        postgres = connection.dialect.name == "postgresql"
        replacing = [
            f"INSERT INTO {outcome} ON CONFLICT (intent) DO UPDATE SET outcome = 'overtaken'",
            *([] if postgres else [f"INSERT OR REPLACE INTO {outcome}", f"REPLACE INTO {outcome}"]),
            *([] if postgres else [f"INSERT OR REPLACE INTO intents (id, {row.format(id='1, ')}"]),
            *([] if postgres else [f"INSERT INTO intents (id, {row.format(id='-1, ')}"]),
        ]
        for statement in ("UPDATE intents SET model = 'x'", "DELETE FROM outcomes", *replacing):
            with pytest.raises(DBAPIError, match="the record of promotions is append-only"):
                connection.exec_driver_sql(statement)
    assert [row[1:] for row in record(first)] == [("promote", None, "1", "done")]


def test_a_record_of_an_older_version_of_isthmus_gets_what_keeps_it_from_being_rewritten(first):
    with ledger_connection(first) as connection:
        if connection.dialect.name == "postgresql":
            return
        connection.exec_driver_sql("DROP TRIGGER no_replace_outcomes")
    promote(first, "demo")

    with ledger_connection(first) as connection, pytest.raises(DBAPIError, match="append-only"):
        connection.exec_driver_sql("INSERT OR REPLACE INTO outcomes (intent, at, outcome) VALUES (1, '', 'x')")


@pytest.mark.parametrize("last", ["promote", "rollback"])
def test_a_registry_restored_from_an_older_copy_is_told_and_only_a_person_goes_on(second, last):
    older = aliases(second)
    promote(second, "demo")
    if last == "rollback":
        rollback(second, "demo")
        older = {"champion": "2", "previous": "1"}
    store = open_store(second)
    store.delete_alias(MODEL, "previous")
    for alias, version in older.items():
        store.set_alias(MODEL, alias, version)
    there, recorded = older["champion"], {"promote": "2", "rollback": "1"}[last]
    told = rf"in the registry the champion is version {there}, but by the last {last} .* it is version {recorded}"

    third = add_version(second)
    decide(second, third, there)
    with pytest.raises(ApprovalNeededError, match=rf"{told}: the registry was restored from .*--approve NAME'"):
        promote(second, "demo")
    with pytest.raises(
        ApprovalNeededError, match=rf"{told}.*might restore another version than intended: previous is "
    ):
        rollback(second, "demo")
    assert disagreement(last_done(store, MODEL), MODEL, there)
    ((state, text, mend),) = (found for found in EXAMINED["registry"](second) if found[0] != "ok")
    assert state == "fault" and re.search(told, text) and "isthmus promote" in mend
    assert promote(second, "demo", "Ada").champion == third
    assert disagreement(last_done(store, MODEL), MODEL, third) == ""
    assert {state for state, *_ in EXAMINED["registry"](second)} == {"ok"}


def test_a_rollback_that_a_person_answers_for_goes_on_where_registry_and_record_differ(second):
    promote(second, "demo")
    open_store(second).set_alias(MODEL, "champion", add_version(second))

    assert rollback(second, "demo", approve="Ada").champion == "1"
    assert record(second)[-1][1:] == ("rollback", "3", "1", "done")


def test_a_broken_record_is_named(tmp_path):
    (tmp_path / "promotions.db").write_text("no database" * 200)

    with (
        pytest.raises(StoreError, match=r"promotions.db: the record of promotions cannot be used.*Restore it or move"),
        locked_file(tmp_path / "promotions.db"),
    ):
        pass


def test_aliases_that_something_else_writes_are_noticed(second, monkeypatch):
    real = Store.set_alias
    with monkeypatch.context() as patch:
        patch.setattr(Store, "set_alias", lambda s, m, alias, v: real(s, m, alias, "1" if alias == "champion" else v))
        with pytest.raises(StoreError, match="set champion 2 and previous 1, but the store .*something else writes"):
            promote(second, "demo")

    assert promote(second, "demo").champion == "2"
    assert aliases(second) == {"champion": "2", "previous": "1"}


def test_a_server_needs_a_shared_record_named(tmp_path, monkeypatch):
    server = object.__new__(Store)
    server.uri = "http://127.0.0.1:5000"
    with pytest.raises(
        StoreError, match=r"ISTHMUS_PROMOTION_DB is not set, and the store http://127.0.0.1:5000 is a server"
    ):
        ledger_address(server)

    monkeypatch.setenv("ISTHMUS_PROMOTION_DB", f"sqlite:///{tmp_path}/shared.db")
    assert ledger_address(server) == tmp_path / "shared.db"
    for relative in ("promotions.db", "../promotions.db", "sqlite:///promotions.db", "~/promotions.db"):
        monkeypatch.setenv("ISTHMUS_PROMOTION_DB", relative)
        with pytest.raises(
            StoreError, match=r"is a relative path: each folder would have .* Name the whole path, such"
        ):
            ledger_address(server)
    monkeypatch.setenv("ISTHMUS_PROMOTION_DB", "mysql://ada:secret@somewhere")
    with pytest.raises(StoreError, match=r"cannot use 'mysql://...'. Allowed: .* or postgresql://USER") as raised:
        ledger_address(server)
    assert "secret" not in str(raised.value)


def test_a_champion_moved_by_hand_overtakes_an_unfinished_promotion(second):
    _kill(second, "promote", *STEPS[1])
    assert aliases(second) == {"champion": "1", "previous": "1"}
    open_store(second).set_alias(MODEL, "champion", add_version(second))

    with pytest.raises(PromotionRefusedError, match="the champion is now 3"):
        promote(second, "demo", version="2")
    assert record(second)[-1][4] == "overtaken"
    assert aliases(second) == {"champion": "3"}


def test_a_version_that_was_deleted_overtakes_an_unfinished_rollback_to_it(second):
    promote(second, "demo")
    _kill(second, "rollback", *STEPS[1])
    open_store(second)._client.delete_model_version(MODEL, "1")

    with pytest.raises(StoreError, match="version 2 is the first champion: there is no previous one"):
        rollback(second, "demo")
    assert record(second)[-1][4] == "overtaken"
    assert aliases(second) == {"champion": "2"}


@pytest.mark.slow
@pytest.mark.parametrize("step", [IN_SOAK[0], STEPS[1], *IN_SOAK[2:]])
def test_a_killed_promotion_is_finished_by_the_next(second, step):
    decide(second, add_version(second), "1")
    _kill(second, "promote", *step)
    assert aliases(second)["champion"] in ("1", "3")

    promote(second, "demo")

    assert aliases(second) == {"champion": "3", "previous": "1"}
    assert [row[2:4] for row in record(second)] == [(None, "1"), ("1", "3")]
    assert record(second)[-1][4] == ("done" if step[1] == "conclude" else "finished later")


@pytest.mark.slow
@pytest.mark.parametrize("step", [STEPS[0], *IN_SOAK[1:3]])
def test_a_killed_rollback_is_finished_by_the_next_and_not_swapped_again(second, step):
    promote(second, "demo")
    _kill(second, "rollback", *step)

    done = rollback(second, "demo")

    assert (done.champion, done.previous) == ("1", "2")
    assert len(record(second)) == 3


@pytest.mark.soak
@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("action", ["promote", "rollback"])
@pytest.mark.parametrize("step", [("Ledger", "unfinished", 1), *STEPS])
@pytest.mark.parametrize("again", STEPS[1:])
def test_who_finishes_a_killed_change_may_be_killed_too_and_there_is_always_one_champion(second, action, step, again):
    if action == "rollback":
        promote(second, "demo")
    before = aliases(second)
    after = {"champion": "2", "previous": "1"} if action == "promote" else {"champion": "1", "previous": "2"}
    _kill(second, action, *step)
    assert aliases(second)["champion"] in (before["champion"], after["champion"])
    if step[1] != "conclude":  # else nothing is left to finish
        _kill(second, action, *again)
        assert aliases(second)["champion"] in (before["champion"], after["champion"])

    done = record(second)[-1]
    if done[1] != action or done[4] is None:
        {"promote": promote, "rollback": rollback}[action](second, "demo")

    assert aliases(second) == after
    assert [row[1] for row in record(second)].count("rollback") == (action == "rollback")
    assert None not in [row[4] for row in record(second)]


@pytest.mark.soak
def test_of_four_promoters_at_once_exactly_one_wins_in_each_of_three_rounds(first):
    _race(first, 4, 3)


@pytest.mark.soak
@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_of_ten_promoters_at_once_exactly_one_wins_in_each_of_twenty_rounds(first):
    _race(first, 10, 20)


def _race(first, count, rounds):
    command = [sys.executable, "-c", PROMOTER, str(first)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True, "bufsize": 1}
    promoters = [subprocess.Popen(command, **pipes) for _ in range(count)]
    assert [p.stdout.readline() for p in promoters] == ["ready\n"] * count
    champion = "1"
    for _ in range(rounds):
        versions = [add_version(first) for _ in promoters]
        for version in versions:
            decide(first, version, champion)
        for promoter, version in zip(promoters, versions, strict=True):
            promoter.stdin.write(f"{version}\n")
            promoter.stdin.flush()

        answers = [promoter.stdout.readline() for promoter in promoters]

        assert sorted(answer.split()[0] for answer in answers) == ["lost"] * (count - 1) + ["won"]
        winner = versions[[answer.strip() for answer in answers].index("won")]
        assert aliases(first) == {"champion": winner, "previous": champion}
        champion = winner
    for promoter in promoters:
        promoter.stdin.close()
        promoter.stdout.close()
        promoter.wait()
    assert len(record(first)) == rounds + 1
    assert {row[4] for row in record(first)} == {"done"}
    assert [row[2] for row in record(first)][1:] == [row[3] for row in record(first)][:-1]  # each follows the last


def _kill(project, action, owner, method, call):
    command = [sys.executable, "-c", KILLED, str(project), action, owner, method, str(call)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == -9, done.stderr
