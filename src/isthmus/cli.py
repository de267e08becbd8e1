"""The `isthmus` command: each verb calls one function of a floor below, or one flow."""

import csv
import importlib
import os
import sys
from pathlib import Path
from typing import Annotated, Any, NoReturn, Optional

import typer

from isthmus.core.errors import ConfigError
from isthmus.core.process import command
from isthmus.core.process.environment import settle_environment
from isthmus.core.process.failures import one_message
from isthmus.core.project import check_repository, find_project
from isthmus.serving.request_limits import Limits

# Nothing heavier than typer is imported above: `isthmus --help` answers at once. Each verb imports what it needs.
app = typer.Typer(
    help=(
        "Carries a vision model from labelled source images to unlabelled target images,"
        " proves that it arrived, and keeps the proof."
    ),
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

ScenarioName = Annotated[str, typer.Argument(help="a section under scenarios: in params.yaml")]


@app.command()
def check(names: Annotated[Optional[list[str]], typer.Argument(help="scenarios; none: all")] = None) -> None:  # noqa: UP045
    """Reads params.yaml and looks for the raw folders; tells all mistakes at once."""
    from isthmus.checks import check as run_check

    typer.echo(f"in order: {', '.join(run_check(_project(), names or []))}")


@app.command()
def run(
    names: Annotated[Optional[list[str]], typer.Argument(help="scenarios; none: all")] = None,  # noqa: UP045
    publish_results: Annotated[bool, typer.Option("--publish/--no-publish", help="feed MLflow afterwards")] = True,
) -> None:
    """Runs the line as a Prefect flow: DVC's graph stage by stage, then publishes."""
    flags = [] if publish_results else ["--no-publish"]
    _flow("pipelines.transfer", *(names or ["--all"]), *flags)


@app.command()
def fetch(
    name: Annotated[str, typer.Argument(help="a known public pair; 'isthmus fetch list' shows them")],
    mirror: Annotated[Optional[str], typer.Option(help="folder or web address of a mirror")] = None,  # noqa: UP045
) -> None:
    """Brings a known public pair, checks every file, versions it with DVC and adds its section to params.yaml."""
    from isthmus.data.catalog.pairs import listing
    from isthmus.data.catalog.public import fetch as run_fetch

    if name == "list":
        typer.echo(listing())
        return
    project = _project(versioned=True)
    run_fetch(name, project, mirror if mirror is None or "://" in mirror else str(_given(Path(mirror))))


@app.command()
def add(
    name: Annotated[str, typer.Argument(help="of the new scenario: a-z, 0-9 and _")],
    source: Annotated[list[Path], typer.Option(help="folder of labelled images; may be given several times")],
    target: Annotated[Path, typer.Option(help="folder with images, labelled or not")],
    kind: Annotated[str, typer.Option(help="of imagery: industrial, medical, natural, remote_sensing, ...")],
    classes: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(help="comma-separated; other folders are left out; default: all of the sources"),
    ] = None,
    target_labels: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(help="folders, table or none: where the target's labels are; default: what is found"),
    ] = None,
    group: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(help="what crosses no splits: folder, none, an entity of file names (lot), a column of a table"),
    ] = None,
    contradictions: Annotated[
        str, typer.Option(help="refuse or keep: the same bytes under two classes, or in source and target")
    ] = "refuse",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="say what would be done, and do nothing")] = False,
) -> None:
    """Brings your own pair: checks it, copies it to data/raw, versions it with DVC, adds its section to params.yaml."""
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
        group=group,
        contradictions=_one_of("--contradictions", contradictions, ("refuse", "keep")),
        dry_run=dry_run,
    )


@app.command()
def label(
    scenario: ScenarioName,
    random: Annotated[int, typer.Option(help="images drawn at random in all, to measure the accuracy")] = 50,
    informative: Annotated[int, typer.Option(help="images more, kept for choosing and training")] = 0,
    take: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option(help="table with image_id or path, and class; or a folder of class folders"),
    ] = None,
    by: Annotated[Optional[str], typer.Option(help="who gave the answers; default: git's user.name")] = None,  # noqa: UP045
    replace: Annotated[bool, typer.Option("--replace", help="take answers that differ from earlier ones")] = False,
) -> None:
    """Lists the target images to label next, with thumbnails; --take takes the answers and versions them with DVC."""
    from isthmus.label import take as run_take
    from isthmus.label import write_list

    if take is None:
        written = write_list(_project(), scenario, random, informative)
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
        f" Next: dvc repro report@{scenario}"
    )


@app.command()
def where(
    place: Annotated[str, typer.Argument(help="a scenario, or a folder given to add, predict or watch")],
    name: Annotated[str, typer.Argument(help="number of a file, as in 'file 12', or an image id")],
) -> None:
    """Finds a medical image by its number or id: messages, logs and reports hold no part of its path."""
    from isthmus.data.names import as_text
    from isthmus.where import where as run_where

    folder = Path.cwd() if Path(place).is_dir() else _project()  # a folder needs no project
    for path in run_where(folder, place, name):
        typer.echo(as_text(str(path)))


@app.command()
def publish(scenario: ScenarioName) -> None:
    """Feeds MLflow from the stages' files and registers the chosen model as candidate; twice is once."""
    from isthmus.registry.publish.publish import publish as run_publish

    done = run_publish(_project(versioned=True), scenario)
    typer.echo("\n".join(done.places()))


@app.command()
def score(scenario: ScenarioName) -> None:
    """Asks candidate and champion about the same frozen images, each in its own process; evidence for the gate."""
    from isthmus.registry.gate.score import score as run_score

    typer.echo("\n".join(run_score(_project(versioned=True), scenario).lines()))


@app.command()
def gate(scenario: ScenarioName) -> None:
    """Judges the candidate. Exit status: 0 yes, 3 no, 4 a person must decide."""
    from isthmus.registry.gate.decision import gate as run_gate

    decision = run_gate(_project(versioned=True), scenario)
    typer.echo(decision.table())
    raise typer.Exit(decision.exit_status)


@app.command()
def promote(
    scenario: ScenarioName,
    approve: Annotated[Optional[str], typer.Option(help="name of the person who approves, where one must")] = None,  # noqa: UP045
) -> None:
    """Makes the candidate the champion, if the gate's decision allows it."""
    from isthmus.registry.promotion.promotion import promote as run_promote

    _standing(run_promote(_project(versioned=True), scenario, approve))


@app.command()
def rollback(
    scenario: ScenarioName,
    withdraw: Annotated[bool, typer.Option(help="take the champion away and leave none")] = False,
    approve: Annotated[Optional[str], typer.Option(help="name of the person who approves, where one must")] = None,  # noqa: UP045
) -> None:
    """Makes the previous champion the champion again."""
    from isthmus.registry.promotion.promotion import rollback as run_rollback

    _standing(run_rollback(_project(), scenario, approve, withdraw))


@app.command()
def trace(
    model: Annotated[Optional[str], typer.Argument(help="NAME@ALIAS, NAME/VERSION or NAME (its champion)")] = None,  # noqa: UP045
    image: Annotated[Optional[str], typer.Option(help="file or sha256: which models saw it?")] = None,  # noqa: UP045
    group: Annotated[Optional[str], typer.Option(help="patient, lot or scene: which models saw its images?")] = None,  # noqa: UP045
    out: Annotated[Optional[Path], typer.Option(help="write the answer as JSON, an entry an image")] = None,  # noqa: UP045
) -> None:
    """Follows a model back to the bytes of each image; or says which models saw an image or a group."""
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
    typer.echo(text)
    if out is not None:
        write_json(_given(out), answer)


@app.command()
def predict(
    model: Annotated[str, typer.Argument(help="NAME@ALIAS, NAME/VERSION or NAME (its champion)")],
    paths: Annotated[list[Path], typer.Argument(help="image files, and folders of them")],
    out: Annotated[Path, typer.Option(help="parquet file to write")] = Path("predictions.parquet"),
    keep_statistics: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option(help="file to append statistics of each batch to, for 'isthmus watch'"),
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
def watch(
    scenario: ScenarioName,
    place: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Argument(help="folder of images, or file of kept statistics; default: what 'isthmus serve' kept"),
    ] = None,
    adapt: Annotated[bool, typer.Option(help="on drift, adapt to the folder's images and ask the gate")] = False,
) -> None:
    """Does a batch look like what the champion was adapted to? Exit status: 0 yes, 3 drift, 4 too few to tell."""
    _project(versioned=True)
    _flow("pipelines.watch", scenario, *([str(_given(place))] if place else []), *(["--adapt"] if adapt else []))


@app.command()
def lr_range(
    scenario: ScenarioName,
    method: Annotated[str, typer.Argument(help="a section under methods: in params.yaml")],
    lowest: Annotated[float, typer.Option(help="first learning rate")] = 1e-6,
    highest: Annotated[float, typer.Option(help="last learning rate")] = 1.0,
    steps: Annotated[int, typer.Option(help="in all")] = 100,
) -> None:
    """Tries growing learning rates and suggests one, with a plot; `dvc repro` must have made the features."""
    from isthmus.core.config import validated
    from isthmus.learning_rate import RangeConfig, run_in_project

    tried = validated(RangeConfig, {"lowest": lowest, "highest": highest, "steps": steps}, "lr-range: --")
    seen, found = run_in_project(_project(), scenario, method, tried)
    suggested = "the loss never falls: no suggestion" if seen.suggestion is None else f"{seen.suggestion:.2g}"
    typer.echo(f"suggested learning_rate: {suggested}\n{found / 'learning_rate.svg'}")


@app.command()
def reproduce(
    model: Annotated[str, typer.Argument(help="NAME@ALIAS, NAME/VERSION or NAME (its champion)")],
    tolerance: Annotated[float, typer.Option(help="of each number, in its own unit")] = 0.005,
) -> None:
    """Makes a model's results again from its snapshot and data, and compares. Exit status: 0 the same, 3 not."""
    from isthmus.registry.trace.reproduce import reproduce as run_reproduce

    found = run_reproduce(_project(versioned=True), model, tolerance)
    typer.echo(found.text())
    raise typer.Exit(0 if found.reproduced else 3)


@app.command()
def serve(
    model: Annotated[str, typer.Argument(help="NAME@ALIAS, NAME/VERSION or NAME (its champion)")],
    host: Annotated[str, typer.Option(help="address to listen on; by default this machine alone")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535)] = 8000,
    max_megabytes: Annotated[int, typer.Option(min=1, max=1024, help="largest request [MB]")] = Limits.megabytes,
    max_images: Annotated[int, typer.Option(min=1, max=10_000, help="images in a request")] = Limits.images,
    max_megapixels: Annotated[
        int, typer.Option(min=1, max=10_000, help="pixels in a request, as its files declare them [million]")
    ] = Limits.megapixels,
    max_waiting: Annotated[int, typer.Option(min=1, help="requests that wait for an answer")] = Limits.waiting,
    max_seconds: Annotated[int, typer.Option(min=1, help="from a whole request to its answer [s]")] = Limits.seconds,
    max_body_seconds: Annotated[int, typer.Option(min=1, help="for a body to arrive [s]")] = Limits.body_seconds,
    max_memory: Annotated[
        int, typer.Option(min=256, help="that requests may take beside the loaded model [MB]")
    ] = Limits.memory,
    keep_statistics: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option(help="file for statistics of batches; default: .isthmus/served/<model id>/statistics.jsonl"),
    ] = None,
) -> None:
    """Answers HTTP requests as MLflow's scoring server does (docs/serving.md); Ctrl-C ends it."""
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


def _standing(promotion: object) -> None:
    from isthmus.registry.promotion.promotion import Promotion

    assert isinstance(promotion, Promotion)
    news = "now" if promotion.changed else "already"
    champion = f"version {promotion.champion}" if promotion.champion else "none"
    typer.echo(f"{promotion.model}: champion is {news} {champion}, previous {promotion.previous or 'none'}")


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
        os.chdir(project)
    return project


def _given(path: Path) -> Path:
    """Returns a path of the command line as it is to be used in the project's root."""
    return path if _started is None else _started / path


def _flow(module: str, *arguments: str) -> NoReturn:
    """Runs a flow of the project and ends with its exit status.

    By its name only: flows stand above this file, and importing Prefect takes seconds.
    """
    project = str(_project(versioned=True))
    sys.path.insert(0, project)
    os.environ["PYTHONPATH"] = os.pathsep.join([project, *filter(None, [os.environ.get("PYTHONPATH")])])
    try:
        flow = importlib.import_module(module)
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "pipelines":
            raise
        what = "no folder 'pipelines', which holds the flows. Run 'git checkout pipelines'"
        raise ConfigError(f"{project}: {what}") from None
    raise typer.Exit(flow.main(list(arguments)))


def _run_app() -> int:
    app()  # always ends by SystemExit
    return 0


def main() -> None:
    """Runs the command; it ends with one message and its exit status, and nothing of it lives on."""
    settle_environment()
    verb = next((word for word in sys.argv[1:] if not word.startswith("-")), "")
    hidden = ["data/raw", *(word for word in sys.argv[1:] if Path(word).is_dir())]
    if verb in ("", "check", "serve") or "--help" in sys.argv:  # starts nothing; `serve` becomes another program
        with one_message(f"isthmus {verb}".strip(), hidden):
            app()
    raise SystemExit(command.run(_run_app, f"isthmus {verb}", hidden, watch_parent=False))


if __name__ == "__main__":
    main()
