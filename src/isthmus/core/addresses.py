"""Addresses in messages: without passwords, tokens and keys."""

import re

from isthmus.core.errors import ConfigError

# What stands before the last '@' of the authority, and a password that holds a '/' too; a port is no password.
_LOGIN = re.compile(r"([a-zA-Z][a-zA-Z0-9+.-]*)://(?:([^\s'\"/:@]*):(?!\d+(?:/|$))[^\s'\"]*|([^\s'\"/]*))@")
_VALUE = re.compile(r"([?&](?:password|sslpassword|passwd|token|secret|sig|signature|x-amz-[a-z-]+)=)[^&\s'\"]+", re.I)


def without_passwords(text: str) -> str:
    """Returns a text whose addresses may be shown; in those of the web the name can be a token, so it goes too.

    >>> without_passwords("postgresql://ada:secret@127.0.0.1:5432/promotions")
    'postgresql://ada:***@127.0.0.1:5432/promotions'
    >>> without_passwords("cannot reach 'https://token@host/x?sig=1', see http://host:80/a@b or ssh://git@host")
    "cannot reach 'https://***@host/x?sig=***', see http://host:80/a@b or ssh://git@host"
    """

    def shown(found: re.Match[str]) -> str:
        scheme, user, whole = found.groups()
        if scheme.lower() in ("http", "https"):
            return f"{scheme}://***@"
        if user is None and ":" not in whole:
            return found.group()
        return f"{scheme}://{user if user is not None else whole.partition(':')[0]}:***@"

    return _VALUE.sub(r"\1***", _LOGIN.sub(shown, text))


def check_login(variable: str, address: str) -> str:
    """Returns an address whose login ends where it seems to: of two '@' the first would end the password.

    Raises:
        ConfigError: there are two.
    """
    if address.partition("://")[2].partition("/")[0].count("@") > 1:
        raise ConfigError(
            f"{variable}: {without_passwords(address)} has more than one '@' before the host."
            " In a password write '@' as %40, ':' as %3A, '/' as %2F"
        )
    return address
