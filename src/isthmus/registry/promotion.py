"""Moves the aliases `champion` and `previous`, one promoter at a time, so that a kill at any step loses nothing.

Under the lock: finish what a killed promoter began; check that the champion is the one the decision expected; see to it
that commit and data are kept; write the intent; set `previous`, then `champion`; read both back; write the outcome.
Alias writes in MLflow are plain upserts: two promoters without this lost a promotion.
"""

from dataclasses import dataclass, replace
from pathlib import Path

from isthmus.core.errors import IsthmusError, StoreError
from isthmus.registry.decision import CHAMPION, Decision, read_decision
from isthmus.registry.ledger import Intent, Ledger, open_ledger
from isthmus.registry.protection import protect
from isthmus.registry.publish import CANDIDATE, model_name
from isthmus.registry.stores import open_store
from isthmus.registry.tracking import Store

PREVIOUS = "previous"


class PromotionRefusedError(IsthmusError):
    """The gate is closed for this version. Exit status 3."""

    exit_status = 3


class ApprovalNeededError(IsthmusError):
    """A person must decide. Exit status 4."""

    exit_status = 4


@dataclass(frozen=True)
class Promotion:
    """How the aliases stand.

    Attributes:
        model: registered name.
        champion: version.
        previous: version, None where there was no champion before.
        changed: False when everything was in place already.
        approved_by: name of the person, empty where none was needed.
    """

    model: str
    champion: str
    previous: str | None
    changed: bool
    approved_by: str


def promote(project: Path, scenario: str, approve: str | None = None, version: str | None = None) -> Promotion:
    """Makes a version the champion; doing it twice is doing it once.

    Args:
        project: its root.
        scenario: a name under `scenarios:`.
        approve: name of the person who approves a version that the gate leaves to a person.
        version: number in the registry; by default the one that `candidate` points to.

    Raises:
        PromotionRefusedError: the gate said no, or the champion is not the one it compared with.
        ApprovalNeededError: the gate leaves it to a person, or the version was rolled back, and nobody approved.
        StoreError: there is no candidate or no decision, commit or data are not kept, or the store does not answer.
    """
    store, model = open_store(project), model_name(scenario)
    with open_ledger(store) as ledger:
        _recover(store, ledger, model)
        aliases = store.aliases(model)
        chosen = version or aliases.get(CANDIDATE)
        if chosen is None:
            raise StoreError(f"{model}: no version is published. Run 'isthmus publish {scenario}'")
        if aliases.get(CHAMPION) == chosen:
            return _standing(store, model, changed=False)
        decision = _decision(project.resolve(), store, scenario, model, chosen)
        _check(decision, ledger, aliases.get(CHAMPION), approve)
        protect(project, store, scenario, model, chosen)
        intent = Intent(
            0, "promote", model, aliases.get(CHAMPION), aliases.get(PREVIOUS), chosen, aliases.get(CHAMPION),
            decision.sha256, approve or "",
        )  # fmt: skip
        _carry_out(store, ledger, intent)
        return _standing(store, model, changed=True, approved_by=intent.approved_by)


def rollback(project: Path, scenario: str) -> Promotion:
    """Swaps `champion` and `previous`; a rollback that was killed half-way is finished, not swapped again.

    Raises:
        StoreError: there is no previous champion, or the store does not answer.
    """
    store, model = open_store(project), model_name(scenario)
    with open_ledger(store) as ledger:
        if _recover(store, ledger, model) == "rollback":
            return _standing(store, model, changed=True)
        aliases = store.aliases(model)
        champion, previous = aliases.get(CHAMPION), aliases.get(PREVIOUS)
        if champion is None or previous is None:
            raise StoreError(f"{model}: there is no previous champion to go back to (champion: {champion or 'none'})")
        _carry_out(store, ledger, Intent(0, "rollback", model, champion, previous, previous, champion, "", ""))
        return _standing(store, model, changed=True)


def _decision(project: Path, store: Store, scenario: str, model: str, version: str) -> Decision:
    model_id = store.model_of(model, version)
    if model_id is None:
        raise StoreError(f"{model}: no version {version} in {store.place}. Run 'isthmus publish {scenario}'")
    return read_decision(project, scenario, version, model_id)


def _check(decision: Decision, ledger: Ledger, champion: str | None, approve: str | None) -> None:
    what = f"{decision.model} version {decision.version}"
    if decision.verdict == "no":
        refused = "; ".join(reason["text"] for reason in decision.reasons if reason["verdict"] == "refuse")
        raise PromotionRefusedError(f"{what}: the gate says no: {refused}")
    if decision.expected_champion != champion:
        raise PromotionRefusedError(
            f"{what}: the decision compared it with champion {decision.expected_champion or 'none'},"
            f" but the champion is now {champion or 'none'}. Run 'isthmus gate {decision.scenario}' again"
        )
    if approve:
        return
    again = f"Run 'isthmus promote {decision.scenario} --approve NAME'"
    if decision.verdict == "person":
        open_questions = "; ".join(reason["text"] for reason in decision.reasons if reason["verdict"] == "person")
        raise ApprovalNeededError(f"{what}: a person must decide: {open_questions}. {again}")
    last = ledger.last_done(decision.model)
    # Without this a scheduled promotion would undo, the same night, what an operator rolled back.
    if last is not None and last.action == "rollback" and last.old_champion == decision.version:
        raise ApprovalNeededError(f"{what}: it was champion and was rolled back; a person must decide. {again}")


def _carry_out(store: Store, ledger: Ledger, intent: Intent) -> None:
    written = replace(intent, id=ledger.intend(intent))
    _set_aliases(store, ledger, written)
    ledger.conclude(written.id, "done")


def _set_aliases(store: Store, ledger: Ledger, intent: Intent) -> None:
    # `previous` first: at no moment has a former champion no alias that leads back to it.
    if intent.new_previous is not None:
        ledger.confirm_lock()
        store.set_alias(intent.model, PREVIOUS, intent.new_previous)
    ledger.confirm_lock()
    store.set_alias(intent.model, CHAMPION, intent.new_champion)
    seen = store.aliases(intent.model)
    if seen.get(CHAMPION) != intent.new_champion or (intent.new_previous or seen.get(PREVIOUS)) != seen.get(PREVIOUS):
        raise StoreError(
            f"{intent.model}: set champion {intent.new_champion} and previous {intent.new_previous}, but the store says"
            f" {seen}: something else writes aliases. Run the same command again"
        )


def _recover(store: Store, ledger: Ledger, model: str) -> str:
    """Finishes what a killed promoter began and returns its action, empty where there was nothing to finish.

    Its checks had passed under the lock, so going on is right, unless somebody moved the champion by hand or
    deleted the version since: then what is there stays, and the record says that the intent was overtaken.
    """
    intent = ledger.unfinished(model)
    if intent is None:
        return ""
    champion = store.aliases(model).get(CHAMPION)
    gone = store.model_of(model, intent.new_champion) is None
    if gone or champion not in (intent.old_champion, intent.new_champion):
        _restore_previous(store, intent)
        ledger.conclude(intent.id, "overtaken")
        return ""
    _set_aliases(store, ledger, intent)
    ledger.conclude(intent.id, "finished later")
    return intent.action


def _restore_previous(store: Store, intent: Intent) -> None:
    seen = store.aliases(intent.model).get(PREVIOUS)
    if seen is None or seen != intent.new_previous or seen == intent.old_previous:
        return
    if intent.old_previous is None:
        store.delete_alias(intent.model, PREVIOUS)
    else:
        store.set_alias(intent.model, PREVIOUS, intent.old_previous)


def _standing(store: Store, model: str, *, changed: bool, approved_by: str = "") -> Promotion:
    aliases = store.aliases(model)
    return Promotion(model, aliases[CHAMPION], aliases.get(PREVIOUS), changed, approved_by)
