"""The lock of promotion: one promoter of a store at a time, on whatever machine; it is free when its holder is gone.

It belongs to the record of promotions: a file beside an SQLite record (`sqlite.py`), an advisory lock of a Postgres
database (`postgres.py`).
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from isthmus.core.addresses import without_passwords
from isthmus.registry.ledger.ledger import Ledger, ledger_address
from isthmus.registry.ledger.postgres import locked_database
from isthmus.registry.ledger.sqlite import locked_file
from isthmus.registry.store.tracking import Store


@contextmanager
def locked_ledger(store: Store) -> Iterator[Ledger]:
    """Locks out all other promoters of the store and opens the record.

    Raises:
        StoreError: the lock was not released in time, the record cannot be reached, or a server's record has no
            configured address.
    """
    address = ledger_address(store)
    if isinstance(address, Path):
        with locked_file(address) as connection:
            yield Ledger(connection, str(address))
    else:
        with locked_database(address) as connection:
            yield Ledger(connection, without_passwords(address))
