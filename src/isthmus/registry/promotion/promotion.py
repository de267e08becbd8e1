"""Moves the aliases `champion` and `previous`, one promoter at a time, so that a kill at any step loses nothing.

Under the lock: finish what a killed promoter began; check that registry and record agree, and that the decision is the
gate's own and expects this champion; see to it that commit and data are kept; write the intent; set `previous`, then
`champion`; read both back; write the outcome. Alias writes in MLflow are plain upserts: two promoters without this lost
a promotion.
"""

from dataclasses import dataclass, replace
from pathlib import Path

from isthmus.core.errors import IsthmusError, StoreError
from isthmus.core.progress import log
from isthmus.gates.scored import NO_LABELS, TARGET
from isthmus.registry.gate.decision import CHAMPION, Decision
from isthmus.registry.ledger.consistency import disagreement
from isthmus.registry.ledger.ledger import Intent, Ledger
from isthmus.registry.ledger.promotion_lock import locked_ledger
from isthmus.registry.promotion.retention import protect
from isthmus.registry.promotion.verification import PromotionRefusedError as PromotionRefusedError
from isthmus.registry.promotion.verification import intact_decision, judge_again
from isthmus.registry.publish.publish import CANDIDATE, model_name
from isthmus.registry.store.stores import open_store
from isthmus.registry.store.tracking import Store

PREVIOUS = "previous"


class ApprovalNeededError(IsthmusError):
    """A person must decide. Exit status 4."""

    exit_status = 4


@dataclass(frozen=True)
class Promotion:
    """How the aliases stand.

    Attributes:
        model: registered name.
        champion: version, None where there is none any more.
        previous: version, None where there was no champion before.
        changed: False when everything was in place already.
        approved_by: name of the person, empty where none was needed.
    """

    model: str
    champion: str | None
    previous: str | None
    changed: bool
    approved_by: str


def promote(project: Path, scenario: str, approve: str | None = None, version: str | None = None) -> Promotion:
    """Makes a version the champion; doing it twice is doing it once.

    Args:
        project: its root.
        scenario: a name under `scenarios:`.
        approve: name of the person who approves a version that the gate leaves to a person, or a promotion where
            registry and record of promotions disagree.
        version: number in the registry; by default the one that `candidate` points to.

    Raises:
        PromotionRefusedError: the gate said no, its decision is not intact, or the champion is not the one it compared
            with.
        ApprovalNeededError: the gate leaves it to a person, the version was rolled back, or registry and record
            disagree, and no person approved.
        StoreError: there is no candidate or no decision, commit or data are not kept, or the store does not answer.
    """
    project, store, model = project.resolve(), open_store(project), model_name(scenario)
    with locked_ledger(store) as ledger:
        _recover(store, ledger, model)
        aliases = store.aliases(model)
        chosen = version or aliases.get(CANDIDATE)
        if chosen is None:
            raise StoreError(f"{model}: no version is published. Run 'isthmus publish {scenario}'")
        standing = aliases.get(CHAMPION) == chosen
        last = ledger.last_done(model)
        differs = disagreement(last, model, aliases.get(CHAMPION))
        if differs and (standing or approve):
            log(differs)  # else it is the reason why nothing is promoted
        if standing:
            return _standing(store, model, changed=False)
        decision = intact_decision(project, store, scenario, model, chosen)
        _check(decision, store, last, differs, aliases.get(CHAMPION), approve)
        judge_again(project, store, decision)
        protect(project, store, scenario, model, chosen)
        intent = Intent(
            0, "promote", model, aliases.get(CHAMPION), aliases.get(PREVIOUS), chosen, aliases.get(CHAMPION),
            decision.sha256, approve or "",
        )  # fmt: skip
        _carry_out(store, ledger, intent)
        return _standing(store, model, changed=True, approved_by=intent.approved_by)


def rollback(project: Path, scenario: str, approve: str | None = None, withdraw: bool = False) -> Promotion:
    """Swaps `champion` and `previous`; a rollback that was killed half-way is finished, not swapped again.

    Args:
        project: its root.
        scenario: a name under `scenarios:`.
        approve: name of the person who answers for it where registry and record of promotions disagree.
        withdraw: take the champion away and leave none; `previous` stays as it is.

    Raises:
        ApprovalNeededError: registry and record disagree, and no person approved.
        StoreError: there is no previous champion, or the store does not answer.
    """
    store, model = open_store(project), model_name(scenario)
    with locked_ledger(store) as ledger:
        if _recover(store, ledger, model) == "rollback":
            return _standing(store, model, changed=True)
        aliases = store.aliases(model)
        champion, previous = aliases.get(CHAMPION), aliases.get(PREVIOUS)
        if differs := disagreement(ledger.last_done(model), model, champion):
            if not approve:
                raise ApprovalNeededError(
                    f"{differs}. A rollback might restore another version than intended: previous is"
                    f" {previous or 'none'}. A person"
                    f" must decide: 'isthmus rollback {scenario} --approve NAME'"
                )
            log(differs)
        if champion is None:
            raise StoreError(f"{model}: there is no champion, so there is nothing to roll back")
        if previous is None and not withdraw:
            raise StoreError(
                f"{model}: version {champion} is the first champion: there is no previous one to roll back to."
                f" 'isthmus rollback {scenario} --withdraw' removes it and leaves no champion"
            )
        intent = Intent(
            0, "rollback", model, champion, previous, None if withdraw else previous,
            previous if withdraw else champion, "", approve or "",
        )  # fmt: skip
        _carry_out(store, ledger, intent)
        return _standing(store, model, changed=True)


def _check(
    decision: Decision, store: Store, last: Intent | None, differs: str, champion: str | None, approve: str | None
) -> None:
    what = f"{decision.model} version {decision.version}"
    if decision.verdict == "no":
        refused = "; ".join(reason["text"] for reason in decision.reasons if reason["verdict"] == "refuse")
        raise PromotionRefusedError(f"{what}: the gate says no: {refused}")
    now = None if champion is None else store.model_of(decision.model, champion)
    if (decision.expected_champion, decision.champion_id) != (champion, now):
        raise PromotionRefusedError(
            f"{what}: the decision compared it with champion {decision.expected_champion or 'none'},"
            f" but the champion is now {champion or 'none'}{f' ({now})' if now else ''}."
            f" Run 'isthmus gate {decision.scenario}' again"
        )
    if approve:
        return
    again = f"Run 'isthmus promote {decision.scenario} --approve NAME'"
    if differs:
        raise ApprovalNeededError(f"{what}: {differs}. A person must decide. {again}")
    if decision.verdict == "person":
        questions = "; ".join(reason["text"] for reason in decision.reasons if reason["verdict"] == "person")
        labels = ", or label target test images (docs/how-to/promote.md)" if NO_LABELS[TARGET] in questions else ""
        raise ApprovalNeededError(f"{what}: a person must decide: {questions}. {again}{labels}")
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
    if intent.new_champion is None:
        store.delete_alias(intent.model, CHAMPION)
    else:
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
    gone = intent.new_champion is not None and store.model_of(model, intent.new_champion) is None
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
    if intent.old_previous is None or store.model_of(intent.model, intent.old_previous) is None:
        store.delete_alias(intent.model, PREVIOUS)
    else:
        store.set_alias(intent.model, PREVIOUS, intent.old_previous)


def _standing(store: Store, model: str, *, changed: bool, approved_by: str = "") -> Promotion:
    aliases = store.aliases(model)
    return Promotion(model, aliases.get(CHAMPION), aliases.get(PREVIOUS), changed, approved_by)
