"""Known public pairs of `isthmus fetch`, by name."""

from itertools import groupby

from isthmus.core import plugins
from isthmus.core.errors import ConfigError
from isthmus.data.catalog.classified import CLASSIFIED
from isthmus.data.catalog.dense import DENSE
from isthmus.data.catalog.pair import PublicPair

PAIRS = {pair.name: pair for pair in [*CLASSIFIED, *DENSE]}


def public_pair(name: str) -> PublicPair:
    """Returns a known pair.

    Raises:
        ConfigError: there is none of this name.
    """
    if name not in PAIRS:
        hint = plugins.did_you_mean(name, sorted(PAIRS))
        raise ConfigError(f"no public pair '{name}'.{hint} There are: {', '.join(sorted(PAIRS))}")
    return PAIRS[name]


def listing() -> str:
    """Returns the known pairs for a person: names, domains, tasks, origin and licence; a family's origin once."""
    blocks = []
    for _, family in groupby(PAIRS.values(), key=lambda pair: pair.raw):
        pairs = list(family)
        heads = [f"{p.name}: {p.source} -> {p.target} ({p.section.get('task', 'classification')})" for p in pairs]
        last = pairs[-1]
        mirror = ["  From a mirror alone (--mirror)"] if last.mirror_only else []
        blocks.append("\n".join([*heads, f"  {last.origin}", f"  Licence: {last.licence}", *mirror]))
    return "\n\n".join(blocks)
