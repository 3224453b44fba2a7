"""The networks and the training step of higan, written in plain PyTorch: the peer of networks.py.

Layers bear the names of the Keras ones, so that the weights can be copied and :func:`check` can show that both are
the same networks, trained by the same step.
"""

from __future__ import annotations

import contextlib
import copy
import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

SLOPE = 0.2
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


class Convolution(nn.Conv2d):
    """Periodic convolution.

    `F.pad` gives a tensor of the default memory format, which a convolution of channels_last weights converts back;
    joining slices keeps the format.
    """

    padding_by = "cat"

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if (width := self.kernel_size[0] // 2) == 0:
            return super().forward(x)
        if self.padding_by == "pad":
            return super().forward(F.pad(x, (width,) * 4, mode="circular"))
        x = torch.cat([x[:, :, -width:], x, x[:, :, :width]], dim=2)
        return super().forward(torch.cat([x[:, :, :, -width:], x, x[:, :, :, :width]], dim=3))


class Modulation(nn.Module):
    """FiLM."""

    def __init__(self, channels: int, embedding: int):
        super().__init__()
        self.dense = nn.Linear(embedding, 2 * channels)

    def forward(self, x: torch.Tensor, embedding: torch.Tensor) -> torch.Tensor:
        gamma, beta = self.dense(embedding)[:, :, None, None].chunk(2, dim=1)
        return x * (1.0 + gamma) + beta


def pixel_norm(x: torch.Tensor) -> torch.Tensor:
    return x * torch.rsqrt(x.square().mean(dim=1, keepdim=True) + 1e-6)


def activation(x: torch.Tensor) -> torch.Tensor:
    return F.leaky_relu(x, SLOPE)


class Embedding(nn.Module):
    def __init__(self, n_parameters: int, width: int):
        super().__init__()
        self.embed0, self.embed1 = nn.Linear(n_parameters, width), nn.Linear(width, width)

    def forward(self, parameters: torch.Tensor) -> torch.Tensor:
        return activation(self.embed1(activation(self.embed0(parameters))))


class Block(nn.Module):
    """Residual block: (norm, modulation, rectifier, convolution) twice, noise before the second rectifier."""

    def __init__(self, width: int, embedding: int, noise_channels: int):
        super().__init__()
        self.filma, self.conva = Modulation(width, embedding), Convolution(width, width, 3)
        self.filmb, self.convb = Modulation(width, embedding), Convolution(width, width, 3)
        if noise_channels:
            self.noise = Convolution(noise_channels, width, 1)
            self.noise_film = Modulation(width, embedding)

    def forward(self, x: torch.Tensor, embedding: torch.Tensor, noise: torch.Tensor | None = None) -> torch.Tensor:
        h = self.conva(activation(self.filma(pixel_norm(x), embedding)))
        h = self.filmb(pixel_norm(h), embedding)
        if noise is not None:
            h = h + self.noise_film(self.noise(noise), embedding)
        return x + self.convb(activation(h))


def in_float32(layer: nn.Module, x: torch.Tensor) -> torch.Tensor:
    with torch.autocast(DEVICE, enabled=False):
        return layer(x.float())


class Generator(nn.Module):
    """Residual U-Net: (fields, parameters, noise of each level) to maps."""

    def __init__(
        self, widths: Sequence[int], bottom_blocks: int, noise_channels: int, embedding: int, n_parameters: int
    ):
        super().__init__()
        self.generator = Embedding(n_parameters, embedding)
        self.stem = Convolution(1, widths[0], 3)
        self.levels = len(widths) - 1
        for level, (width, wider) in enumerate(itertools.pairwise(widths)):
            self.add_module(f"down{level}", Block(width, embedding, 0))
            self.add_module(f"widen{level}", Convolution(width, wider, 1))
            self.add_module(f"narrow{level}", Convolution(wider, width, 1))
            self.add_module(f"merge{level}", Convolution(2 * width, width, 3))
            self.add_module(f"up{level}", Block(width, embedding, noise_channels))
        self.bottoms = bottom_blocks
        for i in range(bottom_blocks):
            self.add_module(f"bottom{i}", Block(widths[-1], embedding, noise_channels))
        self.head = Convolution(widths[0], 1, 3)

    def forward(self, fields: torch.Tensor, parameters: torch.Tensor, *noise: torch.Tensor) -> torch.Tensor:
        part, embedding = self.get_submodule, self.generator(parameters)
        x, skips = self.stem(fields), []
        for level in range(self.levels):
            skips.append(part(f"down{level}")(x, embedding))
            x = part(f"widen{level}")(F.avg_pool2d(skips[-1], 2))
        for i in range(self.bottoms):
            x = part(f"bottom{i}")(x, embedding, noise[-1] if noise else None)
        for level in reversed(range(self.levels)):
            x = F.interpolate(part(f"narrow{level}")(x), scale_factor=2, mode="nearest")
            x = part(f"merge{level}")(torch.cat([x, skips[level]], dim=1))
            x = part(f"up{level}")(x, embedding, noise[level] if noise else None)
        return in_float32(self.head, activation(pixel_norm(x)))


class Discriminator(nn.Module):
    """Residual patch network with a head at every scale: (maps, fields, parameters) to a list of logits."""

    def __init__(self, widths: Sequence[int], embedding: int, n_parameters: int):
        super().__init__()
        self.discriminator = Embedding(n_parameters, embedding)
        self.d_stem = Convolution(2, widths[0], 3)
        self.levels = len(widths)
        for level, width in enumerate(widths):
            if level:
                self.add_module(f"d_widen{level}", Convolution(widths[level - 1], width, 1))
            self.add_module(f"d_conv{level}a", Convolution(width, width, 3))
            self.add_module(f"d_film{level}", Modulation(width, embedding))
            self.add_module(f"d_conv{level}b", Convolution(width, width, 3))
            self.add_module(f"d_head{level}", Convolution(width, 1, 1))

    def forward(self, maps: torch.Tensor, fields: torch.Tensor, parameters: torch.Tensor) -> list[torch.Tensor]:
        part, embedding = self.get_submodule, self.discriminator(parameters)
        x, logits = self.d_stem(torch.cat([maps, fields], dim=1)), []
        for level in range(self.levels):
            if level:
                x = part(f"d_widen{level}")(F.avg_pool2d(x, 2))
            h = part(f"d_film{level}")(part(f"d_conv{level}a")(activation(x)), embedding)
            x = x + part(f"d_conv{level}b")(activation(h))
            logits.append(in_float32(part(f"d_head{level}"), activation(x)))
        return logits


def copy_weights(network: nn.Module, keras_model: Any) -> None:
    """Take the weights of the Keras network, layer by layer; none may be left on either side."""
    theirs = {}
    for variable in keras_model.variables:
        layer, *_, kind = variable.path.split("/")
        theirs[layer, kind] = np.asarray(variable)
    for name, parameter in network.named_parameters():
        layer = name.removesuffix(".weight").removesuffix(".bias").replace(".dense", "").replace(".", "_")
        values = theirs.pop((layer, "kernel" if name.endswith(".weight") else "bias"))
        if values.ndim > 1:
            # Input and output channels come last in Keras, first in PyTorch.
            values = np.moveaxis(values, (-1, -2), (0, 1))
        if values.shape != tuple(parameter.shape):
            raise ValueError(f"{name} has shape {tuple(parameter.shape)}, in Keras {values.shape}")
        parameter.data.copy_(torch.tensor(values))
    if theirs:
        raise ValueError(f"the PyTorch network lacks {', '.join('/'.join(key) for key in theirs)}")


def channels_first(x: np.ndarray, memory_format: torch.memory_format = torch.contiguous_format) -> torch.Tensor:
    """(batch, y, x, channels) as PyTorch has it, on the device; other shapes as they are."""
    tensor = torch.from_numpy(x).to(DEVICE)
    return tensor.permute(0, 3, 1, 2).contiguous(memory_format=memory_format) if x.ndim == 4 else tensor


class Step:
    """higan's training step: relativistic objective, lazy R1 and R2, L1, Adam, averaged generator.

    Parameters
    ----------
    options : mapping
        pixel_weight, r1, r2, penalty_every, beta1: as in a recipe; lower, upper: bounds in scaled space.
    bfloat16 : bool
        Under autocast; weights and losses stay float32.
    compiled : bool
        Through torch.compile, but for the penalties: it does not differentiate twice.
    """

    def __init__(
        self,
        generator: nn.Module,
        discriminator: nn.Module,
        options: Mapping[str, float],
        *,
        bfloat16: bool = False,
        compiled: bool = False,
    ):
        self.generator, self.discriminator, self.options, self.bfloat16 = generator, discriminator, options, bfloat16
        self._generate, self._judge = (torch.compile(x) if compiled else x for x in (generator, discriminator))
        self.average = copy.deepcopy(generator).requires_grad_(False)
        self.adams = [
            torch.optim.Adam(network.parameters(), betas=(options["beta1"], 0.99), eps=1e-8, fused=True)
            for network in (generator, discriminator)
        ]

    def __call__(
        self, batch: Mapping[str, Any], step: int, rates: tuple[float, float], decay: float
    ) -> dict[str, torch.Tensor]:
        options = self.options
        maps, condition = batch["maps"], (batch["fields"], batch["parameters"])
        twice = [torch.cat([c, c]) for c in condition]
        weights = [list(network.parameters()) for network in (self.generator, self.discriminator)]
        losses = {}
        with torch.autocast(DEVICE, torch.bfloat16) if self.bfloat16 else contextlib.nullcontext():
            raw = self._generate(*condition, *batch["noise"])
            bound = raw.clamp(options["lower"], options["upper"])
            fake = raw + (bound - raw).detach()
            losses["drift"] = ((raw - bound.detach()).abs() - 1).clamp(min=0).square().mean()
            losses["pixel"] = (raw - maps).abs().mean()
            # Both losses come from one pass of the discriminator: the update is simultaneous.
            n = len(maps)
            pairs = [(x[:n], x[n:]) for x in self._judge(torch.cat([maps, fake]), *twice)]
            losses["generator"] = sum(F.softplus(r - f).mean() for r, f in pairs) / len(pairs)
            losses["discriminator"] = sum(F.softplus(f - r).mean() for r, f in pairs) / len(pairs)
            loss = losses["discriminator"]
            if step % options["penalty_every"] == 0:
                losses["r1"], losses["r2"] = self._penalties(torch.cat([maps, fake.detach()]), twice)
                penalty = 0.5 * options["r1"] * losses["r1"] + 0.5 * options["r2"] * losses["r2"]
                loss = loss + options["penalty_every"] * penalty
        total = losses["generator"] + options["pixel_weight"] * losses["pixel"] + losses["drift"]
        gradients = [
            torch.autograd.grad(total, weights[0], retain_graph=True),
            torch.autograd.grad(loss, weights[1]),
        ]
        for adam, rate, ours, found in zip(self.adams, rates, weights, gradients, strict=True):
            for parameter, gradient in zip(ours, found, strict=True):
                # The fused kernel walks through memory: a gradient of other strides would go to other weights.
                parameter.grad = torch.empty_like(parameter).copy_(gradient)
            adam.param_groups[0]["lr"] = rate
            adam.step()
        with torch.no_grad():
            torch._foreach_lerp_(list(self.average.parameters()), weights[0], 1.0 - decay)
        return {name: value.detach() for name, value in losses.items()}

    def _penalties(self, maps: torch.Tensor, condition: Sequence[torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
        maps.requires_grad_()
        logits = self.discriminator(maps, *condition)
        mean = sum(x.mean(dim=(1, 2, 3)) for x in logits) / len(logits)
        (gradient,) = torch.autograd.grad(mean.sum(), maps, create_graph=True)
        squares = gradient.float().square().sum(dim=(1, 2, 3)) * gradient[0, 0].numel()
        n = len(maps) // 2
        return squares[:n].mean(), squares[n:].mean()


def check(
    generators: tuple[nn.Module, Any], discriminators: tuple[nn.Module, Any], step: Any, batches: Sequence[Any]
) -> float:
    """Train PyTorch and Keras (`step`, a higan.adversarial.step.Step) on the same batches from the same weights.

    Returns the greatest relative difference between any two losses; the first steps hold every gradient. Raises
    ValueError where weights do not match one to one.
    """
    for network, model in (generators, discriminators):
        copy_weights(network, model)
        if sum(p.numel() for p in network.parameters()) != model.count_params():
            raise ValueError("the networks differ in size")
    config = step.config
    names = ("pixel_weight", "r1", "r2", "penalty_every")
    lower, upper = (float(config.outputs[0].bound(bound)) for bound in (-np.inf, np.inf))
    options = {name: getattr(config.losses, name) for name in names}
    options |= {"beta1": config.beta1, "lower": lower, "upper": upper}
    ours, state, worst = Step(generators[0], discriminators[0], options), step.initial_state(), 0.0
    for i, batch in enumerate(batches):
        found = ours(as_tensors(batch), i, (1e-3, 1e-3), 0.9)
        state, expected = step(state, batch, i, (1e-3, 1e-3), 0.9)
        for name, value in expected.items():
            expected_value = float(np.asarray(value))
            # What nothing drifted costs is 0.
            worst = max(worst, abs(float(found[name]) - expected_value) / max(abs(expected_value), 1e-9))
    return worst


def as_tensors(batch: Mapping[str, Any], memory_format: torch.memory_format = torch.contiguous_format) -> Any:
    """A batch of higan's as tensors."""
    tensors = {name: channels_first(batch[name], memory_format) for name in ("maps", "fields", "parameters")}
    return {**tensors, "noise": [channels_first(x, memory_format) for x in batch["noise"]]}
