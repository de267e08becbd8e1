"""Every package that is installed is named with its version in a lock file, and its files by their hashes."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.repo.imports import REPOSITORY

HASHES = REPOSITORY / ".ci" / "hashes"
LOCKS = ("requirements.lock", "requirements-dev.lock")


def hashed(lock: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, str(REPOSITORY / ".ci/hashed"), str(lock)], capture_output=True, text=True)


def names(text: str) -> list[str]:
    return re.findall(r"^([^ \n]+==[^ \n]+)", text, re.MULTILINE)


@pytest.mark.parametrize("lock", LOCKS)
def test_every_locked_package_has_hashes(lock: str) -> None:
    text = (REPOSITORY / lock).read_text()
    done = hashed(REPOSITORY / lock)

    assert done.returncode == 0, done.stderr
    (torch,) = (name for name in names(text) if name.startswith("torch=="))
    assert names(done.stdout) == [name for name in names(text) if name != torch]
    assert all("--hash=sha256:" in block for block in re.split(r"\n(?=\S)", done.stdout.rstrip()))
    assert names((HASHES / "torch.lock").read_text()) == [torch]
    assert names((HASHES / "torch-cpu.lock").read_text()) == [f"{torch}+cpu"]


def test_a_package_without_hashes_is_named_with_the_way_out(tmp_path: Path) -> None:
    (tmp_path / "requirements.lock").write_text("click==0.0.1\ntorch==2.13.0\n")

    done = hashed(tmp_path / "requirements.lock")

    assert done.returncode == 1
    assert "no hashes in .ci/hashes/packages.lock for click==0.0.1. Run 'make lock'" in done.stderr


def test_makefile_and_dockerfile_install_by_hash() -> None:
    makefile, dockerfile = ((REPOSITORY / name).read_text() for name in ("Makefile", "Dockerfile"))
    installs = [
        line
        for line in re.findall(
            r"(?:\$\(INSTALL\)|pip install) [^|&;]*", f"{makefile}\n{dockerfile}".replace("\\\n", " ")
        )
        if " -r " in line
    ]

    assert len(installs) == 8
    without = [line for line in installs if "--require-hashes" not in line]
    assert [line.split()[-1] for line in without] == ["torch.lock"]  # for a GPU, from an index that the builder names
