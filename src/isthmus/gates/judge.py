"""Runs the rules named under `gates:` on what the stages measured. Pure: files in, findings out."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from isthmus.core import plugins
from isthmus.core.config import Config, load_params, validated
from isthmus.core.errors import ConfigError
from isthmus.core.files import read_json, sha256_file
from isthmus.gates import Evidence, Reason, Rule
from isthmus.gates.scored import Scored, read_scored

FOLDER = "gates.rules"
EXIT = {"yes": 0, "no": 3, "person": 4}  # verdict -> exit status


class _Params(Config):
    gates: dict[str, dict[str, Any] | None]


@dataclass(frozen=True)
class Judgement:
    """What all rules together say.

    Attributes:
        verdict: `yes`; `no`: a rule refuses; `person`: none refuses, but one cannot tell without a person.
        reasons: every finding, passed ones too, as JSON types.
        rules: thresholds of each rule that ran, as JSON types.
        evidence: sha256 of each file the findings rest on.
    """

    verdict: Literal["yes", "no", "person"]
    reasons: list[dict[str, Any]]
    rules: dict[str, dict[str, Any]]
    evidence: dict[str, str]

    @property
    def exit_status(self) -> int:
        """0 yes, 3 no, 4 a person must decide."""
        return EXIT[self.verdict]


def judge(
    params: Path, *, metrics: Path, truth: Path, choice: Path, scored: Path | None = None, set_md5: str = ""
) -> Judgement:
    """Returns what the rules named in `params.yaml` say of one scenario's files.

    Args:
        params: `params.yaml`.
        metrics: what `evaluate` wrote.
        truth: likewise.
        choice: what `select` wrote.
        scored: folder of evidence that `isthmus score` wrote; needed where a rule reads the models' answers.
        set_md5: identity of the evaluation set of these results.

    Raises:
        ConfigError: no rule is named, or a rule or one of its thresholds is wrong.
        DataError: a file is missing or broken.
    """
    rules = read_rules(params)
    answers = None if scored is None else read_scored(scored, set_md5)
    evidence = Evidence(read_json(metrics), read_json(truth), read_json(choice), answers)
    return _judged(rules, evidence, _files(metrics, truth, choice, scored))


def judge_file(params: Path, answers: Scored, files: dict[str, Path]) -> Judgement:
    """Returns what those rules say of an exported file that can judge one: they read answers alone.

    Args:
        params: `params.yaml`.
        answers: the file's as the candidate's, and of the model that it was made from as the champion's.
        files: what the findings rest on, by name.

    Raises:
        ConfigError: as `judge`.
    """
    rules = {name: rule for name, rule in read_rules(params).items() if rule.judges_files}
    return _judged(rules, Evidence({}, {}, {}, answers), files) if rules else unjudged(f"no rule in {params} judges it")


def unjudged(why: str) -> Judgement:
    """Returns the judgement of a file that no rule could look at: a person must decide."""
    return Judgement("person", [Reason("-", "person", None, None, f"not evaluated: {why}").as_json()], {}, {})


def _judged(rules: dict[str, Rule], evidence: Evidence, files: dict[str, Path]) -> Judgement:
    reasons = [reason for rule in rules.values() for reason in rule.reasons(evidence)]
    return Judgement(
        _verdict(reasons),
        [reason.as_json() for reason in reasons],
        {name: rule.model_dump(mode="json") for name, rule in rules.items()},
        {name: sha256_file(path) for name, path in files.items()},
    )


def _files(metrics: Path, truth: Path, choice: Path, scored: Path | None) -> dict[str, Path]:
    # evidence.json bears the hashes of all other files of its folder
    scores = {} if scored is None else {"scored": scored / "evidence.json"}
    return {"metrics": metrics, "truth": truth, "choice": choice} | scores


def needs_answers(params: Path) -> bool:
    """Says whether a rule named in `params.yaml` reads what `isthmus score` writes."""
    return any(rule.needs_answers for rule in read_rules(params).values())


def read_rules(params: Path) -> dict[str, Rule]:
    """Returns the rules named under `gates:`, checked, in their order.

    Raises:
        ConfigError: all mistakes at once; or no rule is named: a gate without rules would say yes to anything.
    """
    named = load_params(_Params, params, {}).gates
    rules: dict[str, Rule] = {}
    problems = []
    for name, options in named.items():
        try:
            kind: type[Rule] = plugins.load(FOLDER, name).Config
        except ConfigError as error:
            problems.append(f"{params}: gates.{name}: {error}")
            continue
        try:
            rules[name] = validated(kind, options or {}, f"{params}: gates.{name}.")
        except ConfigError as error:
            problems.append(str(error))
    if problems:
        raise ConfigError("\n".join(problems))
    if not rules:
        there = ", ".join(plugins.names(FOLDER))
        raise ConfigError(f"{params}: gates: no rule is named, so the gate could refuse nothing. There are: {there}")
    return rules


def _verdict(reasons: list[Reason]) -> Literal["yes", "no", "person"]:
    verdicts = {reason.verdict for reason in reasons}
    if "refuse" in verdicts or not reasons:
        return "no"
    return "person" if "person" in verdicts else "yes"
