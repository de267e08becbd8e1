"""Networks: backbone -> bottleneck -> head, and where pretrained weights come from."""

from typing import Any, Literal

from pydantic import Field, model_validator

from isthmus.core import plugins
from isthmus.core.config import Config, validated
from isthmus.core.errors import ConfigError
from isthmus.data.names import Name
from isthmus.models.backbones import BackboneConfig
from isthmus.models.recipe import Augment, EarlyStop, Memory, Neighbours, Optimiser, Schedule, Tuning

_OF_TRAINING = (
    "optimiser",
    "schedule",
    "accumulate",
    "precision",
    "average",
    "label_smoothing",
    "sampling",
    "class_weights",
    "early_stop",
    "min_steps",
    "max_steps",
    "batch_size",
)


class ModelConfig(Config):
    """A section under `models:`: which network, how much of it trains, and how."""

    mode: Literal["frozen", "full"] = Field(
        description="frozen: heads on cached features; full: every weight, on images"
    )
    backbone: dict[str, Any] = Field(description="name: a module of isthmus.models.backbones, and its options")
    layer: int | None = Field(
        None,
        ge=0,
        description="of tasks with cells: block of a vision transformer or stage of another network, from 0, whose"
        " features cells have; none: the last (frozen mode)",
    )
    bottleneck: int = Field(256, ge=2, description="width of the features that methods align")
    norm: Literal["batch", "layer"] = Field("batch", description="norm of the bottleneck")
    head: Literal["bottleneck", "linear", "knn", "memory"] = Field(
        "bottleneck",
        description="linear: the head is on the backbone's features (linear probe in frozen mode); knn: nearest "
        "source images vote and nothing trains (frozen mode, source_only and zscore); memory: of task anomaly, what is"
        " far from all good images is a defect, and nothing trains either",
    )
    memory: Memory = Field(Memory(), description="of head: memory")
    neighbours: Neighbours = Field(Neighbours(), description="of head: knn")
    tuning: Tuning = Field(Tuning(), description="of the backbone, in full mode")
    augment: Augment = Field(Augment(), description="of training images, in full mode")
    epochs: int = Field(
        20,
        ge=1,
        description="of each phase of a method, of max(source, target training images) / batch_size steps each: "
        "source_only too takes more steps where there are more target images",
    )
    min_steps: int = Field(
        0, ge=0, description="[step] that a phase has at least: small sets are gone through in more epochs"
    )
    max_steps: int = Field(
        0, ge=0, description="[step] that a phase has at most: of large sets an epoch sees a part; 0: no limit"
    )
    batch_size: int = Field(0, ge=0, description="rows a step of each role, in place of train.batch_size; 0: that")
    learning_rate: float = Field(1e-3, gt=0, description="of bottleneck, head and the method's own layers")
    backbone_rate: float = Field(0.1, ge=0, description="[share] of learning_rate for the backbone (full mode)")
    weight_decay: float = Field(1e-3, ge=0, description="of the optimiser of the shared step")
    clip: float = Field(10.0, gt=0, description="largest gradient norm")
    optimiser: Optimiser = Field(Optimiser(), description="of the shared step")
    schedule: Schedule = Field(Schedule(), description="of the learning rate")
    accumulate: int = Field(1, ge=1, description="[batch] whose gradients make one optimiser step")
    precision: Literal["none", "auto", "bf16", "fp16"] = Field(
        "none",
        description="of the forward pass in training; losses, stored outputs and served answers are float32. auto: bf16"
        " where processor or GPU has instructions for it, else none",
    )
    average: float = Field(
        0.0,
        ge=0,
        lt=1,
        description="decay a step of an exponential moving average of the weights, which is what is stored; 0: none",
    )
    label_smoothing: float = Field(0.0, ge=0, lt=1, description="[share] of a source label spread over all classes")
    sampling: Literal["as_is", "balanced"] = Field(
        "as_is", description="balanced: source rows are drawn with equal shares of the classes"
    )
    class_weights: Literal["none", "balanced"] = Field(
        "none",
        description="balanced: in the source loss each class counts alike, whatever its share of the labelled rows; "
        "not together with sampling: balanced or class_shares, which draw rows so",
    )
    class_shares: dict[Name, float] = Field(
        default_factory=dict,
        description="class -> [share]; source rows are drawn so (re-weighting), e.g. the `priors` of shift.json",
    )
    target_shares: dict[Name, float] = Field(
        default_factory=dict,
        description="class -> [share] of the target, e.g. the `priors` of shift.json; shot, bnm and mcc use them "
        "in place of equal shares, other methods ignore them",
    )
    early_stop: EarlyStop = Field(EarlyStop(), description="stops a seed whose stored epochs no longer improve")
    views: int = Field(
        0,
        ge=0,
        le=8,
        description="photometric views of each source image, for methods that train on them (domain_randomisation)."
        " Frozen mode: embed makes them, each costs as much as the images, and has light and dark exchanged in half of"
        " the images (1) or in none of the odd views and all of the even ones (2 and more). Full mode: they are drawn"
        " anew at each step, light and dark exchanged in half of them where the grey values of source and target are"
        " skewed to opposite sides",
    )
    shift_pixels: int = Field(2, ge=0, description="training images are shifted by up to this many [pixel] (full mode)")

    @model_validator(mode="after")
    def _consistent(self) -> "ModelConfig":
        if self.mode == "frozen" and self.tuning != Tuning():
            raise ValueError("tuning needs a backbone that trains. Set mode: full, or drop tuning")
        if self.mode == "frozen" and self.augment != Augment():
            raise ValueError("augment changes images, which frozen mode does not see. Set mode: full, or drop augment")
        if self.mode == "full" and self.layer is not None:
            raise ValueError("layer is of frozen features of cells. Set mode: frozen, or drop layer")
        if self.class_weights == "balanced" and (self.sampling == "balanced" or self.class_shares):
            other = "class_shares" if self.class_shares else "sampling: balanced"
            raise ValueError(f"class_weights: balanced and {other} correct the same shares. Drop one of the two")
        if 0 < self.max_steps < max(self.min_steps, self.epochs):
            raise ValueError(
                f"max_steps: {self.max_steps} is below min_steps: {self.min_steps} or epochs: {self.epochs}. Raise it,"
                " or lower them"
            )
        if self.head in ("knn", "memory"):
            self._trains_nothing()
        for head, section, given in (("knn", "neighbours", self.neighbours), ("memory", "memory", self.memory)):
            if self.head != head and given != type(given)():
                raise ValueError(
                    f"{section} belongs to head: {head} (got head: {self.head}). Set it, or drop {section}"
                )
        return self

    def _trains_nothing(self) -> None:
        if self.mode != "frozen" or self.epochs != 1:
            raise ValueError(
                f"head: {self.head} trains nothing (got mode: {self.mode}, epochs: {self.epochs})."
                " Set mode: frozen and epochs: 1"
            )
        idle = [name for name in _OF_TRAINING if getattr(self, name) != type(self).model_fields[name].default]
        idle += [name for name in ("class_shares", "target_shares") if getattr(self, name)]
        if idle:
            names = ", ".join(idle)
            raise ValueError(f"head: {self.head} trains nothing, so these have no effect: {names}. Drop them")

    def backbone_config(self, where: str) -> BackboneConfig:
        """Returns the backbone's own options, checked.

        Raises:
            ConfigError: the name or an option is unknown; each message begins with `where`.
        """
        options = dict(self.backbone)
        name = options.pop("name", None)
        if not isinstance(name, str):
            raise ConfigError(f"{where}name: missing. Allowed: {', '.join(plugins.names('models.backbones'))}")
        try:
            config = plugins.load("models.backbones", name).Config
        except ConfigError as error:
            raise ConfigError(f"{where}name: {error}") from None
        checked: BackboneConfig = validated(config, options, where)
        return checked
