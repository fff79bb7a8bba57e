"""What a run is: one frozen model, refused on any typo, the same for YAML, form and Python."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, ValidationError, field_validator, model_validator

from napari_ssl_pretrain.pretext.base import Frozen
from napari_ssl_pretrain.spec.config_errors import first_error
from napari_ssl_pretrain.spec.yaml_io import dump_yaml, load_yaml

_LONGEST_NAME = 100
Auto = Literal["auto"]
Task = Literal["crappify", "masking"]
Normalization = Literal["zscore", "percentile", "minmax", "divide", "custom"]
MaskType = Literal["random", "grid", "block"]
Precision = Literal["fp32", "bf16", "fp16"]
Size = Literal["tiny", "small", "base", "large"]
LossName = Literal["l1", "mse", "charbonnier"]


def known_axes(value: str) -> str:
    """Return axes in capitals, or ``auto``.

    Raises
    ------
    ValueError
        They are no image's.
    """
    if value == "auto":
        return value
    axes = value.upper()
    if not set("YX") <= set(axes) <= set("TCZYXS") or len(set(axes)) != len(axes):
        raise ValueError("must name Y and X once each, beside them T, C, Z or S as stored")
    return axes


def _listed(value: Any) -> Any:
    """Take one path, or one number, for a list of one."""
    if isinstance(value, str | Path):
        return (str(value),)
    return (
        tuple(str(v) if isinstance(v, Path) else v for v in value)
        if isinstance(value, list | tuple)
        else value
    )


def _tupled(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


Paths = Annotated[tuple[str, ...], BeforeValidator(_listed), Field(min_length=1)]
PositiveInt = Annotated[int, Field(ge=1, lt=2**31)]
Width = Annotated[int, Field(ge=1, le=65_536)]
Depth = Annotated[int, Field(ge=1, le=256)]
Lengths = Annotated[tuple[PositiveInt, ...], BeforeValidator(_tupled)]
Widths = Annotated[tuple[Width, ...], BeforeValidator(_tupled), Field(min_length=2, max_length=16)]


def _option(default: Any, description: str, *, advanced: bool = False, **rules: Any) -> Any:
    """Declare a field: the description is the form's tooltip, advanced fields are folded away."""
    return Field(
        default, description=description, json_schema_extra={"advanced": advanced}, **rules
    )


class DataConfig(Frozen):
    """Which images, and how their numbers are read."""

    train: Paths = Field(
        description="Images to learn from: a folder, a file, a glob, or a list of these."
    )
    validation: Paths | None = _option(
        None, "Images that choose the best state; empty takes a part of the training images."
    )
    validation_fraction: float = _option(
        0.1,
        "Part of the training images (or of each, when they are few) kept for validation.",
        advanced=True,
        ge=0,
        lt=1,
    )
    test: Paths | None = _option(None, "Images restored and scored at the end.")
    axes: str = _option(
        "auto", "Axes as stored in the files, such as YX, YXC, CYX, ZYX, ZCYX; auto reads metadata."
    )
    ndim: Auto | Literal[2, 3] = _option(
        "auto", "2 for planes, 3 for volumes; auto follows the axes."
    )
    channels: (
        Literal["all"]
        | Annotated[
            tuple[Annotated[int, Field(ge=0)], ...], BeforeValidator(_tupled), Field(min_length=1)
        ]
    ) = _option("all", "Channels to use, as a list of indices from 0, or all.", advanced=True)
    patch_size: Auto | Lengths = _option("auto", "Pixels of a training patch, [y, x] or [z, y, x].")
    normalization: Normalization = _option(
        "zscore",
        "zscore, percentile and minmax by each image; divide by the dtype's range; "
        "custom by the mean and deviation of the training set, saved beside the checkpoint.",
        advanced=True,
    )

    @field_validator("axes")
    @classmethod
    def _known_axes(cls, value: str) -> str:
        return known_axes(value)


class PretextConfig(Frozen):
    """What to learn from."""

    task: Task = Field(
        description="crappify: restore worsened images; masking: restore hidden parts."
    )
    noise: float = _option(
        0.2,
        "crappify: deviation of the Gaussian noise, as a fraction of the image's maximum.",
        ge=0,
        le=1,
    )
    resizing_factor: float = _option(
        4.0, "crappify: down- and up-sampling; the factor a side is its square root.", ge=1, le=64
    )
    fresh: bool = _option(
        True,
        "crappify: worsen anew at every step; false trains on the stored copies.",
        advanced=True,
    )
    ssl_source_dir: str = _option(
        "auto",
        "crappify: where the worsened copies are kept; auto is the result folder.",
        advanced=True,
    )
    mask_ratio: float = _option(0.75, "masking: part of the tokens that is hidden.", gt=0, lt=1)
    mask_type: MaskType = _option("random", "masking: random tokens, a regular grid, or blocks.")
    token_size: Auto | PositiveInt | Lengths = _option(
        "auto", "masking: pixels of a token, one number or one an axis."
    )
    normalize_target: bool = _option(
        False, "masking: ask for tokens of zero mean and unit variance.", advanced=True
    )


class BackboneConfig(Frozen):
    """Which network; every number behind its size can be set."""

    name: str = _option(
        "auto", "Network to pretrain; auto takes the one that serves the task best."
    )
    size: Size = _option("small", "tiny, small, base or large.")
    features_per_stage: Auto | Widths = _option(
        "auto", "U-Nets: channels of each resolution, finest first.", advanced=True
    )
    blocks_per_stage: Auto | Depth = _option(
        "auto", "U-Nets: blocks at each resolution of the encoder.", advanced=True
    )
    norm: Literal["auto", "instance", "none"] = _option(
        "auto", "U-Nets: normalisation layers.", advanced=True
    )
    embed_dim: Auto | Width = _option("auto", "mae_vit: width of the encoder.", advanced=True)
    depth: Auto | Depth = _option("auto", "mae_vit: blocks of the encoder.", advanced=True)
    num_heads: Auto | PositiveInt = _option(
        "auto", "mae_vit: attention heads of the encoder.", advanced=True
    )
    mlp_ratio: float = _option(
        4.0,
        "mae_vit: width of the feed-forward part over that of the block.",
        advanced=True,
        gt=0,
        le=64,
    )
    decoder_embed_dim: Auto | Width = _option(
        "auto", "mae_vit: width of the decoder.", advanced=True
    )
    decoder_depth: Auto | Depth = _option("auto", "mae_vit: blocks of the decoder.", advanced=True)
    decoder_num_heads: Auto | PositiveInt = _option(
        "auto", "mae_vit: attention heads of the decoder.", advanced=True
    )


class TrainingConfig(Frozen):
    """How long and how to learn."""

    epochs: Auto | PositiveInt = _option("auto", "Epochs to train.")
    steps_per_epoch: Auto | PositiveInt = _option(
        "auto", "Steps between two validations.", advanced=True
    )
    max_minutes: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = _option(
        None, "Minutes that training may take, turned into a number of steps after a warm-up."
    )
    batch_size: Auto | PositiveInt = _option("auto", "Patches a step, over all devices together.")
    learning_rate: Auto | Annotated[float, Field(gt=0, le=10)] = _option(
        "auto",
        "Peak learning rate; without norms, layers with many inputs take less.",
        advanced=True,
    )
    weight_decay: Auto | Annotated[float, Field(ge=0, le=10)] = _option(
        "auto", "Weight decay of the weight matrices.", advanced=True
    )
    warmup_steps: Auto | Annotated[int, Field(ge=0)] = _option(
        "auto", "Steps over which the learning rate rises.", advanced=True
    )
    gradient_clip: Annotated[float, Field(ge=0)] = _option(
        1.0, "Largest norm of the gradient; 0 turns clipping off.", advanced=True
    )
    loss: Auto | LossName = _option("auto", "l1, mse or charbonnier.", advanced=True)
    augment: bool = _option(True, "Flip and rotate the patches by right angles.", advanced=True)
    patience: PositiveInt | None = _option(
        None, "Epochs without improvement after which training ends.", advanced=True
    )
    seed: int = _option(0, "Seed of all randomness.", advanced=True, ge=0, lt=2**63)
    load_checkpoint: str | None = _option(
        None,
        "Start from these weights: best or last of this name, or the path of a checkpoint.",
        advanced=True,
    )


class ComputeConfig(Frozen):
    """What to compute on."""

    device: str = _option(
        "auto", "auto, cpu, cuda, cuda:1 or mps.", pattern=r"^(auto|cpu|mps|cuda(:\d+)?)$"
    )
    precision: Auto | Precision = _option("auto", "auto, fp32, bf16 or fp16.", advanced=True)
    workers: Auto | Annotated[int, Field(ge=0, le=256)] = _option(
        "auto", "Threads that read images ahead.", advanced=True
    )
    memory_gb: Auto | Annotated[float, Field(gt=0)] = _option(
        "auto", "Host memory that the program may use.", advanced=True
    )


class PretrainConfig(Frozen):
    """One pretraining run, whole.

    Parameters
    ----------
    name, run_id, result_dir
        The run's folder is ``<result_dir>/<name>/results/<name>_<run_id>``.
    data, pretext, backbone, training, compute
        See the classes of these names. Only ``data.train`` and ``pretext.task`` are required.
    """

    name: str = _option("ssl_pretraining", "Name of the job; the result folder carries it.")
    run_id: PositiveInt = _option(1, "Number of this run; another number adds a run.")
    result_dir: str = _option("exp_results", "Folder for all results.")
    data: DataConfig
    pretext: PretextConfig
    backbone: BackboneConfig = BackboneConfig()
    training: TrainingConfig = TrainingConfig()
    compute: ComputeConfig = ComputeConfig()

    def __init__(self, **fields: Any) -> None:
        try:
            super().__init__(**fields)
        except ValidationError as error:
            raise first_error(error, type(self)) from None

    @field_validator("name")
    @classmethod
    def _plain_name(cls, value: str) -> str:
        if (
            not value
            or value.strip(". ") != value
            or any(c in value for c in '/\\:*?"<>|')
            or not value.isprintable()
        ):
            raise ValueError(
                'must be a plain folder name, without / \\ : * ? " < > | or outer dots'
            )
        if len(value.encode()) > _LONGEST_NAME:
            raise ValueError(f"must be a folder name of at most {_LONGEST_NAME} bytes")
        return value

    @field_validator("result_dir")
    @classmethod
    def _path(cls, value: str) -> str:
        if "\0" in value or not value:
            raise ValueError("must be the path of a folder")
        return value

    @model_validator(mode="after")
    def _ranks_agree(self) -> Self:
        if self.data.ndim == "auto":
            return self
        for value in (self.data.patch_size, self.pretext.token_size):
            if isinstance(value, tuple) and len(value) != self.data.ndim:
                raise ValueError(
                    f"patch_size and token_size need {self.data.ndim} numbers, as data.ndim says"
                )
        return self

    @classmethod
    def from_dict(cls, fields: dict[str, Any]) -> Self:
        """Build from nested dictionaries, as YAML gives them.

        Raises
        ------
        ConfigError
            A key is unknown, missing, or its value out of range; the text names it.
        """
        return cls(**fields)

    @classmethod
    def from_yaml(cls, path: str | Path) -> Self:
        """Read a YAML file.

        Raises
        ------
        ConfigError
            The file is missing, no YAML, or no valid configuration.
        """
        return cls.from_dict(load_yaml(Path(path)))

    def to_dict(self) -> dict[str, Any]:
        """Return nested dictionaries of plain types, ready for YAML or JSON."""
        return self.model_dump(mode="json")

    def to_yaml(self) -> str:
        """Return the YAML text that :meth:`from_yaml` reads back to an equal model."""
        return dump_yaml(self.to_dict())
