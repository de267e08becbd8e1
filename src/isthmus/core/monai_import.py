"""Imports MONAI where a plugin needs it: five to twelve seconds and 250 MB, so never at the top of a module."""

import importlib
import logging
import warnings
from typing import Any

from isthmus.core.errors import ConfigError


def monai(module: str) -> Any:
    """Returns a module of MONAI such as `monai.transforms`; nothing that it warns of or logs reaches the user.

    MONAI replaces `warnings.showwarning` of the whole process while it is imported; it is put back.

    Raises:
        ConfigError: MONAI is not installed.
    """
    shown = warnings.showwarning
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = importlib.import_module(module)
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "monai":
            raise
        raise ConfigError("needs the package 'monai', which is not installed: pip install 'isthmus[medical]'") from None
    finally:
        warnings.showwarning = shown
    logging.getLogger("monai").setLevel(logging.ERROR)
    return found
