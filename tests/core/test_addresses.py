import pytest

from isthmus.core.addresses import check_login, without_passwords
from isthmus.core.errors import ConfigError


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("postgresql://ada:secret@host:5432/db", "postgresql://ada:***@host:5432/db"),
        ("postgresql+asyncpg://ada:secret@host/db", "postgresql+asyncpg://ada:***@host/db"),
        ("postgresql://ada:se:c@ret/x@host/db", "postgresql://ada:***@host/db"),
        ("postgresql://:secret@host/db", "postgresql://:***@host/db"),
        ("postgresql://host/db?user=ada&password=secret&x=1", "postgresql://host/db?user=ada&password=***&x=1"),
        ("https://secret@host/x.git", "https://***@host/x.git"),
        ("http://ada:secret@host:5000", "http://***@host:5000"),
        ("https://secret:x-oauth-basic@host/x", "https://***@host/x"),
        ("https://host/x?X-Amz-Signature=secret", "https://host/x?X-Amz-Signature=***"),
        ("webdavs://ada:secret@host/x", "webdavs://ada:***@host/x"),
        ("ssh://git@host:22/x.git", "ssh://git@host:22/x.git"),
        ("git@host:team/x.git", "git@host:team/x.git"),
        ("http://127.0.0.1:5000/#/models/a@champion", "http://127.0.0.1:5000/#/models/a@champion"),
        ("models:/isthmus-press@champion", "models:/isthmus-press@champion"),
        ("s3://bucket/a@b/c", "s3://bucket/a@b/c"),
    ],
)
def test_an_address_is_shown_without_its_password_and_else_as_it_is(address: str, shown: str) -> None:
    assert without_passwords(address) == shown
    assert (
        without_passwords(f"cannot reach '{address}', nor {address} (x)") == f"cannot reach '{shown}', nor {shown} (x)"
    )


def test_a_password_with_an_at_sign_is_refused_and_not_shown() -> None:
    assert check_login("HERE", "postgresql://ada:s%40t@host/db?x=@") == "postgresql://ada:s%40t@host/db?x=@"
    with pytest.raises(ConfigError, match=r"^HERE: postgresql://ada:\*\*\*@host/db has more than one '@' .* as %40"):
        check_login("HERE", "postgresql://ada:se@cret@host/db")
