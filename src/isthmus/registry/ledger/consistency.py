"""Whether the registry and the record of promotions tell the same story: a registry restored from a copy does not."""

from isthmus.registry.ledger.ledger import Intent


def disagreement(last: Intent | None, model: str, champion: str | None) -> str:
    """Returns what is wrong in one sentence, empty where they agree.

    Args:
        last: the last change that took effect, as the record has it; None without a record.
        model: registered name.
        champion: version that the registry's alias points to.
    """
    if last is None or last.new_champion == champion:
        return ""
    recorded, there = (f"version {version}" if version else "none" for version in (last.new_champion, champion))
    return (
        f"{model}: in the registry the champion is {there}, but by the last {last.action} in the record of promotions"
        f" it is {recorded}: the registry was restored from an older copy or created again, or the alias was moved"
        f" by hand"
    )
