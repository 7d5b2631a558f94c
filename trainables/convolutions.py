"""Convolutions that train faster on a processor than PyTorch's own, with the same gradients but for rounding.

Depthwise ones: oneDNN, which PyTorch uses on a processor, has a fast kernel for the gradient of a depthwise
convolution's weight, but only for kernels of at most three columns on pictures that are not smaller than the kernel.
Otherwise it falls back to its kernel for groups of any size, in which an EfficientNet at 64 px spends a third of a step
(5x5 kernels on pictures of 2x2). The columns of a kernel's gradient do not depend on each other, so it is computed
three columns at a time, on a picture that is padded beforehand.

Pointwise ones (1x1), and others whose output is 3x3 or smaller (the last stage of a ResNet at 64 px), are faster as a
matrix product.

Found with ONEDNN_VERBOSE=1 on an AVX-512 processor, with PyTorch 2.14; figures: docs/lopo.md. On a GPU, in eval mode
and in bfloat16 nothing is changed.
"""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from timm.layers import Conv2dSame, pad_same
from torch import Tensor, nn

COLUMNS = 3
"""The widest kernel of oneDNN's fast weight gradient."""

SMALL = 9
"""Pixels of an output up to which a matrix product is faster than oneDNN's convolution, kernels of 3x3 or more."""


def speed_up_convolutions(net: nn.Module) -> None:
    """Make the net's convolutions fast where they can be, in place. Names and weights stay as they are."""
    for module in net.modules():
        kind = _kind(module)
        if kind is not None:
            module.__class__ = kind


def plain_convolutions(net: nn.Module) -> None:
    """Give the net PyTorch's own convolutions again, in place: to compare with."""
    for module in net.modules():
        if type(module) in (_Pointwise, _Dense, _Depthwise, _DepthwiseSame):
            module.__class__ = Conv2dSame if isinstance(module, Conv2dSame) else nn.Conv2d


def _kind(module: nn.Module) -> type[nn.Conv2d] | None:
    """The fast class for a module, if there is one."""
    if type(module) not in (nn.Conv2d, Conv2dSame):
        return None
    assert isinstance(module, nn.Conv2d)
    if module.dilation != (1, 1) or module.padding_mode != "zeros" or isinstance(module.padding, str):
        return None
    if module.groups == module.in_channels == module.out_channels > 1:
        return _DepthwiseSame if isinstance(module, Conv2dSame) else _Depthwise
    if module.groups > 1 or isinstance(module, Conv2dSame):
        return None
    one = module.kernel_size == module.stride == (1, 1) and module.padding == (0, 0)
    return _Pointwise if one else _Dense


def _applies(module: nn.Module, input: Tensor) -> bool:
    on_processor = input.device.type == "cpu" and input.dtype == torch.float32
    return module.training and on_processor and not torch.is_autocast_enabled("cpu")


def _numbers(padding: str | tuple[int, ...]) -> tuple[int, int]:
    """A convolution's padding, which is never a name here (see _kind)."""
    assert not isinstance(padding, str)
    above, left = padding
    return above, left


class _Pointwise(nn.Conv2d):
    def forward(self, input: Float[Tensor, "n c h w"]) -> Float[Tensor, "n d h w"]:
        if not _applies(self, input):
            return super().forward(input)
        # with the channels last, which is how they lie in memory, nothing is copied
        return F.linear(input.permute(0, 2, 3, 1), self.weight.flatten(1), self.bias).permute(0, 3, 1, 2)


class _Dense(nn.Conv2d):
    def forward(self, input: Float[Tensor, "n c h w"]) -> Float[Tensor, "n d i j"]:
        if not (_applies(self, input) and math.prod(self._sides(input)) <= SMALL):
            return super().forward(input)
        (rows, columns), (down, right), (above, left) = self.kernel_size, self.stride, _numbers(self.padding)
        padded = F.pad(input.permute(0, 2, 3, 1), (0, 0, left, left, above, above))
        seen = padded.unfold(1, rows, down).unfold(2, columns, right).permute(0, 1, 2, 4, 5, 3).flatten(3)
        return F.linear(seen, self.weight.permute(0, 2, 3, 1).flatten(1), self.bias).permute(0, 3, 1, 2)

    def _sides(self, input: Tensor) -> list[int]:
        sides = zip(input.shape[2:], self.kernel_size, self.stride, _numbers(self.padding), strict=True)
        return [(size + 2 * padding - kernel) // stride + 1 for size, kernel, stride, padding in sides]


class _Depthwise(nn.Conv2d):
    def forward(self, input: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c i j"]:
        if not (_applies(self, input) and _is_slow(input, self.weight)):
            return super().forward(input)
        return _Convolution.apply(input, self.weight, self.bias, self.stride, _numbers(self.padding))


class _DepthwiseSame(Conv2dSame):
    """With TensorFlow's padding, which depends on the picture's size."""

    def forward(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c i j"]:
        if _applies(self, x):
            padded = pad_same(x, list(self.kernel_size), list(self.stride), list(self.dilation))
            if _is_slow(padded, self.weight):
                return _Convolution.apply(padded, self.weight, self.bias, self.stride, (0, 0))
        return super().forward(x)


def _is_slow(input: Tensor, weight: Tensor) -> bool:
    """Whether oneDNN's fast weight gradient does not take these."""
    return weight.shape[3] > COLUMNS or input.shape[2] < weight.shape[2] or input.shape[3] < weight.shape[3]


class _Convolution(torch.autograd.Function):
    """A depthwise convolution with weight_gradient() below."""

    @staticmethod
    def forward(
        ctx: Any, input: Tensor, weight: Tensor, bias: Tensor | None, stride: tuple[int, int], padding: tuple[int, int]
    ) -> Tensor:
        ctx.save_for_backward(input, weight)
        ctx.stride, ctx.padding = stride, padding
        return F.conv2d(input, weight, bias, stride, padding, 1, len(weight))

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None, None, None]:
        (gradient,), (input, weight) = gradients, ctx.saved_tensors
        of_input = of_weight = of_bias = None
        if ctx.needs_input_grad[0]:
            of_input = _backward(gradient, input, weight, ctx.stride, ctx.padding, of="input")
        if ctx.needs_input_grad[1]:
            of_weight = weight_gradient(gradient, input, weight, ctx.stride, ctx.padding)
        if ctx.needs_input_grad[2]:
            of_bias = gradient.sum(dim=(0, 2, 3))
        return of_input, of_weight, of_bias, None, None


def weight_gradient(
    gradient: Float[Tensor, "n c i j"],
    input: Float[Tensor, "n c h w"],
    weight: Float[Tensor, "c 1 k l"],
    stride: tuple[int, int],
    padding: tuple[int, int],
) -> Float[Tensor, "c 1 k l"]:
    """The gradient of a depthwise convolution's weight, by that of its output."""
    found = torch.zeros_like(weight)
    (height, wide), (out_height, out_wide), (kernel, columns) = input.shape[2:], gradient.shape[2:], weight.shape[2:]
    top, bottom = _seen(height, out_height, kernel, stride[0], padding[0])
    left, right = _seen(wide, out_wide, columns, stride[1], padding[1])
    # oneDNN itself pads the rows of a whole kernel, if the picture has as many: less to copy
    itself = height >= kernel and (top, bottom) == (0, kernel)
    for start in range(left, right, COLUMNS):
        end = min(start + COLUMNS, right)
        pads = _pads(wide, out_wide, start, end, stride[1], padding[1])
        if not itself:
            pads += _pads(height, out_height, top, bottom, stride[0], padding[0])
        part = weight[..., top:bottom, start:end].contiguous()
        around = (padding[0] if itself else 0, 0)
        found[..., top:bottom, start:end] = _backward(gradient, F.pad(input, pads), part, stride, around, of="weight")
    return found


def _seen(size: int, out: int, kernel: int, stride: int, padding: int) -> tuple[int, int]:
    """First and last + 1 of the kernel's rows (or columns) that ever see the picture, and not only its padding."""
    return max(0, padding - (out - 1) * stride), min(kernel, padding + size)


def _pads(size: int, out: int, start: int, end: int, stride: int, padding: int) -> tuple[int, ...]:
    """By how much both ends of a side must be padded (negative: cut) for rows `start` to `end` of the kernel."""
    before = padding - start
    return before, (out - 1) * stride + end - start - size - before


def _backward(
    gradient: Tensor, input: Tensor, weight: Tensor, stride: tuple[int, int], padding: tuple[int, int], *, of: str
) -> Tensor:
    wanted = [of == "input", of == "weight", False]
    found = torch.ops.aten.convolution_backward(
        gradient, input, weight, None, stride, padding, (1, 1), False, (0, 0), len(weight), wanted
    )
    return found[0 if of == "input" else 1]
