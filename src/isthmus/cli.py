"""The `isthmus` command: each verb calls one function of a floor below, or one flow."""

import csv
import importlib
import sys
from pathlib import Path
from typing import Annotated, Any, Optional

import typer

from isthmus.core.files import write_text
from isthmus.core.process import command
from isthmus.core.process.environment import settle_environment
from isthmus.core.process.failures import one_message
from isthmus.core.project import check_repository, find_project, work_in
from isthmus.serving.request_limits import Limits


# Nothing heavier than typer is imported above: `isthmus --help` answers at once. Each verb imports what it needs.
def _version(wanted: bool) -> None:
    if wanted:
        from isthmus.core.code.code_lock import installed

        package = installed()
        typer.echo(f"isthmus {package['version']} (code {package['code'][:8]})")
        raise typer.Exit


app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

ScenarioName = Annotated[str, typer.Argument(help="a section under scenarios: in params.yaml")]
AsJson = Annotated[bool, typer.Option("--json", help="print JSON for programs")]


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="print the version and exit")
    ] = False,
) -> None:
    """Adapts a vision model to unlabelled target images, evaluates the result and records its lineage."""


@app.command()
def init(
    folder: Annotated[Path, typer.Argument(help="made where it is missing; default: the current one")] = Path(),
    example: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(help="begin with a simulated pair, such as industrial, medical or remote_sensing"),
    ] = None,
) -> None:
    """Makes a folder a project: settings, stages, schedules, CI, git and DVC. It never changes a file that is there."""
    from isthmus.new_project import init as run_init

    typer.echo("\n".join(run_init(folder, example)))
    there = "" if folder == Path() else f"cd {folder}; "
    typer.echo(
        f"Next: {there}isthmus " + (f"run {example}" if example else "add NAME --source DIR --target DIR --kind KIND")
    )


@app.command()
def upgrade(
    write: Annotated[bool, typer.Option("--write", help="change the files; edited ones are kept")] = False,
) -> None:
    """Shows what the installed version of Isthmus would change in this project's files, and which code it brings."""
    from isthmus.new_project import upgrade as run_upgrade

    typer.echo("\n".join(run_upgrade(_project(), write)) or "nothing to change")


@app.command()
def check(
    names: Annotated[Optional[list[str]], typer.Argument(help="scenarios; none: all")] = None,  # noqa: UP045
    own_plugins: Annotated[
        bool, typer.Option("--plugins", help="test the project's own plugins against their contracts instead")
    ] = False,
) -> None:
    """Checks params.yaml and the raw folders and reports every error."""
    if own_plugins:
        from isthmus.plugin_checks import check_plugins

        typer.echo(f"in order: {', '.join(check_plugins(_project())) or 'no plugins'}")
        return
    from isthmus.checks import check as run_check

    typer.echo(f"in order: {', '.join(run_check(_project(), names or []))}")


@app.command("list")
def list_names(
    what: Annotated[
        str, typer.Argument(help="scenarios, methods, kinds, tasks, rules, pairs, validators, backbones or readers")
    ],
    names: Annotated[bool, typer.Option("--names", help="names alone, for scripts")] = False,
    as_json: AsJson = False,
) -> None:
    """Lists the names that params.yaml can hold, each with one line about it."""
    from isthmus.core.errors import ConfigError
    from isthmus.listing import SCENARIOS, WHAT, listed

    _one_of("list", what, WHAT)
    try:
        project = _project()
    except ConfigError:
        if what == SCENARIOS:
            raise
        project = None
    found = listed(project, what)
    width = max(map(len, found), default=0)
    lines = [name if names else f"{name:<{width}}  {line}".rstrip() for name, line in found.items()]
    _show("\n".join(lines), found, as_json)


@app.command()
def schema() -> None:
    """Prints the JSON schema of params.yaml, by which an editor completes and checks it."""
    import json

    from isthmus.schema import schema as run_schema

    _project()
    typer.echo(json.dumps(run_schema(), indent=1, sort_keys=True))


@app.command()
def status(as_json: AsJson = False) -> None:
    """Shows for each scenario what is stale, what is published and which version is the champion."""
    from isthmus.overview import overview

    found = overview(_project(versioned=True))
    width = max(map(len, found), default=0)
    lines = [f"{name:<{width}}  {standing.text(name)}" for name, standing in found.items()]
    answer = {name: standing._asdict() for name, standing in found.items()}
    _show("\n".join(lines) or "no scenario yet", answer, as_json)


@app.command()
def doctor(
    as_json: AsJson = False,
) -> None:
    """Examines packages, DVC, stores, servers, disk and weights; says how to fix a fault. Exit status: 0, 1 faults."""
    flows = _flows("doctor")
    found = flows.examine(_project())
    _show(flows.table(found), [one._asdict() for one in found], as_json)
    raise typer.Exit(int(any(one.state == "fault" for one in found)))


@app.command()
def report(scenario: ScenarioName) -> None:
    """Opens the report of a scenario in the browser."""
    from isthmus.pages import open_report

    typer.echo(open_report(_project(), scenario))


@app.command()
def ui(port: Annotated[int, typer.Option(min=1, max=65535)] = 5000) -> None:
    """Starts MLflow's page on the project's runs and models, for this machine alone. Ctrl-C stops it."""
    from isthmus.pages import start_ui

    project = _project()
    typer.echo(f"http://127.0.0.1:{port}/#/experiments?workflowType=machine_learning", err=True)
    start_ui(project, port)


@app.command()
def run(
    names: Annotated[Optional[list[str]], typer.Argument(help="scenarios; none: all")] = None,  # noqa: UP045
    publish_results: Annotated[
        bool, typer.Option("--publish/--no-publish", help="publish to MLflow afterwards")
    ] = True,
    verbose: Annotated[
        bool, typer.Option("--verbose", help="print what the stages print, not one line a stage")
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="print warnings and errors alone")] = False,
    check_first: Annotated[
        bool, typer.Option("--check/--no-check", help="check params.yaml and the raw data first, if a stage is to run")
    ] = True,
    timeout: Annotated[
        Optional[float],  # noqa: UP045
        typer.Option(min=1, metavar="SECONDS", help="longest time for one stage; default: no limit"),
    ] = None,
) -> None:
    """Runs the pipeline as a Prefect flow, stage by stage, then publishes to MLflow."""
    terminal = "warnings" if quiet else "everything" if verbose else "stages"
    _project(versioned=True)
    raise typer.Exit(_flows("transfer").main(names or [], publish_results, check_first, timeout, terminal))


@app.command()
def schedule(
    scenario: Annotated[Optional[str], typer.Argument(help="a scenario; none: list what is scheduled")] = None,  # noqa: UP045
    cron: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(help="minute, hour, day of the month, month, day of the week: '0 2 * * *' is each night at two"),
    ] = None,
    flow: Annotated[str, typer.Option(help="transfer (run and publish), promote or watch")] = "transfer",
    timezone: Annotated[str, typer.Option(help="of the cron line, such as Europe/Berlin")] = "UTC",
    remove: Annotated[bool, typer.Option("--remove", help="take the schedule out again")] = False,
) -> None:
    """Writes a schedule of a scenario into prefect.yaml, lists all, or removes one; others stay as they are."""
    _project(versioned=True)
    typer.echo("\n".join(_flows("schedule").change(scenario, cron, flow, timezone, remove)))


@app.command()
def fetch(
    name: Annotated[str, typer.Argument(help="a known public pair; 'isthmus fetch list' shows them")],
    mirror: Annotated[Optional[str], typer.Option(help="folder or web address of a mirror")] = None,  # noqa: UP045
) -> None:
    """Downloads a known public pair, verifies every file, versions it with DVC and adds its section to params.yaml."""
    from isthmus.data.catalog.pairs import listing
    from isthmus.data.catalog.public import fetch as run_fetch

    if name == "list":
        typer.echo(listing())
        return
    project = _project(versioned=True)
    run_fetch(name, project, mirror if mirror is None or "://" in mirror else str(_given(Path(mirror))))


@app.command()
def add(
    name: Annotated[str, typer.Argument(help="name of the new scenario: a-z, 0-9 and _")],
    source: Annotated[list[Path], typer.Option(help="folder of labelled images; may be given several times")],
    target: Annotated[Path, typer.Option(help="folder with images, labelled or not")],
    kind: Annotated[str, typer.Option(help="kind of imagery: industrial, medical, natural, remote_sensing, ...")],
    task: Annotated[
        str, typer.Option(help="classification, segmentation, change, anomaly or detection")
    ] = "classification",
    classes: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(
            help="comma-separated; other folders are ignored; default: all classes of the sources. Of masks: in the"
            " order of their values"
        ),
    ] = None,
    target_labels: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(help="folders, table or none: where the target's labels are; default: detected"),
    ] = None,
    group: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(
            help="what must stay in one split: folder (sub-folders of a class), none, a key in file names"
            " (`lot` of `lot-12_0001.png`), a column of a table"
        ),
    ] = None,
    contradictions: Annotated[
        str, typer.Option(help="refuse or keep identical images under two classes, or in source and target")
    ] = "refuse",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="report what would be done, and change nothing")] = False,
) -> None:
    """Adds your own pair: checks it, copies it to data/raw, versions it with DVC, adds its section to params.yaml."""
    from isthmus.data.add.add import add_pair

    names = next(csv.reader([classes], skipinitialspace=False)) if classes else None
    add_pair(
        _project(versioned=True),
        name,
        [_given(folder) for folder in source],
        _given(target),
        kind,
        names,
        _one_of("--target-labels", target_labels, ("folders", "table", "none")),
        task=task,
        group=group,
        contradictions=_one_of("--contradictions", contradictions, ("refuse", "keep")),
        dry_run=dry_run,
    )


@app.command()
def label(
    scenario: ScenarioName,
    random: Annotated[int, typer.Option(help="images drawn at random in all, to measure the accuracy")] = 50,
    per_class: Annotated[
        int, typer.Option(help="images of each predicted class in all, to train with; needs a finished run")
    ] = 5,
    take: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option(help="table with image_id or path, and class; or a folder of class folders"),
    ] = None,
    by: Annotated[Optional[str], typer.Option(help="who gave the answers; default: git's user.name")] = None,  # noqa: UP045
    replace: Annotated[bool, typer.Option("--replace", help="take answers that differ from earlier ones")] = False,
) -> None:
    """Lists target images to label, with thumbnails; --take takes the answers and versions them with DVC.

    The next run measures the accuracy on the random images and trains with the others; no image serves both.
    """
    from isthmus.label import take as run_take
    from isthmus.label import write_list

    if take is None:
        written = write_list(_project(), scenario, random, per_class)
        counts = written.counts
        if written.missing:
            typer.echo(written.missing, err=True)
        typer.echo(f"{written.folder / 'label.html'}: {counts['measure']} to measure, {counts['train']} to train with")
        return
    project = _project(versioned=True)
    taken = run_take(project, scenario, _given(take), by, replace)
    counts = taken.counts
    typer.echo(
        f"{taken.file}: {taken.new} new; in all {counts['measure']} to measure, {counts['train']} to train with."
        f" Next: isthmus run {scenario}"
    )


@app.command()
def where(
    place: Annotated[str, typer.Argument(help="a scenario, or a folder given to add, predict or watch")],
    name: Annotated[str, typer.Argument(help="number of a file, as in 'file 12', or an image id")],
) -> None:
    """Prints the path of a medical image by its number or id; messages, logs and reports do not contain it."""
    from isthmus.data.names import as_text
    from isthmus.where import where as run_where

    folder = Path.cwd() if Path(place).is_dir() else _project()  # a folder needs no project
    for path in run_where(folder, place, name):
        typer.echo(as_text(str(path)))


@app.command()
def publish(
    scenario: ScenarioName,
    note: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option(help="write verdict and links to this file too, as Markdown"),
    ] = None,
    flow_run_id: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(help="the Prefect run that made the results, for the lineage"),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Logs the results to MLflow and registers the chosen model as candidate; idempotent."""
    from concurrent.futures import ThreadPoolExecutor

    from isthmus.registry.lineage.lineage import read_lineage

    project = _project(versioned=True)
    with ThreadPoolExecutor(1) as pool:
        reading = pool.submit(read_lineage, project, scenario)  # beside the import of MLflow; each takes two seconds
        from isthmus.registry.publish.publish import publish_lineage
    done = publish_lineage(reading.result(), flow_run_id)
    if note:
        write_text(_given(note), done.note())
    _show("\n".join(done.places()), done.as_json(), as_json)


@app.command()
def score(scenario: ScenarioName, as_json: AsJson = False) -> None:
    """Scores candidate and champion on the frozen evaluation set, each in its own process; input of the gate."""
    from isthmus.registry.gate.score import score as run_score

    done = run_score(_project(versioned=True), scenario)
    _show("\n".join(done.lines()), done.as_json(), as_json)


@app.command()
def gate(scenario: ScenarioName, as_json: AsJson = False) -> None:
    """Applies the gate's rules to the candidate. Exit status: 0 yes, 3 no, 4 a person must decide."""
    from dataclasses import asdict

    from isthmus.registry.gate.decision import gate as run_gate

    decision = run_gate(_project(versioned=True), scenario)
    _show(decision.table(), asdict(decision), as_json)
    raise typer.Exit(decision.exit_status)


@app.command()
def promote(
    scenario: ScenarioName,
    approve: Annotated[
        str | None, typer.Option(help="name of the person who approves, where approval is needed")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Makes the candidate the champion, if the gate's decision allows it."""
    from isthmus.registry.promotion.promotion import promote as run_promote

    _standing(run_promote(_project(versioned=True), scenario, approve), as_json)


@app.command()
def rollback(
    scenario: ScenarioName,
    withdraw: Annotated[bool, typer.Option(help="remove the champion and leave none")] = False,
    approve: Annotated[
        str | None, typer.Option(help="name of the person who approves, where approval is needed")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Restores the previous champion."""
    from isthmus.registry.promotion.promotion import rollback as run_rollback

    _standing(run_rollback(_project(), scenario, approve, withdraw), as_json)


@app.command()
def trace(
    model: Annotated[Optional[str], typer.Argument(help="NAME@ALIAS, NAME/VERSION or NAME (its champion)")] = None,  # noqa: UP045
    image: Annotated[Optional[str], typer.Option(help="file or sha256: lists the models that saw it")] = None,  # noqa: UP045
    group: Annotated[
        str | None, typer.Option(help="patient, lot or scene: lists the models that saw its images")
    ] = None,
    out: Annotated[Optional[Path], typer.Option(help="write the result as JSON, one entry per image")] = None,  # noqa: UP045
    as_json: AsJson = False,
) -> None:
    """Traces a model back to the bytes of each image, or lists the models that saw an image or a group."""
    from isthmus.core.files import write_json
    from isthmus.registry.trace.trace import sightings_text, who_saw
    from isthmus.registry.trace.trace import trace as run_trace

    if model is not None and image is None and group is None:
        chain = run_trace(_project(), model)
        text, answer = chain.text(), chain.as_json()
    else:
        project = _project()
        file = _given(Path(image)) if image else None
        found = who_saw(project, image=str(file) if file and file.exists() else image, group=group)
        text, answer = sightings_text(found), {"models": [sighting.as_json() for sighting in found]}
    _show(text, answer, as_json)
    if out is not None:
        write_json(_given(out), answer)


@app.command()
def compare(
    first: Annotated[str, typer.Argument(help="NAME@ALIAS, NAME/VERSION, or a git revision, an experiment, workspace")],
    second: Annotated[str, typer.Argument(help="the same")],
    scenario: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(help="of which results are compared, where a revision has several scenarios"),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Compares two versions of a model, or two revisions: scores, and what differs in settings, data and code."""
    from isthmus.registry.trace.compare import compare as run_compare

    found = run_compare(_project(versioned=True), first, second, scenario)
    _show(found.text(), found.as_json(), as_json)


@app.command()
def predict(
    model: Annotated[str, typer.Argument(help="NAME@ALIAS, NAME/VERSION or NAME (its champion)")],
    paths: Annotated[list[Path], typer.Argument(help="image files and folders of image files")],
    out: Annotated[Path, typer.Option(help="parquet file to write")] = Path("predictions.parquet"),
    keep_statistics: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option(help="append statistics of each batch to this file, for 'isthmus watch'"),
    ] = None,
) -> None:
    """Predicts image files. Exit status: 0 all, 5 some files were bad: OUT.bad.json lists them with their reasons."""
    from isthmus.serving.predict import predict as run_predict

    project, out = _project(), _given(out)
    kept = _given(keep_statistics) if keep_statistics else None
    done = run_predict(project, model, [_given(path) for path in paths], out, kept)
    for path, reason in list(done.bad.items())[:10]:
        typer.echo(f"bad: {path}: {reason}", err=True)
    beside = f"; files beside them, ignored: {done.beside}" if done.beside else ""
    typer.echo(f"{out}: {done.count} images; bad files: {len(done.bad)} ({out}.bad.json){beside}")
    raise typer.Exit(done.exit_status)


@app.command()
def export(
    model: Annotated[str, typer.Argument(help="NAME@ALIAS, NAME/VERSION or NAME (its champion)")],
    images: Annotated[list[Path], typer.Option(help="files or folders of target images to check the answers on")],
    out: Annotated[Optional[Path], typer.Option(help="folder; default: export/MODEL-VERSION")] = None,  # noqa: UP045
    int8: Annotated[
        bool, typer.Option("--int8", help="write a file with int8 weights too, judged by the gate's rules")
    ] = False,
) -> None:
    """Writes a registered model as ONNX and checks its answers against the model's.

    Exit status: 0; with --int8 that of the gate on its file: 0 yes, 3 no, 4 a person must decide.
    """
    from isthmus.data.readers import require

    require("onnxruntime", "export")
    from isthmus.serving.export import export as run_export

    project, given = _project(), [_given(path) for path in images]
    done = run_export(project, model, _given(out) if out else None, given, int8)
    typer.echo("\n".join(done.lines()))
    raise typer.Exit(done.exit_status)


@app.command()
def watch(
    scenario: ScenarioName,
    place: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Argument(help="folder of images, or file of statistics; default: the statistics of 'isthmus serve'"),
    ] = None,
    adapt: Annotated[
        bool, typer.Option(help="on drift, adapt to the folder's images; promote if the gate says yes")
    ] = False,
) -> None:
    """Tests a batch of images for drift. Exit status: 0 no drift, 3 drift, 4 too few images."""
    _project(versioned=True)
    raise typer.Exit(_flows("watch").main(scenario, _given(place) if place else None, adapt))


@app.command()
def lr_range(
    scenario: ScenarioName,
    method: Annotated[str, typer.Argument(help="a section under methods: in params.yaml")],
    lowest: Annotated[float, typer.Option(help="first learning rate")] = 1e-6,
    highest: Annotated[float, typer.Option(help="last learning rate")] = 1.0,
    steps: Annotated[int, typer.Option(help="number of steps")] = 100,
) -> None:
    """Runs a learning-rate range test and suggests a rate, with a plot; needs the outputs of `dvc repro`."""
    from isthmus.core.config import validated
    from isthmus.learning_rate import RangeConfig, run_in_project

    tried = validated(RangeConfig, {"lowest": lowest, "highest": highest, "steps": steps}, "lr-range: --")
    seen, found = run_in_project(_project(), scenario, method, tried)
    suggested = "the loss never falls: no suggestion" if seen.suggestion is None else f"{seen.suggestion:.2g}"
    typer.echo(f"suggested learning_rate: {suggested}\n{found / 'learning_rate.svg'}")


@app.command()
def tune(
    scenario: ScenarioName,
    method: Annotated[str, typer.Argument(help="a section under methods: in params.yaml")],
    trials: Annotated[int, typer.Option(min=1, help="in all; those of an earlier call count")] = 20,
    minutes: Annotated[
        Optional[float],  # noqa: UP045
        typer.Option(min=0, help="after which no trial begins; default: no limit"),
    ] = None,
    objective: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(help="labels (half of those for training) or a validator; default: labels where there are ten"),
    ] = None,
    ranges: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Option("--range", help="KEY=LOW:HIGH or KEY=A,B,...; KEY as in params.yaml: methods.mcc.weight=0.1:10"),
    ] = None,
) -> None:
    """Searches settings of a method without test labels by Optuna; needs the outputs of `dvc repro`; resumable."""
    from isthmus.data.readers import require

    require("optuna", "tune")
    from isthmus.tune import Search, parsed
    from isthmus.tune import tune as run_tune

    typer.echo(run_tune(_project(), scenario, method, Search(trials, minutes, objective, parsed(ranges or []))).text())


@app.command()
def reproduce(
    model: Annotated[str, typer.Argument(help="NAME@ALIAS, NAME/VERSION or NAME (its champion)")],
    tolerance: Annotated[float, typer.Option(help="allowed difference of each number, in its own unit")] = 0.005,
    as_json: AsJson = False,
) -> None:
    """Reproduces a model's results from its snapshot and data and compares them. Exit status: 0 same, 3 different."""
    from isthmus.registry.trace.reproduce import reproduce as run_reproduce

    found = run_reproduce(_project(versioned=True), model, tolerance)
    _show(found.text(), found.as_json(), as_json)
    raise typer.Exit(0 if found.reproduced else 3)


@app.command()
def serve(
    model: Annotated[str, typer.Argument(help="NAME@ALIAS, NAME/VERSION or NAME (its champion)")],
    host: Annotated[
        str, typer.Option(help="address to listen on; the default is reachable from this machine only")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535)] = 8000,
    max_megabytes: Annotated[int, typer.Option(min=1, max=1024, help="largest request [MB]")] = Limits.megabytes,
    max_images: Annotated[int, typer.Option(min=1, max=10_000, help="most images in a request")] = Limits.images,
    max_megapixels: Annotated[
        int, typer.Option(min=1, max=10_000, help="pixels in a request, as its files declare them [million]")
    ] = Limits.megapixels,
    max_waiting: Annotated[int, typer.Option(min=1, help="most requests that wait for an answer")] = Limits.waiting,
    max_seconds: Annotated[
        int, typer.Option(min=1, help="time from a complete request to its answer [s]")
    ] = Limits.seconds,
    max_body_seconds: Annotated[
        int, typer.Option(min=1, help="time for a request body to arrive [s]")
    ] = Limits.body_seconds,
    max_memory: Annotated[
        int, typer.Option(min=256, help="memory that requests may use beside the loaded model [MB]")
    ] = Limits.memory,
    keep_statistics: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option(
            help="append statistics of batches to this file; default: .isthmus/served/<model id>/statistics.jsonl"
        ),
    ] = None,
) -> None:
    """Serves a model over HTTP with the API of MLflow's scoring server (docs/serving.md). Ctrl-C stops it."""
    from isthmus.serving.serve import serve as run_serve

    limits = Limits(max_megabytes, max_images, max_megapixels, max_waiting, max_seconds, max_body_seconds, max_memory)
    project = _project()
    kept = _given(keep_statistics) if keep_statistics else None
    run_serve(project, model, host, port, limits, kept)


def _one_of(option: str, given: Optional[str], allowed: tuple[str, ...]) -> Any:  # noqa: UP045
    from isthmus.core.errors import ConfigError
    from isthmus.core.plugins import did_you_mean

    if given is not None and given not in allowed:
        raise ConfigError(f"{option} '{given}':{did_you_mean(given, list(allowed))} Allowed: {', '.join(allowed)}")
    return given


def _show(text: str, answer: Any, as_json: bool) -> None:
    """Prints what a verb found: for a person, or as JSON."""
    import json

    if as_json or text:
        typer.echo(json.dumps(answer, indent=2) if as_json else text)


def _standing(promotion: Any, as_json: bool) -> None:
    from dataclasses import asdict

    news = "now" if promotion.changed else "already"
    champion = f"version {promotion.champion}" if promotion.champion else "none"
    text = f"{promotion.model}: champion is {news} {champion}, previous {promotion.previous or 'none'}"
    _show(text, asdict(promotion), as_json)


_started: Path | None = None  # the folder of the user, where it is not the project's root


def _project(versioned: bool = False) -> Path:
    """Returns the project's root and works there, since paths in params.yaml are relative to it.

    Args:
        versioned: DVC or git will be asked, so the project must lie in a repository.
    """
    global _started
    project = find_project()
    if versioned:
        check_repository(project)
    if (here := Path.cwd()) != project:
        print(f"project: {project}", file=sys.stderr)
        _started = here
    work_in(project)
    return project


def _given(path: Path) -> Path:
    """Returns a path of the command line as it is to be used in the project's root."""
    return path if _started is None else _started / path


def _flows(module: str) -> Any:
    """Returns a module of flows, by its name only: they stand above this file, and importing Prefect takes seconds."""
    return importlib.import_module(f"pipelines.{module}")


def _run_app() -> int:
    app()  # always ends by SystemExit
    return 0


def main() -> None:
    """Runs the command; it ends with one message and its exit status, and no child process outlives it."""
    settle_environment()
    verb = next((word for word in sys.argv[1:] if not word.startswith("-")), "")
    hidden = ["data/raw", *(word for word in sys.argv[1:] if Path(word).is_dir())]
    if (
        verb in ("", "check", "list", "report", "schema", "serve", "ui") or "--help" in sys.argv
    ):  # starts nothing; `serve` and `ui` become another program
        with one_message(f"isthmus {verb}".strip(), hidden):
            app()
    raise SystemExit(command.run(_run_app, f"isthmus {verb}", hidden))


if __name__ == "__main__":
    main()
