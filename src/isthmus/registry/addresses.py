"""`MODEL@ALIAS`: which registered model a person means, pinned to its id before it is used."""

from dataclasses import dataclass

from isthmus.core.errors import ConfigError, StoreError
from isthmus.core.plugins import did_you_mean
from isthmus.registry.tracking import Store


@dataclass(frozen=True)
class Address:
    """A version of a registered model, found once: an alias that moves later moves nothing that runs.

    Attributes:
        model: registered name.
        alias: as it was given.
        version: number in the registry.
        model_id: MLflow loads it from `models:/<model_id>`.
    """

    model: str
    alias: str
    version: str
    model_id: str


def resolve(store: Store, given: str) -> Address:
    """Finds what `MODEL@ALIAS` stands for now; `models:/` before it is allowed.

    Raises:
        ConfigError: it is not of that form.
        StoreError: there is no such model or alias.
    """
    model, _, alias = given.removeprefix("models:/").partition("@")
    if not model or not alias:
        raise ConfigError(f"'{given}' names no model. Allowed: MODEL@ALIAS, such as isthmus-industrial@champion")
    aliases = store.aliases(model)
    if alias not in aliases:
        there = ", ".join(sorted(aliases))
        raise StoreError(
            f"{model}: no alias '{alias}' in {store.place}.{did_you_mean(alias, list(aliases))}"
            + (f" There are: {there}" if there else " Nothing is published under this name: 'isthmus publish SCENARIO'")
        )
    version = aliases[alias]
    return Address(model, alias, version, store.model_of(model, version) or "")
