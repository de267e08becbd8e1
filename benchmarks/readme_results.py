"""Writes the table of measured results into README.md, from the files of the scenarios that have run.

python benchmarks/readme_results.py            every scenario with an out/<name>/truth.json
python benchmarks/readme_results.py steel digits
"""

import json
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
START, END = "<!-- results: benchmarks/readme_results.py -->", "<!-- end of results -->"


def main(names: list[str], out: Path = ROOT / "out", readme: Path = ROOT / "README.md") -> None:
    """Replaces what stands between the two marks."""
    rows = [row(out / name) for name in names or sorted(path.parent.name for path in out.glob("*/truth.json"))]
    head = "| scenario | target test images | source-only | chosen without labels | best by truth | regret |"
    table = "\n".join([START, "", head, "| --- | --- | --- | --- | --- | --- |", *rows, "", END])
    text = readme.read_text(encoding="utf-8")
    before, after = text.index(START), text.index(END) + len(END)
    readme.write_text(text[:before] + table + text[after:], encoding="utf-8")


def row(folder: Path) -> str:
    """Returns one line of the table: balanced accuracy [%], mean of the seeds, with 95% intervals."""
    truth = json.loads((folder / "truth.json").read_text(encoding="utf-8"))
    if not truth["available"]:
        return f"| `{folder.name}` | no labels | | | | |"
    methods, chosen, oracle = truth["methods"], truth["chosen"], truth["oracle"]["method"]
    gain = methods[chosen]["minus_source_only"]
    cells = [
        f"`{folder.name}`",
        str(truth["count"]),
        score(methods["source_only"]["balanced_accuracy"]),
        f"{chosen} {score(methods[chosen]['balanced_accuracy'])}, {signed(gain)} points",
        f"{oracle} {score(methods[oracle]['balanced_accuracy'])}",
        interval(truth["regret"]),
    ]
    return f"| {' | '.join(cells)} |"


def score(value: dict[str, float]) -> str:
    """Returns a mean [%]."""
    return f"{100 * value['mean']:.1f}"


def signed(value: dict[str, float]) -> str:
    """Returns a difference with its interval [points]."""
    return f"{100 * value['mean']:+.1f} ({100 * value['low']:+.1f} to {100 * value['high']:+.1f})"


def interval(value: dict[str, float]) -> str:
    """Returns a value with its interval [points]."""
    return f"{100 * value['mean']:.1f} ({100 * value['low']:.1f} to {100 * value['high']:.1f})"


if __name__ == "__main__":
    main(sys.argv[1:])
