"""What a user says of one source/target pair: a section under `scenarios:` in `params.yaml`."""

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, model_validator

from isthmus.core import plugins
from isthmus.core.config import Config, validated
from isthmus.core.errors import ConfigError
from isthmus.core.names import path_problem
from isthmus.data.kinds import KindConfig
from isthmus.data.names import Name, name_problem, printable
from isthmus.data.slices import VolumeConfig
from isthmus.data.tasks import AnnotationConfig
from isthmus.data.tiles import Tiles


def _inside_project(path: Path) -> Path:
    if problem := path_problem(path.as_posix()):
        raise ValueError(problem)
    return path


class Scenario(Config):
    """One source/target pair."""

    kind: str = Field(description="preprocessing: a module of isthmus.data.kinds")
    task: str = Field("classification", description="what one answer is: a module of isthmus.data.tasks")
    raw: Annotated[Path, AfterValidator(_inside_project)] = Field(
        description="folder with <domain>/<class>/file or <domain>/file, or with images.csv / images.parquet"
    )
    source: list[Name] = Field(min_length=1, description="labelled domains, one or several")
    target: Name = Field(description="the domain to adapt the model to")
    target_labels: Literal["folders", "table", "none"] = Field(
        "none", description="where labels (masks, boxes) of the target can be found for evaluation, if anywhere"
    )
    classes: list[Name] = Field(min_length=2, description="closed set, in the order of the model's outputs")
    annotations: dict[str, Any] = Field(default_factory=dict, description="options of the task, such as mask values")
    group: str | None = Field(
        None,
        description="what must not cross splits (patient, scene, lot): a column of the table, or a 'lot-<value>_' "
        "entity in file names; none: exact-duplicate clusters",
    )
    split_seed: int | None = Field(
        None, ge=0, description="seed of this scenario's splits; none: 'seed' of params.yaml, as of all scenarios"
    )
    volumes: VolumeConfig | None = Field(
        None,
        description="files of one DICOM series are one volume in the order of their positions; none: single images",
    )
    tiles: Tiles | None = Field(
        None, description="cut large frames into tiles of one size; a tile takes its frame's label, group and split"
    )
    model: str = Field("vit", description="a section under models: in params.yaml")
    preprocess: dict[str, Any] = Field(default_factory=dict, description="options of the kind")

    @model_validator(mode="after")
    def _consistent(self) -> "Scenario":
        if self.target in self.source:
            raise ValueError(f"target '{self.target}' is also a source. Name a different folder as the target")
        for name in [*self.source, self.target, *self.classes]:
            if problem := name_problem(name):
                raise ValueError(
                    f"'{printable(name)}' cannot be a folder's name: it {problem}. Allowed: all characters except"
                    f" '/' and NUL,"
                    " and no dot at the beginning"
                )
        if self.tiles and isinstance(self.tiles.scale, dict) and set(self.tiles.scale) != set(self.domains):
            raise ValueError(f"tiles.scale must have one number for each of {', '.join(self.domains)}")
        if self.tiles and self.volumes:
            raise ValueError("'tiles' cuts frames and 'volumes' orders whole slices. Keep one of them")
        for what, values in (("classes", self.classes), ("source", self.source)):
            if len(set(values)) != len(values):
                raise ValueError(f"{what} contains a duplicate: {', '.join(values)}")
        if self.kind not in plugins.names("data.kinds"):
            allowed = plugins.names("data.kinds")
            raise ValueError(
                f"no kind '{self.kind}'.{plugins.did_you_mean(self.kind, allowed)} There are: {', '.join(allowed)}"
            )
        if self.task not in plugins.names("data.tasks"):
            allowed = plugins.names("data.tasks")
            raise ValueError(
                f"no task '{self.task}'.{plugins.did_you_mean(self.task, allowed)} There are: {', '.join(allowed)}"
            )
        try:
            problem = self.annotation_config("annotations.").problem(self.classes)
        except ConfigError as error:
            problem = str(error)
        if problem:
            raise ValueError(problem)
        return self

    @property
    def domains(self) -> list[str]:
        """All domains, sources first, the target last: a domain's id is its place here."""
        return [*self.source, self.target]

    def annotation_config(self, where: str = "params.yaml: annotations.") -> AnnotationConfig:
        """Returns the task's own options, checked.

        Raises:
            ConfigError: an option is unknown or has a wrong value; each message begins with `where`.
        """
        return validated(plugins.load("data.tasks", self.task).Config, self.annotations, where)

    def kind_config(self, where: str) -> KindConfig:
        """Returns the kind's own options, checked.

        Raises:
            ConfigError: an option is unknown or has a wrong value; each message begins with `where`.
        """
        config = plugins.load("data.kinds", self.kind).Config
        if not issubclass(config, KindConfig):
            raise ConfigError(f"isthmus.data.kinds.{self.kind}: its Config must be a KindConfig")
        options = validated(config, self.preprocess, where)
        if self.tiles and (wrong := options.given_whole_frame()):
            raise ConfigError(
                f"{where}{wrong[0]}: is about places in a whole frame, and 'tiles' of the scenario cuts the frame"
                " first. Remove one of the two"
            )
        return options


class ScenarioParams(Config):
    """A section `scenarios.NAME` of `params.yaml`, as `load_params` reads it."""

    scenario: Scenario
