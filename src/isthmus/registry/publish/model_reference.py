"""`NAME@ALIAS`: which registered model a person means, pinned to its id before it is used."""

import re
from dataclasses import dataclass

from isthmus.core.errors import ConfigError, StoreError
from isthmus.core.plugins import did_you_mean
from isthmus.registry.publish.publish import model_name
from isthmus.registry.store.tracking import Store

DEFAULT_ALIAS = "champion"


@dataclass(frozen=True)
class Address:
    """A version of a registered model, found once: an alias that moves later moves nothing that runs.

    Attributes:
        model: registered name.
        version: number in the registry.
        model_id: MLflow loads it from `models:/<model_id>`.
    """

    model: str
    version: str
    model_id: str


def resolve(store: Store, asked: str) -> Address:
    """Finds what `NAME@ALIAS`, `NAME/VERSION` or `NAME` (its champion) stands for now.

    Args:
        store: where to look.
        asked: NAME is a registered name or a scenario; `models:/` before it is allowed.

    Raises:
        ConfigError: it is not of that form.
        StoreError: there is no such model, alias or version.
    """
    name, number, alias = parsed(asked)
    names = store.models()
    model = name if name in names else model_name(name)
    if model not in names:
        there = ", ".join(names) or "none; 'isthmus publish SCENARIO' creates one"
        raise StoreError(f"'{asked}': no model '{name}' in {store.place}. There are: {there}")
    version = number or _version_of(store, model, alias)
    model_id = store.model_of(model, version)
    if model_id is None:
        raise StoreError(f"'{asked}': {model} has no version {version} in {store.place}")
    store.check_artifacts()
    return Address(model, version, model_id)


def parsed(asked: str) -> tuple[str, str, str]:
    """Returns name, version (or empty) and alias of what a person typed.

    >>> parsed("steel"), parsed("models:/isthmus-steel@previous"), parsed("steel/3")
    (('steel', '', 'champion'), ('isthmus-steel', '', 'previous'), ('steel', '3', 'champion'))
    """
    match = re.fullmatch(r"(?:models:/)?([^@/]+)(?:/(\d+)|@([^@/]+))?", asked)
    if not match:
        raise ConfigError(f"'{asked}' names no model. Allowed: NAME@ALIAS, NAME/VERSION, NAME")
    return match.group(1), match.group(2) or "", match.group(3) or DEFAULT_ALIAS


def _version_of(store: Store, model: str, alias: str) -> str:
    aliases = store.aliases(model)
    if alias not in aliases:
        there = ", ".join(sorted(aliases)) or "none"
        hint = did_you_mean(alias, list(aliases))
        raise StoreError(f"{model}: no alias '{alias}' in {store.place}.{hint} There are: {there}")
    return aliases[alias]
