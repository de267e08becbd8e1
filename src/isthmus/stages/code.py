"""Writes a fingerprint of the code that each stage uses, on which the stages depend in place of the source itself.

`package` is what DVC watches of Isthmus: its source in a clone, `isthmus.lock` where it is installed. `plugins` is the
folder of the project's own plugins.

A file a stage, `STAGE`, or `STAGE/PLUGIN` where the stage's key names its pair, kind or method; each holds 64 hex
digits (`core/code/fingerprint.py`). A change that no fingerprint sees, such as a comment, runs this stage and no other.
"""

from pathlib import Path

from isthmus.core import plugins as known
from isthmus.core.code import code_lock
from isthmus.core.code.fingerprint import Code
from isthmus.core.files import atomic_folder
from isthmus.stages._cli import stage


def run(*, package: Path, plugins: Path, out: Path) -> None:
    """Writes the folder as a whole.

    Raises:
        ConfigError: another version of the package is installed than the lock names.
    """
    if package.is_file():
        code_lock.check(package)
    known.use(plugins)
    with atomic_folder(out) as folder:
        for name, fingerprint in Code().fingerprints().items():
            (folder / name).parent.mkdir(exist_ok=True)
            (folder / name).write_text(f"{fingerprint}\n", encoding="utf-8")


if __name__ == "__main__":
    stage(run)
