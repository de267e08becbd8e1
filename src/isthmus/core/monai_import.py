"""Stands around each import of MONAI: five to twelve seconds and 250 MB, so only in the function that needs it."""

import contextlib
import logging
import warnings
from collections.abc import Iterator

from isthmus.core.errors import ConfigError
from isthmus.core.plugins import install_command


@contextlib.contextmanager
def monai_import() -> Iterator[None]:
    """Lets MONAI be imported in its block; nothing that it warns of or logs reaches the user, then or later.

    MONAI replaces `warnings.showwarning` of the whole process while it is imported; it is put back.

    Raises:
        ConfigError: MONAI is not installed.
    """
    shown = warnings.showwarning
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "monai":
            raise
        raise ConfigError(f"needs the package 'monai', which is not installed: {install_command('medical')}") from None
    finally:
        warnings.showwarning = shown
    logging.getLogger("monai").setLevel(logging.ERROR)
