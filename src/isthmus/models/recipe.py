"""How a model trains: nested sections under `models:`. The defaults are what the shipped figures were made with."""

from typing import Literal

from pydantic import Field, model_validator

from isthmus.core.config import Config


class Optimiser(Config):
    """The section `optimiser`."""

    name: Literal["adamw", "sgd"] = Field("adamw", description="AdamW (decoupled weight decay), or SGD")
    momentum: float = Field(0.9, ge=0, lt=1, description="of SGD; AdamW has its own")
    nesterov: bool = Field(False, description="SGD looks ahead by its momentum")

    @model_validator(mode="after")
    def _consistent(self) -> "Optimiser":
        if self.nesterov and (self.name != "sgd" or self.momentum == 0):
            raise ValueError("nesterov needs name: sgd and momentum above 0. Set them, or nesterov: false")
        return self


class Schedule(Config):
    """The section `schedule`: the learning rate's course as a share of its full value."""

    name: Literal["constant", "cosine", "one_cycle", "step", "sgdr", "plateau"] = Field(
        "cosine",
        description="constant; cosine to zero; one_cycle (Smith and Topin 2018); step (x factor every `every` epochs); "
        "sgdr (cosine restarts, Loshchilov and Hutter 2017); plateau (x factor when `watch` stops improving)",
    )
    warm_up: float = Field(0.05, ge=0, lt=1, description="[share] of all steps, linear; one_cycle has its own rise")
    every: int = Field(10, ge=1, description="[epoch] between steps; length of sgdr's first cycle")
    factor: float = Field(0.1, gt=0, lt=1, description="of step and plateau: what the rate is multiplied by")
    growth: int = Field(1, ge=1, description="of sgdr: each cycle is this many times as long as the one before")
    patience: int = Field(3, ge=1, description="[epoch] of plateau: without a better value before the rate falls")
    watch: Literal["source_val_loss", "entropy", "information_maximisation"] = Field(
        "source_val_loss", description="of plateau; the last two are of target images, without labels"
    )


class EarlyStop(Config):
    """The section `early_stop`: looks at kept epochs alone, the candidates."""

    patience: int = Field(0, ge=0, description="[kept epoch] without a better value before training stops; 0: never")
    watch: Literal["source_val_loss", "entropy", "information_maximisation"] = Field(
        "source_val_loss",
        description="the last two are of target images, without labels; a method that must not see the target, such as "
        "source_only, is stopped by source_val_loss always",
    )


class Tuning(Config):
    """The section `tuning`: how much of the backbone trains in full mode."""

    how: Literal["full", "partial", "lora", "prompts"] = Field(
        "full",
        description="full: all; partial: the last `blocks`; lora: low-rank changes of attention, merged when "
        "kept; prompts: tokens beside the patches",
    )
    blocks: int = Field(2, ge=0, description="of partial: this many last blocks train")
    rank: int = Field(8, ge=1, description="of lora")
    alpha: float = Field(16.0, gt=0, description="of lora: its change is scaled by alpha / rank")
    prompts: int = Field(10, ge=1, description="[token] of prompts")
    layer_decay: float = Field(1.0, gt=0, le=1, description="each layer learns at this share of the one after it")
    unfreeze_every: int = Field(
        0, ge=0, description="[epoch] between layers that start to train, the last first; 0: at once"
    )
    l2_sp: float = Field(0.0, ge=0, description="weight of the squared distance of the backbone to its start (L2-SP)")


class Neighbours(Config):
    """The section `neighbours`: of `head: knn`."""

    count: int = Field(20, ge=1, description="[image] k, nearest source training images that vote")
    temperature: float = Field(0.07, gt=0, description="T, a vote weighs exp(cosine / T)")


class Memory(Config):
    """The section `memory`: of `head: memory`."""

    false_alarms: float = Field(0.1, gt=0, lt=1, description="[share] of good images that may be called defective")
    most: int = Field(20_000, ge=1, description="[cell] that are remembered; of more, evenly spaced ones")


class Augment(Config):
    """The section `augment`: of training images in full mode, beside the weak view. No hue."""

    orientation: Literal["of_kind", "none", "mirror", "turns"] = Field(
        "of_kind",
        description="mirror: half of all images left to right; turns: one of the eight turns and mirrors of a square,"
        " for images without an up (from above, of cells or surfaces); of_kind: turns for kind remote_sensing, else"
        " none",
    )
    crop: float = Field(
        1.0, gt=0, le=1, description="[share] of an image's area that a random crop of it has at least; 1: no crop"
    )
    mixup: float = Field(0.0, ge=0, description="alpha of the Beta that mixes pairs of source images; 0: none")
    cutmix: float = Field(0.0, ge=0, description="alpha of the Beta for the area that a source image gets of another")
    erase: float = Field(
        0.0,
        ge=0,
        le=1,
        description="[share] of source images and strong target views with a rectangle filled with their mean",
    )
    randaugment: int = Field(
        0, ge=0, le=8, description="operations on each source image and strong view, one after another; 0: none"
    )
    augmix: int = Field(0, ge=0, le=8, description="chains that are mixed into them instead; the paper's 3; 0: none")
    artefacts: float | None = Field(
        None,
        ge=0,
        le=1,
        description="[share] of source images and strong views that get each of bias field, Gibbs ringing and noise; "
        "kind medical only; none: half of its strong views and no source image; 0: no image",
    )
    strength: float = Field(9.0, ge=0, le=30, description="[of 30] of randaugment and artefacts; augmix draws up to it")

    @model_validator(mode="after")
    def _consistent(self) -> "Augment":
        if self.mixup and self.cutmix:
            raise ValueError("mixup and cutmix cannot both mix one batch. Set one of them to 0")
        if self.randaugment and self.augmix:
            raise ValueError("randaugment and augmix cannot both change one image. Set one of them to 0")
        if self.strength != 9.0 and not (self.randaugment or self.augmix or self.artefacts):
            raise ValueError(
                "strength applies to randaugment, augmix and artefacts, and none is set. Set one of them, or drop"
                " strength"
            )
        return self
