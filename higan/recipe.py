"""Recipes: one TOML file says everything about a training, and validated models say what it may hold."""

from __future__ import annotations

import difflib
import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, PositiveInt, ValidationError, field_validator, model_validator

from higan.errors import RecipeError
from higan.networks.config import DiscriminatorConfig, GeneratorConfig
from higan.scaling import named


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ScalingConfig(_Table):
    """How a field is scaled (:mod:`higan.scaling`): a name, physical bounds, and what the scaling itself needs."""

    name: str = "linear"
    lower: float | None = None
    upper: float | None = None
    gap: float | None = None
    floor: float | None = None
    softening: float | None = None
    power: float | None = None

    @field_validator("name")
    @classmethod
    def _known(cls, name: str) -> str:
        try:
            return named(name).name
        except RecipeError as error:
            raise ValueError(str(error).rstrip(".")) from error


class DrawnConfig(_Table):
    """The input that the emulator may draw by itself: the matter overdensity of periodic boxes (:mod:`higan.matter`).

    The map set's cosmology and parameters say which universe it is of.

    Attributes
    ----------
    field : str
        The only input.
    coarse : bool
        As of :func:`higan.matter.draw_density`.
    """

    field: str
    coarse: bool = False


class DataConfig(_Table):
    """Where the maps come from and which are which.

    Attributes
    ----------
    source : str or table
        The path of a map set, or a table with a `kind` that :mod:`higan.sources` knows.
    inputs, outputs : list of str
        Fields. Without inputs maps are drawn from noise and parameters alone.
    parameters : list of str, optional
        Those the networks see; all of the set's where not given.
    magnitude : str, optional
        The parameter that is the magnitude of the sum over an output map, as of a galaxy's stamp. The networks are then
        trained on maps of unit flux, whatever their magnitude, and painted maps have exactly the flux that is asked
        for (:mod:`higan.photometry`).
    even : str, optional
        A parameter whose range the networks are to see evenly: maps of its rare values, as bright galaxies are, come
        several times in an epoch. What maps are like at given parameters stays what it is. With `maps_per_simulation`
        1 alone.
    drawn : table, optional
        The input that need not be given where maps are painted (:class:`DrawnConfig`).
    symmetries : list of {"roll", "rotate", "reflect"}
        Of the box, used for augmentation.
    fractions : [float, float, float]
        Training, validation and test shares of the simulations, where the set brings no split of its own.
    simulations : int, optional
        Train on the first so many training simulations only.
    simulate : table, optional
        Makes `source` first if it is not there: `simulator`, what it takes, and `thickness_cells` for slabs.
    """

    source: str | dict[str, Any]
    inputs: list[str]
    outputs: list[str] = Field(min_length=1)
    parameters: list[str] | None = None
    magnitude: str | None = None
    even: str | None = None
    drawn: DrawnConfig | None = None
    symmetries: list[Literal["roll", "rotate", "reflect"]] = []
    fractions: tuple[float, float, float] = (0.8, 0.1, 0.1)
    simulations: int | None = Field(default=None, ge=1)
    simulate: dict[str, Any] | None = None

    @model_validator(mode="after")
    def _once(self) -> DataConfig:
        for what in ("inputs", "outputs", "parameters"):
            names = getattr(self, what) or []
            twice = next((name for name in names if names.count(name) > 1), None)
            if twice is not None:
                raise ValueError(f"{what} names {twice!r} twice")
        if self.drawn is not None and self.inputs != [self.drawn.field]:
            raise ValueError(f"drawn.field is {self.drawn.field!r}, which is not the only input")
        return self


class ObjectiveConfig(_Table):
    """What is minimised (:mod:`higan.adversarial.objectives`).

    Attributes
    ----------
    name : str
        An adversarial objective, or "none" for a generator trained alone.
    pixel : {"l1", "l2", "crps"}
        Mean absolute or squared difference, or the continuous ranked probability score of two realisations, which lets
        realisations differ as much as they miss the truth (:func:`higan.adversarial.objectives.crps`).
    pixel_weight : float
    pixel_weight_final : float, optional
        Where given, the weight falls to it over the training: the pixel loss teaches the large scales soonest, the
        adversary has the last word on the small ones.
    pixel_scales : list of int
        Sides of the blocks of cells whose means the pixel loss compares; a mean is of physical values, and scaled as
        these are. 1 stands for cells; larger ones hold the generator to how bright cells gather.
    extreme_scales : list of int
        Sides of the blocks of cells whose brightest and faintest cell the pixel loss compares, too, each weighing as a
        mean does. Cells that are right one by one, but drawn each for itself, leave few blocks empty as a whole, and
        fray what has an edge.
    margin : float
        Cells that lie on a physical bound are aimed at so far beyond it by the pixel loss, in scaled space (standard
        deviations): what the noise does to an empty cell then stays out of sight. Whatever lies more than 1 beyond, or
        the margin where that is more, costs the square of it.
    spectral_weight : float
        Of the loss on the power spectrum, taken over the maps of each simulation in the batch.
    spectral : {"ratio", "crps"}
        What is taken of it: |R - 1| (:func:`higan.adversarial.spectrum.spectral_loss`), or, with `pixel` "crps", the
        CRPS of two realisations' (:func:`higan.adversarial.spectrum.spectral_crps`), for fields whose power a few cells
        decide.
    spectral_fields : list of {"physical", "scaled"}
        The fields whose power that is.
    spectral_by_axis : bool
        Take the power along each axis for itself. Networks start with directions of their own, which in three
        dimensions no other loss takes from them in a short training.
    spectral_floor : float
        With "crps", the share of the mean power below which a map's power counts little.
    spectral_slope_weight : float
        With "crps", of the differences of ln P between neighbouring bins of k, beside ln P: for maps whose power
        scatters widely, but in all bins together, as that of stamps of concentrated and diffuse galaxies does.
    mean_power_weight : float
        Of a loss on R(k) of running means of generated and true power, and on their mean squares at k = 0, of the same
        fields: where the power of single maps scatters widely, only the mean of many can say whether it is right.
    mode_weight : float
        Of the energy score of two realisations' Fourier modes, of the same fields, each scale weighing the same
        (:func:`higan.adversarial.spectrum.mode_score`), with `pixel` "crps".
    spread_weight : float
        Of a loss on how much two realisations' Fourier modes differ over how much they miss the truth, of the same
        fields (:func:`higan.adversarial.spectrum.spread_loss`), with `pixel` "crps".
    modes_by_octave : bool
        Let `mode_weight`, `spread_weight` and `mean_power_weight` weigh octaves of k alike, in place of bins: for
        fields whose largest scales would be learnt last.
    octave_weight : float
        Of the CRPS of two realisations' octaves of scale, cell by cell (:func:`higan.adversarial.octaves.octave_crps`),
        with `pixel` "crps".
    one_point_weight : float
        Of the CRPS of two realisations' one-point distributions, map by map
        (:func:`higan.adversarial.one_point.one_point_crps`), with `pixel` "crps".
    tail_weight : float
        Of the CRPS of the logarithms of the numbers of cells beyond levels up to 8 standard deviations out
        (:func:`higan.adversarial.one_point.tail_crps`), with `pixel` "crps": for fields whose power a few cells decide.
    one_point_scales : list of int
        Sides of the blocks of cells whose means these two are of, like `pixel_scales`, each weighing alike: larger ones
        hold the generator to how skewed the field is on large scales, and to how its brightest cells gather, of which
        Fourier modes, one by one, say nothing.
    one_point_lags : list of int
        Let these two be of pairs of cells, too: of the fainter of each cell and the brightest of those so many cells
        from it along the axes, and of the brighter of each cell and the faintest of them
        (:func:`higan.adversarial.one_point.peaks_and_holes`), each weighing as one more of the blocks. The power of a
        field of a few bright cells is how often they lie beside each other, and how often at some distance, its
        topology how many cells are peaks or holes among others; neither cells alone nor means of blocks say that.
    statistics_weight : float
        Of the score of a map's statistics, those of shape where stamps have a flux_radius, along the directions in
        which they vary independently (:class:`higan.adversarial.statistics.Statistics`); with `pixel` "crps". A
        training that begins far from the truth is deaf to all else at first.
    half_light_weight : float
        Of the error of the half-light radii of stamps, where the parameter flux_radius says what they are to be
        (:func:`higan.adversarial.half_light.half_light_error`).
    shape_weight : float
        Of the energy score of the shapes of stamps, all their numbers together
        (:func:`higan.adversarial.shapes.shape_score`), with `pixel` "crps" and the parameter flux_radius.
    r1, r2 : float
        γ of the zero-centred gradient penalties.
    gradient_penalty : float
        λ of "wgan-gp".
    penalty_every : int
        Steps between penalties.
    """

    name: str = "relativistic"
    pixel: Literal["l1", "l2", "crps"] = "l1"
    pixel_weight: float = Field(default=0.5, ge=0)
    pixel_weight_final: float | None = Field(default=None, ge=0)
    pixel_scales: list[PositiveInt] = Field(default=[1], min_length=1)
    extreme_scales: list[Annotated[int, Field(ge=2)]] = Field(default=[])
    margin: float = Field(default=0.0, ge=0)
    spectral_weight: float = Field(default=0.0, ge=0)
    spectral: Literal["ratio", "crps"] = "ratio"
    spectral_fields: list[Literal["physical", "scaled"]] = Field(default=["physical"], min_length=1)
    spectral_by_axis: bool = False
    spectral_floor: float = Field(default=0.1, gt=0)
    spectral_slope_weight: float = Field(default=0.0, ge=0)
    mean_power_weight: float = Field(default=0.0, ge=0)
    mode_weight: float = Field(default=0.0, ge=0)
    spread_weight: float = Field(default=0.0, ge=0)
    modes_by_octave: bool = False
    octave_weight: float = Field(default=0.0, ge=0)
    one_point_weight: float = Field(default=0.0, ge=0)
    tail_weight: float = Field(default=0.0, ge=0)
    one_point_scales: list[PositiveInt] = Field(default=[1], min_length=1)
    one_point_lags: list[PositiveInt] = Field(default=[])
    statistics_weight: float = Field(default=0.0, ge=0)
    half_light_weight: float = Field(default=0.0, ge=0)
    shape_weight: float = Field(default=0.0, ge=0)
    r1: float = Field(default=0.02, ge=0)
    r2: float = Field(default=0.02, ge=0)
    gradient_penalty: float = Field(default=10.0, ge=0)
    penalty_every: int = Field(default=4, ge=1)

    @property
    def realisations(self) -> int:
        """Generated of each map: "crps" compares two."""
        return 2 if self.pixel == "crps" else 1

    @model_validator(mode="after")
    def _known(self) -> ObjectiveConfig:
        # Only names here: the functions import Keras.
        known = ("minimax", "nonsaturating", "lsgan", "hinge", "wgan-gp", "relativistic", "none")
        if self.name not in known:
            raise ValueError(f"there is no objective {self.name!r}; choose one of {', '.join(known)}")
        if self.name == "none" and self.pixel_weight == 0:
            raise ValueError("without an adversary pixel_weight must be positive")
        if self.spectral == "crps" and self.pixel != "crps":
            raise ValueError("spectral 'crps' takes the two realisations that only pixel = 'crps' makes")
        for name in ("spectral_floor", "spectral_slope_weight"):
            if self.spectral != "crps" and getattr(self, name) != type(self).model_fields[name].default:
                raise ValueError(f"{name} is a matter of spectral = 'crps' alone")
        for name in ("one_point_scales", "one_point_lags"):
            given = getattr(self, name) != type(self).model_fields[name].default
            if given and not (self.one_point_weight or self.tail_weight):
                raise ValueError(f"{name} are those of one_point_weight and tail_weight: give one, or leave {name} out")
        if self.modes_by_octave and not (self.mode_weight or self.spread_weight or self.mean_power_weight):
            raise ValueError(
                "modes_by_octave is a matter of mode_weight, spread_weight and mean_power_weight: give one, or leave "
                "modes_by_octave out"
            )
        scores = ("mode", "spread", "octave", "one_point", "tail", "shape", "statistics")
        for name in (f"{score}_weight" for score in scores):
            if getattr(self, name) and self.pixel != "crps":
                raise ValueError(f"{name} takes the two realisations that only pixel = 'crps' makes")
        return self


class ObservationConfig(_Table):
    """How the discriminator sees maps, true and generated alike; painted maps are as they were before.

    What a telescope cannot see the generator then need not get right (Lanusse et al. 2021, 2008.03833, section 3.2).

    Attributes
    ----------
    psf : {"acs"}, optional
        A point-spread function for stamps in pixels of 0.03" (:func:`higan.photometry.acs_kernel`).
    noise : float
        Standard deviation of Gaussian noise in a cell, in the output's unit.
    """

    psf: Literal["acs"] | None = None
    noise: float = Field(default=0.0, ge=0)


class TrainingConfig(_Table):
    """How long and how fast.

    Attributes
    ----------
    maps : int
        Maps seen in all.
    initial : str, optional
        The folder of another run, whose networks (and scalings) this training starts from: crops first, then whole
        boxes; many cheap simulations first, then a few dear ones. Or a checkpoint, a folder or the name of a shipped
        one, of the same fields, units and parameters with the same ranges: its generator is trained on, beside a
        discriminator that starts anew. Either way the generator may be given `interpolated`, `tracing`, `gated`,
        `cellwise`, `exclusion`, `top_hats` or `stochastic_barrier` that it had not.
    batch_size : int
    maps_per_simulation : int
        Maps of each simulation in a batch.
    crop, context : int
        Train on random cubes of side `crop` instead of whole maps, painted with `context` more cells on every side, as
        tiles are; both are multiples of the generator's stride. Maps have to hold that and what the largest of
        `generator.top_hats` reaches around it.
    learning_rate : float
    discriminator_learning_rate : float, optional
        That of the generator where not given.
    schedule : {"cosine", "constant"}
    warmup_maps : int
        Maps over which the rates rise from zero.
    beta1 : float
        Of Adam.
    average_half_life : int
        Half-life in maps of the generator's moving average; shorter at first (Karras et al. 2022, 2206.00364, app. F).
    precision : {"float32", "mixed_bfloat16"}
        Of the networks while training; weights, their gradients and moments, losses, penalties, statistics of maps and
        the averaged generator are float32 in both. CPUs that would emulate bfloat16 train in float32.
    accumulate : int
        Parts of a batch that the networks see one after another, where it does not fit into memory at once; what is
        trained stays the same, and takes about a fifth longer.
    xla : bool
        Compile with XLA on TensorFlow, on one device; JAX always does.
    tick_maps : int
        Maps between validations; the state is saved as often.
    quantile_maps : int
        Training maps that are painted at the end, to map the quantiles of painted cells to the true ones
        (:mod:`higan.quantile_mapping`): for fields whose sum and power a few cells decide. None where 0. Where these
        maps are of five simulations for each term of a polynomial in the parameters, quantiles go with the parameters:
        linearly, or, of 75 simulations for four parameters, as a quadratic function.
    """

    maps: int = Field(ge=1)
    initial: str | None = None
    batch_size: int = Field(default=16, ge=1)
    maps_per_simulation: int = Field(default=1, ge=1)
    crop: int | None = Field(default=None, ge=1)
    context: int = Field(default=0, ge=0)
    learning_rate: float = Field(default=1e-3, gt=0)
    discriminator_learning_rate: float | None = Field(default=None, gt=0)
    schedule: Literal["cosine", "constant"] = "cosine"
    warmup_maps: int = Field(default=3000, ge=0)
    beta1: float = Field(default=0.5, ge=0, lt=1)
    average_half_life: int = Field(default=5000, ge=1)
    precision: Literal["float32", "mixed_bfloat16"] = "float32"
    accumulate: int = Field(default=1, ge=1)
    xla: bool = False
    tick_maps: int = Field(default=5000, ge=1)
    quantile_maps: int = Field(default=0, ge=0)

    @model_validator(mode="after")
    def _whole_groups(self) -> TrainingConfig:
        if self.batch_size % self.maps_per_simulation:
            raise ValueError(
                f"batch_size is {self.batch_size}, which is no multiple of maps_per_simulation, "
                f"{self.maps_per_simulation}"
            )
        return self


class ValidationConfig(_Table):
    """What is watched while training.

    Attributes
    ----------
    select : str
        The statistic whose least value chooses the checkpoint that is kept; "mean_abs_R_minus_1_log" is of the
        logarithm, of fields that span decades. "last" keeps the last, which is wise where validation maps are too few
        to tell.
    maps_per_simulation : int
        Validation maps of each simulation, evenly spread.
    """

    select: Literal["mean_abs_R_minus_1", "max_abs_R_minus_1", "mean_abs_R_minus_1_log", "D", "rmse", "last"] = (
        "mean_abs_R_minus_1"
    )
    maps_per_simulation: int = Field(default=48, ge=1)


class TrackingConfig(_Table):
    """Where metrics go besides the JSON lines: wandb (no account is needed offline) and TensorBoard."""

    wandb: Literal["offline", "online", "off"] = "offline"
    project: str = "higan"
    tensorboard: bool = False


class CardConfig(_Table):
    """What the checkpoint's card says that no program can know."""

    description: str = ""
    licence: str = "MIT"
    citation: str = ""


class Recipe(_Table):
    """A training, whole.

    Examples
    --------
    >>> recipe = Recipe(
    ...     name="tiny",
    ...     data={"source": "maps.h5", "inputs": ["density"], "outputs": ["brightness_temp"]},
    ...     training={"maps": 1000},
    ... )
    >>> recipe.objective.name
    'relativistic'
    """

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    version: str = "1"
    seed: int = Field(default=1, ge=0, lt=2**63)
    data: DataConfig
    scaling: dict[str, ScalingConfig] = {}
    generator: GeneratorConfig = GeneratorConfig()
    discriminator: DiscriminatorConfig = DiscriminatorConfig()
    objective: ObjectiveConfig = ObjectiveConfig()
    observation: ObservationConfig = ObservationConfig()
    training: TrainingConfig
    validation: ValidationConfig = ValidationConfig()
    tracking: TrackingConfig = TrackingConfig()
    card: CardConfig = CardConfig()

    @model_validator(mode="after")
    def _fields_exist(self) -> Recipe:
        fields = self.data.inputs + self.data.outputs
        for name in self.scaling:
            if name not in fields:
                raise ValueError(
                    f"[scaling.{name}] is of no field in data.inputs or data.outputs ({', '.join(fields)})"
                )
        stride = self.generator.stride
        for name, cells in (("crop", self.training.crop or 0), ("context", self.training.context)):
            if cells % stride:
                raise ValueError(
                    f"training.{name} is {cells}, which is no multiple of the generator's stride, {stride}"
                )
        if self.training.context and self.training.crop is None:
            raise ValueError("training.context is around crops: it needs training.crop")
        if self.generator.centred and (self.training.crop is not None or "roll" in self.data.symmetries):
            raise ValueError("generator.centred maps have a middle: leave out training.crop and the symmetry 'roll'")
        if self.objective.shape_weight and not self.generator.centred:
            raise ValueError("objective.shape_weight is of stamps about their middle: it needs generator.centred")
        if self.training.quantile_maps and self.data.magnitude is not None:
            raise ValueError("training.quantile_maps is of cells of their own, not of maps with a data.magnitude")
        if self.generator.profiles and self.data.magnitude is None:
            raise ValueError(
                "generator.profiles are shares of a galaxy's light: data.magnitude has to name the parameter that says "
                "how much that is"
            )
        if self.data.inputs and self.generator.network == "profiles":
            raise ValueError("generator.network 'profiles' sees parameters alone: leave out data.inputs")
        for name in ("tracing", "top_hats", "diffuse"):
            if not self.data.inputs and getattr(self.generator, name):
                raise ValueError(f"generator.{name} follows data.inputs, of which there are none: leave it out")
        if self.generator.excursion_set and len(self.data.inputs) != 1:
            raise ValueError("generator.excursion_set smooths one field: give data.inputs one, or leave it out")
        for option in (option for option in ("spilled", "diffuse") if getattr(self.generator, option)):
            for name in self.data.outputs:
                if name not in self.scaling or self.scaling[name].lower is None:
                    raise ValueError(
                        f"generator.{option} is of amounts, what is above a lower bound, and {name} has none: give it "
                        f"a lower bound under scaling, or leave {option} out"
                    )
        if not self.data.inputs and self.generator.network == "unet" and not self.generator.noise_channels:
            raise ValueError("without data.inputs maps are drawn from noise: it needs generator.noise_channels above 0")
        if self.objective.pixel == "crps" and not self.generator.random:
            raise ValueError(
                "objective.pixel 'crps' compares realisations: it needs generator.noise_channels or generator.latent "
                "above 0"
            )
        return self


def load_recipe(path: str | Path) -> Recipe:
    """Read and validate a recipe.

    Raises
    ------
    RecipeError
        If the file is missing, is not TOML, or holds an unknown key or a bad value; the first one is named, with the
        nearest key there is.
    """
    path = Path(path)
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise RecipeError(f"{path} cannot be read ({error.strerror}). Give the path of a recipe (TOML).") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise RecipeError(f"{path} is not valid TOML: {error}.") from error
    return validate_recipe(values, str(path))


def validate_recipe(values: dict[str, Any], name: str = "the recipe") -> Recipe:
    """A recipe of nested dictionaries, as TOML gives them; RecipeError as :func:`load_recipe`."""
    try:
        return Recipe.model_validate(values)
    except ValidationError as error:
        # Unknown keys come first: a misspelt one often causes the rest.
        details = sorted(error.errors(), key=lambda item: item["type"] != "extra_forbidden")
        raise RecipeError(f"{name}: {_sentence(details[0], len(details) - 1)}") from error


def _sentence(detail: Any, more: int) -> str:
    where = [str(part) for part in detail["loc"]]
    others = f" ({more} more to mend after that)" if more else ""
    if detail["type"] == "extra_forbidden":
        known = _known_keys(where[:-1])
        near = difflib.get_close_matches(where[-1], known, n=1, cutoff=0.5)
        hint = f"did you mean {near[0]!r}?" if near else f"known here: {', '.join(known)}."
        return f"unknown key {'.'.join(where)!r}; {hint}{others}"
    message = detail["msg"].removeprefix("Value error, ")
    place = f"{'.'.join(where)}: " if where else ""
    received = "" if detail["type"] in ("missing", "value_error") else f" Received {detail['input']!r}."
    return f"{place}{message[:1].lower() + message[1:]}.{received}{others}"


def _known_keys(where: list[str]) -> list[str]:
    model: Any = Recipe
    for part in where:
        if model is Recipe and part == "scaling":
            return _known_keys([]) if len(where) == 1 else sorted(ScalingConfig.model_fields)
        annotation = model.model_fields[part].annotation
        # An optional part is a model, or None.
        model = next(kind for kind in (*get_args(annotation), annotation) if hasattr(kind, "model_fields"))
    return sorted(model.model_fields)
