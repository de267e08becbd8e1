"""The key that stands between a patient's number and its hash."""

from pathlib import Path

from isthmus.core.errors import ConfigError

_SHORTEST = 16  # [byte]: a patient's number is guessed in seconds under a short key


def read_key(path: Path) -> bytes:
    """Returns the bytes of a key file, which must lie outside every git repository.

    A person with the key can try all patients' numbers against the groups of a manifest: it is as secret as these.
    Changing it changes the groups and so the splits.

    Raises:
        ConfigError: the path is relative, is missing or inside a repository, or the key is short.
    """
    where, file = f"params.yaml: ingest.identity_key: {path}", path.expanduser()
    make = "Create one outside git: mkdir -p ~/.isthmus && head -c 32 /dev/urandom > ~/.isthmus/identity.key"
    if not file.is_absolute():
        raise ConfigError(f"{where}: must be an absolute path or begin with ~, so that it lies outside git. {make}")
    if not file.is_file():
        raise ConfigError(f"{where}: no such file. {make}")
    if inside := [above for above in file.resolve().parents if (above / ".git").exists()]:
        raise ConfigError(f"{where}: lies in the git repository {inside[0]}, where a key can be committed. {make}")
    key = file.read_bytes()
    if len(key) < _SHORTEST:
        raise ConfigError(f"{where}: {len(key)} bytes. Allowed: at least {_SHORTEST}. {make}")
    return key
