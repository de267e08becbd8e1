"""What a plugin of each folder must hold, tried on small made-up data: our own contract tests and a project's plugins.

Each check returns the problems of one plugin, in words for whoever writes it; none where it keeps the contract.
"""

import importlib
import inspect
import json
import math
import pickle
import tempfile
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from isthmus.core import plugins
from isthmus.core.errors import ConfigError, DataError
from isthmus.core.files import hash_files

# folder -> member of a module -> the class that it must come from
BASES = {
    "adapt.methods": {"Config": "isthmus.adapt.MethodConfig", "Adaptation": "isthmus.adapt.Method"},
    "data.kinds": {"Config": "isthmus.data.kinds.KindConfig"},
    "data.pairs": {"Config": "isthmus.data.pairs.PairConfig"},
    "data.readers": {"FileReader": "isthmus.data.readers.Reader"},
    "data.tasks": {"Config": "isthmus.data.tasks.AnnotationConfig"},
    "evaluation.guards": {"Guards": "isthmus.evaluation.guards.TaskGuards"},
    "evaluation.tasks": {"Evaluation": "isthmus.evaluation.tasks.TaskEvaluation"},
    "evaluation.validators": {"Config": "isthmus.evaluation.validators.ValidatorConfig"},
    "gates.rules": {"Config": "isthmus.gates.Rule"},
    "models.backbones": {"Config": "isthmus.models.backbones.BackboneConfig"},
    "registry.model.answers": {"Answers": "isthmus.registry.model.answers.TaskAnswers"},
    "report.tasks": {"Report": "isthmus.report.tasks.TaskReport"},
}
CLASSES, WIDTH = 3, 6
# what batches a method must take
SIZES: dict[str, dict[str, Any]] = {
    "as many source rows as target rows": {},
    "few source rows": {"source": 6, "target": 14},
    "few target rows": {"source": 14, "target": 6},
    "two sources": {"sources": 2},
    "classes that are absent": {"labels": [0] * 12},
}


def problems(folder: str, name: str) -> list[str]:
    """Returns all that is wrong with a plugin, none where it keeps the contract of its folder.

    Args:
        folder: such as `adapt.methods`.
        name: of the module.
    """
    try:
        module = plugins.load(folder, name)
    except ConfigError as error:
        return [str(error)]
    found = list(_class_problems(folder, module))
    if not found and folder in _CHECKS:
        found = list(_CHECKS[folder](name))
    return found


def _class_problems(folder: str, module: Any) -> Iterator[str]:
    if not (module.__doc__ or "").strip():
        yield "has no docstring: its first line is what 'isthmus list' shows"
    for member, base in BASES[folder].items():
        given, (room, _, wanted) = getattr(module, member), base.rpartition(".")
        if not inspect.isclass(given) or not issubclass(given, getattr(importlib.import_module(room), wanted)):
            yield f"{member} must be a class {member}({wanted}), with {wanted} of {room}"
        elif missing := sorted(getattr(given, "__abstractmethods__", ())):
            yield f"{member} lacks {', '.join(missing)}: see {wanted} of {room}"


def _tried(what: str, check: Callable[[], Iterator[str]]) -> list[str]:
    """Returns what a check finds, and an exception of the plugin as one problem."""
    try:
        return list(check())
    except Exception as error:  # a plugin can raise anything, and each is a problem of its own
        return [f"{what}: {type(error).__name__}: {' '.join(str(error).split())}"]


# methods


def built_method(name: str, sources: int = 1) -> Any:
    """Returns a method with its default options."""
    import torch

    from isthmus.adapt import Shape

    torch.manual_seed(0)
    return plugins.load("adapt.methods", name).Config().build(Shape(CLASSES, WIDTH, sources, 40, 7))


def classifier(method: Any, sources: int = 1) -> Any:
    """Returns a small classifier as the method needs one, for features or images."""
    import torch

    from isthmus.models.classifier import Classifier, Encoder, Features, Standardise

    domains = sources + 1
    if method.needs == "images":
        network = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.Flatten(), torch.nn.Linear(4 * 36, 5))
        backbone: Encoder | Features = Encoder(network, Standardise(torch.zeros(domains, 3), torch.ones(domains, 3)))
    else:
        backbone = Features(Standardise(torch.zeros(domains, 5), torch.ones(domains, 5)))
    return Classifier(backbone, 5, CLASSES, WIDTH, "batch", 0)


def batch(
    method: Any, source: int = 12, target: int = 12, sources: int = 1, labels: Sequence[int] | None = None
) -> Any:
    """Returns a batch of random rows as the method is given one."""
    import torch

    from isthmus.data.batch import Batch

    generator = torch.Generator().manual_seed(3)
    count = source + (target if method.sees_target else 0)
    shape = (count, 3, 8, 8) if method.needs == "images" else (count, 5)
    inputs = torch.rand(shape, generator=generator)
    domains = torch.tensor([i % sources for i in range(source)] + [sources] * (count - source))
    classes = torch.tensor(list(labels) if labels is not None else [i % CLASSES for i in range(source)])
    strong = inputs[source:].flip(0) if method.strong_view else None
    return Batch(inputs, domains, classes, torch.arange(count - source), strong)


def total(name: str, **sizes: Any) -> tuple[Any, Any]:
    """Returns the sum of a method's losses on one batch, and the classifier that it was computed with."""
    import torch

    method = built_method(name, sizes.get("sources", 1))
    model = classifier(method, sizes.get("sources", 1))
    losses = method.losses(model, batch(method, **sizes), 0.5)
    if not losses or any(not isinstance(loss, torch.Tensor) or loss.dim() for loss in losses.values()):
        raise DataError("losses() must return at least one named loss, each a tensor of one number")
    return torch.stack(list(losses.values())).sum(), model


def _method_problems(name: str) -> Iterator[str]:
    if plugins.load("adapt.methods", name).Adaptation.remembers == "target":
        return  # it fills a memory and has no loss
    for what, sizes in SIZES.items():
        yield from _tried(f"losses() on a batch with {what}", partial(_losses, name, what, sizes))
    yield from _tried("losses() on constant features", lambda: _constant(name))
    yield from _tried("losses() with soft labels", lambda: _soft_labels(name))
    yield from _tried("losses() in bfloat16", lambda: _half(name))


def _losses(name: str, what: str, sizes: dict[str, Any]) -> Iterator[str]:
    import torch

    value, model = total(name, **sizes)
    if not torch.isfinite(value):
        yield f"losses() on a batch with {what} are not finite"
        return
    value.backward()
    gradients = [p.grad for p in model.parameters() if p.grad is not None]
    if not all(torch.isfinite(gradient).all() for gradient in gradients):
        yield f"losses() on a batch with {what} have gradients that are not finite"
    if not any(p.grad is not None and p.grad.abs().sum() > 0 for p in model.head.parameters()):
        yield f"losses() on a batch with {what} have no gradient for the head: keep a supervised loss of the source"


def _constant(name: str) -> Iterator[str]:
    import dataclasses

    import torch

    method = built_method(name)
    model, steady = classifier(method), batch(method)
    constant = dataclasses.replace(steady, inputs=torch.ones_like(steady.inputs))
    value = torch.stack(list(method.losses(model, constant, 0.5).values())).sum()
    value.backward()
    finite = all(torch.isfinite(p.grad).all() for p in model.parameters() if p.grad is not None)
    if not torch.isfinite(value) or not finite:
        yield "losses() on constant features, or their gradients, are not finite"


def _soft_labels(name: str) -> Iterator[str]:
    import dataclasses

    import torch

    method = built_method(name)
    sample = batch(method)
    sharp = torch.nn.functional.one_hot(sample.labels, CLASSES).float()
    soft = 0.6 * sharp + 0.4 * sharp.roll(1, 0)

    def supervised(**changes: Any) -> float:
        torch.manual_seed(0)
        again = built_method(name)
        torch.manual_seed(1)
        losses = again.losses(classifier(again), dataclasses.replace(sample, **changes), 0.5)
        return float(sum(loss.detach() for loss in losses.values()))

    weights = torch.arange(1.0, CLASSES + 1)
    for given in ({"soft_labels": soft}, {"class_weights": weights}):
        if math.isclose(supervised(**given), supervised(), rel_tol=1e-6):
            named = next(iter(given))
            yield f"losses() ignore batch.{named}: use source_loss(logits, batch) of isthmus.adapt.predictions"


def _half(name: str) -> Iterator[str]:
    import torch

    with torch.autocast("cpu", dtype=torch.bfloat16):
        value, _ = total(name)
    if not torch.isfinite(value):
        yield "losses() in bfloat16 are not finite"


# kinds


def frame(seed: int, shape: tuple[int, ...]) -> Any:
    """Returns an image of random pixels, grey or RGB."""
    from isthmus.data.image import Image

    pixels = np.random.default_rng(seed).integers(0, 256, shape).astype(np.uint8)
    return Image(pixels, "grey" if shape[2] == 1 else "rgb")


def _kind_problems(name: str) -> Iterator[str]:
    yield from _tried("Config(image_size=28)", lambda: _prepared(name))


def _prepared(name: str) -> Iterator[str]:
    kind = plugins.load("data.kinds", name).Config(image_size=28).build()
    images = [frame(1, (30, 40, 1)), frame(2, (64, 33, 3)), frame(3, (28, 28, 1))]
    fitted = kind.fit(iter(images))
    if json.loads(json.dumps(fitted)) != fitted:
        yield "fit() must return JSON types"
    seen = [image for image in images if kind.learns_from(image.pixels.dtype.name, image.pixels.shape[2])]
    if kind.fit(iter(seen)) != fitted:
        yield "fit() learns from images that learns_from() denies"
    if type(pickle.loads(pickle.dumps(kind))) is not type(kind):  # noqa: S301 - our own bytes
        yield "cannot travel to a worker process: its class must stand at the top of the module"
    try:
        first, second = ([kind.prepare(image, fitted) for image in images] for _ in range(2))
        boxes = [kind.box(image) for image in images]
    except DataError:
        return  # a kind may refuse plain pictures
    found = {(a.shape, a.dtype.name) for a in first}
    if len(found) != 1 or {a.shape[:2] for a in first} != {(28, 28)}:
        yield f"prepare() must return one shape [image_size, image_size, C] and one dtype (got {sorted(found)})"
    if any(a.tobytes() != b.tobytes() for a, b in zip(first, second, strict=True)):
        yield "prepare() must return the same bytes for the same image"
    if not all(len(box) == 4 and box[0] < box[2] and box[1] < box[3] for box in boxes):
        yield "box() must return top, left, bottom, right of what prepare() shows"


# the others


def _validator_problems(name: str) -> Iterator[str]:
    yield from _tried("score()", lambda: _scored(name))


def _scored(name: str) -> Iterator[str]:
    from isthmus.evaluation.validators import Trial

    rng = np.random.default_rng(0)
    draw = [rng.normal(size=shape).astype(np.float32) for shape in ((20, 4), (20, 6), (15, 4), (15, 6))]
    score = plugins.load("evaluation.validators", name).Config().build().score(
        Trial(draw[0], rng.integers(0, 4, 20), draw[1], draw[2], draw[3])
    )  # fmt: skip
    if not math.isfinite(score):
        yield "score() must return a finite number"


def _rule_problems(name: str) -> Iterator[str]:
    def options() -> Iterator[str]:
        plugins.load("gates.rules", name).Config()
        yield from ()

    yield from _tried("Config()", options)


def _reader_problems(name: str) -> Iterator[str]:
    reader = plugins.load("data.readers", name).FileReader
    suffixes = getattr(reader, "suffixes", None)
    if not suffixes or any(suffix != suffix.lower() or not suffix.startswith(".") for suffix in suffixes):
        yield "suffixes must be a frozenset of lower-case suffixes with their dot"
        return
    for other in plugins.names("data.readers"):
        shared = suffixes & plugins.load("data.readers", other).FileReader.suffixes if other != name else None
        if shared:
            yield f"claims {', '.join(sorted(shared))}, which the reader '{other}' has"
    yield from _tried("parts()", lambda: _refused(reader))


def _refused(reader: Any) -> Iterator[str]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"secret-name{min(reader.suffixes)}"
        path.write_bytes(b"just some words\n")
        try:
            reader().parts(path)
        except DataError as error:
            if "secret-name" in str(error):
                yield "its reasons must not hold the path of a file"
        else:
            yield "parts() must raise DataError for a file that is no image"


def _pair_problems(name: str) -> Iterator[str]:
    yield from _tried("write()", lambda: _written(name))


def _written(name: str) -> Iterator[str]:
    pair = plugins.load("data.pairs", name).Config().build()
    with tempfile.TemporaryDirectory() as folder:
        one, two = Path(folder) / "one", Path(folder) / "two"
        for place in (one, two):
            pair.write(place, 0)
        if sum(path.is_dir() for path in one.iterdir()) < 2:
            yield "write() must make a folder a domain, two at least"
        if hash_files([one]) != hash_files([two]):
            yield "write() must write the same bytes for the same seed"


_CHECKS: dict[str, Callable[[str], Iterator[str]]] = {
    "adapt.methods": _method_problems,
    "data.kinds": _kind_problems,
    "data.pairs": _pair_problems,
    "data.readers": _reader_problems,
    "evaluation.validators": _validator_problems,
    "gates.rules": _rule_problems,
}
