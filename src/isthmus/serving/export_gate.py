"""The gate's rules on an exported file: it is the candidate, and the model that it was made from is the champion.

The file answers the target's images of the frozen evaluation set, one at a time, as a device would. What the model
answered comes from the evidence of `isthmus score`, so that no model is asked twice. A file answers the target's images
alone: rules that need the source's, or more than answers, do not run (`Rule.judges_files`).
"""

import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from isthmus.core.errors import StoreError
from isthmus.core.files import sha256_file
from isthmus.core.progress import track
from isthmus.gates.judge import Judgement, judge_file, unjudged
from isthmus.gates.scored import TARGET, Answers, Scored, read_scored, set_md5
from isthmus.registry.gate.score import check_unchanged, current_set, evidence_folder, raw_files
from isthmus.registry.lineage.lineage import Lineage
from isthmus.registry.model.served import Predictor
from isthmus.registry.publish.model_reference import Address
from isthmus.registry.publish.publish import find_published, scenario_name


def judge_exported(project: Path, address: Address, predictor: Predictor, file: Path) -> Judgement:
    """Returns what the rules under `gates:` say of a file.

    Args:
        project: its root.
        address: of the model that the file was made from.
        predictor: that model; it prepares images.
        file: ONNX.

    Returns:
        As the gate's; `person` where the results of the scenario or the model's answers are not here.

    Raises:
        ConfigError: a rule under `gates:` is wrong.
        DataError: a raw image or the evidence was changed.
    """
    try:
        lineage, folder, whole, model = _scored_before(project, address)
    except StoreError as error:
        return unjudged(str(error))
    of_target = np.flatnonzero((whole.images["role"] == TARGET).to_numpy())
    images = whole.images.iloc[of_target].reset_index(drop=True)
    paths = raw_files(lineage, images)
    examples = list(zip(paths, images["part"], strict=True))  # each with its part, as scorer.py has them
    found = _answers(predictor, examples, file)
    hashes = {path: sha256_file(path) for path in set(paths)}
    sha256, ids = [hashes[path] for path in paths], list(images["image_id"])
    version = f"{model.version} ({file.name})"
    candidate = replace(found, model_id=model.model_id, version=version, sha256=sha256, image_id=ids)
    scored = replace(
        whole, images=images, candidate=candidate, champion=_only(model, of_target), roles=(TARGET,),
        seen={"candidate": whole.seen["candidate" if model is whole.candidate else "champion"]},
    )  # fmt: skip
    params = lineage.path("report", "params")
    return judge_file(params, scored, {file.name: file, "scored": folder / "evidence.json"})


def open_session(file: Path) -> Any:
    """Opens an ONNX file for one thread; returns ONNX Runtime's session."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])


def _scored_before(project: Path, address: Address) -> tuple[Lineage, Path, Scored, Answers]:
    """Returns the results of now, where the evidence about them lies, what it holds, and the model's own answers.

    Raises:
        StoreError: there is no evidence of now, or the model is neither its candidate nor its champion.
    """
    scenario = scenario_name(address.model)
    lineage, published, store = find_published(project, scenario)
    folder = evidence_folder(lineage.project, published.model_id)
    again = f"Run 'isthmus score {scenario}' and export again"
    if not (folder / "evidence.json").is_file():
        raise StoreError(f"the models of {scenario} were not scored. {again}")
    check_unchanged(folder, scenario, store.version_tags(published.model, published.version))
    whole = read_scored(folder, set_md5(current_set(lineage)))
    asked = [answers for answers in (whole.candidate, whole.champion) if answers is not None]
    for answers in asked:
        if answers.model_id == address.model_id:
            return lineage, folder, whole, answers
    versions = " and ".join(answers.version for answers in asked)
    raise StoreError(
        f"version {address.version} did not answer the evaluation set of now, only {versions} did. Export one of these"
    )


def _answers(predictor: Predictor, examples: list[Any], file: Path) -> Answers:
    """Returns a file's answers and what they cost from image file to answer; whose they are is still to come."""
    session, rows, seconds = open_session(file), [], []
    for example in track(examples, f"score {file.name}", len(examples), "image"):
        start = time.perf_counter()
        prepared = predictor.prepared(example)
        rows.append(session.run(["probabilities"], {"images": prepared[None]})[0][0])
        seconds.append(time.perf_counter() - start)
    ordered = sorted(seconds[1:] or seconds)  # the first call warms up
    last = len(ordered) - 1
    latency = {
        "images": len(ordered), "median_s": ordered[last // 2], "p95_s": ordered[round(last * 0.95)],
        "fastest_s": ordered[0],
    }  # fmt: skip
    probabilities: NDArray[np.float64] = np.stack(rows).astype(np.float64)
    return Answers(
        "", "", "", True, predictor.parts.classes, {}, {}, file.stat().st_size, latency, [], [], probabilities
    )


def _only(answers: Answers, rows: NDArray[np.int64]) -> Answers:
    """Returns the answers to these images alone."""
    if answers.failure:
        return answers
    return replace(
        answers,
        sha256=[answers.sha256[row] for row in rows],
        image_id=[answers.image_id[row] for row in rows],
        probabilities=answers.probabilities[rows],
    )
