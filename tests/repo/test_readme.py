"""README's commands as they stand, in their order, in a plain clone of a repository to which its user may not push."""

import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from tests.raw_folders import pixels
from tests.repo import REPOSITORY
from tests.servers import free_port

README = (REPOSITORY / "README.md").read_text()
BLOCKS = re.findall(r"^```bash\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
NEVER_END = ("prefect worker start",)  # the last of a block: it is watched for a while and stopped
CHECKED_ELSEWHERE = ("make check",)  # by whoever runs these tests


def test_every_command_that_the_readme_names_in_its_text_exists() -> None:
    verbs = set(re.findall(r"(?:^|`)isthmus ([a-z-]+)", README, re.MULTILINE))
    done = subprocess.run([sys.executable, "-m", "isthmus.cli", "--help"], capture_output=True, text=True)

    known = set(re.findall(r"^  ([a-z][a-z-]+) ", done.stdout, re.MULTILINE))
    assert {"add", "run", "watch", "trace", "serve", "fetch"} <= verbs <= known
    makefile = (REPOSITORY / "Makefile").read_text()
    assert all(re.search(rf"^{goal}:", makefile, re.MULTILINE) for goal in re.findall(r"make ([a-z-]+)", README))


def test_every_file_that_the_readme_links_to_is_there() -> None:
    links = [link for link in re.findall(r"\]\(([^)#]+)\)", README) if not link.startswith("http")]

    assert len(links) > 5
    assert [link for link in links if not (REPOSITORY / link).exists()] == []


def test_the_readme_is_a_three_minute_read() -> None:
    prose = re.sub(
        r"```.*?```|<!-- results.*?end of results -->|^\|[^\n]*$", "", README, flags=re.DOTALL | re.MULTILINE
    )

    assert len(prose.split()) < 800  # at 250 words a minute, with the commands skimmed


def photos(folder: Path, names: list[str], count: int, seed: int, tone: int = 0) -> None:
    """Writes images whose classes are told apart by a bright corner, in another light where `tone` is set."""
    rng = np.random.default_rng(seed)
    for place, name in enumerate(names):
        (folder / name).mkdir(parents=True)
        for number in range(count):
            image = pixels(rng, 28)
            corner = [(slice(0, 12), slice(0, 12)), (slice(16, 28), slice(16, 28))][place % 2]
            image[corner] = 235
            Image.fromarray(np.clip(image.astype(int) + tone, 0, 255).astype(np.uint8)).save(
                folder / name / f"{number:03d}.png"
            )


def clone(folder: Path) -> Path:
    """A plain clone with small values, this environment under its own name, and an origin that takes nothing."""
    home = folder / "isthmus"
    run = {"check": True, "cwd": folder, "capture_output": True}
    subprocess.run(["git", "clone", "-q", "--bare", str(REPOSITORY), "origin.git"], **run)  # type: ignore[call-overload]
    hook = folder / "origin.git" / "hooks" / "pre-receive"
    hook.write_text("#!/bin/sh\necho 'you may not push here' >&2\nexit 1\n")
    hook.chmod(0o755)
    subprocess.run(["git", "clone", "-q", "origin.git", "isthmus"], **run)  # type: ignore[call-overload]
    changed = subprocess.run(
        ["git", "ls-files", "-m", "-o", "--exclude-standard"], cwd=REPOSITORY, capture_output=True, text=True
    )
    for name in changed.stdout.split():  # what is not committed yet
        if (REPOSITORY / name).exists():
            (home / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(REPOSITORY / name, home / name)
    document = yaml.safe_load((home / "params.yaml").read_text())
    document["models"]["vit"]["backbone"] = {"name": "small_cnn", "image_size": 28}
    document["methods"] = {name: document["methods"][name] for name in ("source_only", "zscore", "coral")}
    document["select"]["average"] = ["coral"]
    document["train"] |= {"seeds": [0]}
    document["scenarios"]["industrial"]["preprocess"] = {"image_size": 28}
    (home / "params.yaml").write_text(yaml.safe_dump(document, sort_keys=False))
    environment = home / ".venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(environment)], **run)  # type: ignore[call-overload]
    packages = next((environment / "lib").glob("python*/site-packages"))
    (packages / "here.pth").write_text(f"{home / 'src'}\n{home}\n{Path(yaml.__file__).parents[1]}\n")
    for program in ("isthmus", "dvc", "prefect"):
        script = (Path(sys.executable).parent / program).read_text().split("\n", 1)[1]
        (environment / "bin" / program).write_text(f"#!{environment}/bin/python\n{script}")
        (environment / "bin" / program).chmod(0o755)
    (environment / "bin" / "uv").touch()
    (environment / "installed").touch()
    photos(home / "photos" / "old_camera", ["good", "scratch"], 40, seed=1)
    photos(home / "photos" / "new_camera", ["a", "b"], 40, seed=2, tone=12)
    photos(home / "photos" / "today", ["a"], 60, seed=3, tone=12)
    return home


def shell(home: Path, commands: str, port: int) -> subprocess.CompletedProcess[str]:
    """Runs commands in one shell of a newcomer: no environment activated, no name for commits, stopped at an error."""
    names = {"GIT_CONFIG_GLOBAL": os.devnull, "HOME": str(home.parent), "PATH": "/usr/local/bin:/usr/bin:/bin"}
    names["PREFECT_SERVER_API_PORT"] = str(port)  # the command names none
    kept = {name: os.environ[name] for name in ("LANG", "TMPDIR") if name in os.environ}
    text = commands.replace("4200", str(port))
    python = f"PYTHON={Path(sys.executable).resolve()}"
    script = f"set -euo pipefail\nexport {python}\ntrap 'kill $(jobs -p) 2>/dev/null || true' EXIT\n{text}"
    return subprocess.run(
        ["bash", "-c", script], cwd=home, env=kept | names, capture_output=True, text=True, timeout=3400
    )


@pytest.mark.soak  # three whole lines and more, one after another
@pytest.mark.timeout(3600)
def test_the_commands_run_in_their_order_to_a_champion_and_back_and_onto_a_schedule(tmp_path: Path) -> None:
    home, port = clone(tmp_path), free_port()
    lines = "".join(BLOCKS).splitlines(keepends=True)
    wanted = [line for line in lines if not line.startswith((*NEVER_END, *CHECKED_ELSEWHERE))]
    last = next(line for line in lines if line.startswith(NEVER_END))
    # a server takes seconds to come up, which a person at a keyboard does not notice
    answers = "import urllib.request as u; u.urlopen('http://127.0.0.1:4200/api/health')"
    up = f'until python -c "{answers}" 2>/dev/null; do sleep 1; done\n'
    place = next(number for number, line in enumerate(wanted) if line.startswith("export PREFECT_API_URL")) + 1
    script = "".join(
        [*wanted[:place], up, *wanted[place:], f"timeout --signal INT 25 {last.strip()} || test $? = 124\n"]
    )

    begin = time.monotonic()
    done = shell(home, script, port)

    assert done.returncode == 0, f"{done.stdout[-6000:]}\n{done.stderr[-6000:]}"
    said = done.stdout + done.stderr
    assert said.count("report: out/industrial/report/report.html (isthmus-industrial version 1 (new)") >= 1
    assert "isthmus-press: champion is now version 2, previous 1" in done.stdout
    assert "isthmus-press: champion is now version 1, previous 2" in done.stdout
    assert "Worker" in said and "started" in said
    pushed = subprocess.run(["git", "for-each-ref"], cwd=tmp_path / "origin.git", capture_output=True, text=True).stdout
    assert "isthmus" not in pushed.replace("refs/heads", "")
    print(f"{time.monotonic() - begin:.0f} s")
