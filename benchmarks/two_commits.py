"""Whether two commits make the same bytes, and whether the later one loads and rolls back to a model of the earlier.

`python -m benchmarks.two_commits BEFORE AFTER --work FOLDER industrial medical [--mirror MIRROR steel]`

Each commit gets a clone and an environment of its own in FOLDER and runs `dvc repro report@NAME` for each scenario;
what differs under `out/NAME` is listed, with both hashes. Then BEFORE registers and promotes the first scenario's model
in a store that both share, AFTER answers the scenario's raw images by it, promotes its own version, rolls back, and
answers again. What is there already is not done again. Exit status: 0 the same bytes and answers, 1 not.
"""

import argparse
import os
import subprocess
import sys
from pathlib import Path

import pandas as pd
import yaml

from isthmus.core.files import sha256_file

REPOSITORY = Path(__file__).parents[1]


def clone(commit: str, folder: Path) -> Path:
    """Returns a clone of a commit with its environment installed."""
    if not (folder / ".git").exists():
        subprocess.run(["git", "clone", "--quiet", str(REPOSITORY), str(folder)], check=True)
        subprocess.run(["git", "checkout", "--quiet", commit], cwd=folder, check=True)
    subprocess.run(["make", "install"], cwd=folder, check=True, stdout=subprocess.DEVNULL)
    return folder


def run(folder: Path, *command: str, allowed: tuple[int, ...] = (0,)) -> None:
    """Runs a command of the clone's environment; the registry is the one beside the clones.

    Raises:
        SystemExit: it failed.
    """
    stores = {
        "MLFLOW_TRACKING_URI": f"sqlite:///{folder.parent / 'mlflow.db'}",
        "ISTHMUS_PROMOTION_DB": str(folder.parent / "promotions.db"),
        "PATH": f"{folder / '.venv' / 'bin'}:{os.environ['PATH']}",
        "VIRTUAL_ENV": str(folder / ".venv"),
    }
    print(f"{folder.name}: {' '.join(command)}", flush=True)
    done = subprocess.run(command, cwd=folder, env=os.environ | stores, capture_output=True, text=True)
    if done.returncode not in allowed:
        raise SystemExit(f"{folder.name}: {' '.join(command)}: status {done.returncode}\n{done.stdout}{done.stderr}")


def hashes(folder: Path) -> dict[str, str]:
    """Returns path -> SHA-256 of each file below a folder."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): sha256_file(path) for path in files}


def differing(before: Path, after: Path) -> list[str]:
    """Returns one line a file that differs, or is in one of two folders alone."""
    one, other = hashes(before), hashes(after)
    paths = sorted(one.keys() | other.keys())
    return [f"{p}: {one.get(p, 'none')[:12]} {other.get(p, 'none')[:12]}" for p in paths if one.get(p) != other.get(p)]


def answers(folder: Path, model: str, images: Path) -> pd.DataFrame:
    """Returns what a registered model answers, one row an image."""
    out = folder.parent / f"{folder.name}.parquet"
    run(folder, "isthmus", "predict", model, str(images), "--out", str(out))
    return pd.read_parquet(out)


def carries_over(before: Path, after: Path, scenario: str) -> list[str]:
    """Returns what is wrong with a model of `before` in the hands of `after`; nothing where all is well."""
    images = before / "data" / "raw" / scenario
    for folder in (before, after):
        for verb in ("publish", "score", "gate"):
            run(folder, "isthmus", verb, scenario, allowed=(0, 4))  # 4: a person must approve
        if folder == before:
            run(folder, "isthmus", "promote", scenario, "--approve", "benchmark")
            expected = answers(before, f"{scenario}@champion", images)
            found = answers(after, f"{scenario}@champion", images)
    wrong = [] if found.equals(expected) else ["the later commit answers otherwise by the model of the earlier"]
    run(after, "isthmus", "promote", scenario, "--approve", "benchmark")
    run(after, "isthmus", "rollback", scenario)
    if not answers(after, f"{scenario}@champion", images).equals(expected):
        wrong.append("after the rollback the answers are not those of the earlier commit's model")
    return wrong


def main() -> None:
    """Compares, and prints what differs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("before")
    parser.add_argument("after")
    parser.add_argument("scenarios", nargs="+")
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--mirror", type=Path, help="where 'isthmus fetch' finds the scenarios that are public pairs")
    given = parser.parse_args()
    work = given.work.resolve()
    clones = [clone(commit, work / name) for commit, name in ((given.before, "before"), (given.after, "after"))]
    wrong = []
    for scenario in given.scenarios:
        for folder in clones:
            if scenario not in yaml.safe_load((folder / "params.yaml").read_text())["scenarios"]:
                mirror = ["--mirror", str(given.mirror.resolve())] if given.mirror else []
                run(folder, "isthmus", "fetch", scenario, *mirror)
            run(folder, "dvc", "repro", f"report@{scenario}")
        found = differing(*(folder / "out" / scenario for folder in clones))
        print(
            f"{scenario}: {len(found)} of {len(hashes(clones[0] / 'out' / scenario))} files differ", *found, sep="\n  "
        )
        wrong += found
    wrong += carries_over(*clones, given.scenarios[0])
    print(*(wrong or ["the same bytes; a model of the earlier commit loads, answers and is rolled back to"]), sep="\n")
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
