"""Every package that is installed is named with its version in a lock file, and its files by their hashes."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.repo import REPOSITORY
from tests.repo.deployment_rules import image_complaints

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


def pin(folder: Path, docker: str) -> subprocess.CompletedProcess[str]:
    """Runs `.ci/digests` on copies, with a stand-in for docker, which needs a network."""
    for name in ("Dockerfile", "compose.yaml"):
        shutil.copy(REPOSITORY / name, folder)
    (folder / "docker").write_text(f"#!/bin/sh\n{docker}\n")
    (folder / "docker").chmod(0o755)
    environment = {"PATH": f"{folder}:/usr/bin:/bin"}
    return subprocess.run([REPOSITORY / ".ci/digests", folder], env=environment, capture_output=True, text=True)


def test_images_are_pinned_to_the_digests_of_their_tags_and_renewed(tmp_path: Path) -> None:
    for sign in "ab":
        done = pin(tmp_path, f"echo sha256:{sign * 64}")

        assert done.returncode == 0, done.stderr
        text = (tmp_path / "Dockerfile").read_text() + (tmp_path / "compose.yaml").read_text()
        assert len(done.stdout.splitlines()) == 2
        assert text.count(f"@sha256:{sign * 64}") == 3
        assert not [c for image in re.findall(r"\S+@sha256\S+", text) for c in image_complaints(image)]


def test_an_image_without_a_digest_is_named_and_stays_as_it_is(tmp_path: Path) -> None:
    done = pin(tmp_path, "exit 1")

    assert done.returncode == 1
    assert "no digest (got ''). Is there a network?" in done.stderr
    assert (tmp_path / "Dockerfile").read_bytes() == (REPOSITORY / "Dockerfile").read_bytes()
