"""The depthwise convolutions' own weight gradient, compared with PyTorch's."""

from __future__ import annotations

import itertools

import pytest
import torch
import torch.nn.functional as F
from timm.layers import Conv2dSame
from torch import nn

from trainables import convolutions
from trainables.backbones import age_net
from trainables.convolutions import plain_convolutions, speed_up_convolutions, weight_gradient

SIDES = [
    (size, kernel, stride, padding)
    for size, kernel, stride in itertools.product((1, 2, 3, 4, 7, 12), (2, 3, 4, 5, 7), (1, 2, 3))
    for padding in {0, 1, kernel // 2, kernel - 1}
    if size + 2 * padding >= kernel
]
"""Every way in which a part of a kernel can lie: beyond the picture, across its edge, inside it; and some strides."""


@pytest.mark.parametrize("kernel", [2, 3, 4, 5, 7])
def test_the_weight_gradient_is_pytorchs(kernel):
    draw = torch.Generator().manual_seed(kernel)
    sides = [side for side in SIDES if side[1] == kernel]
    for rows, columns in zip(sides, sides[7:] + sides[:7], strict=True):
        (height, _, down, above), (width, _, right, left) = rows, columns
        pixels = torch.randn(3, 5, height, width, generator=draw, dtype=torch.float64)
        weight = torch.randn(5, 1, kernel, kernel, generator=draw, dtype=torch.float64, requires_grad=True)
        stride, padding = (down, right), (above, left)
        answer = F.conv2d(pixels, weight, None, stride, padding, 1, 5)
        gradient = torch.randn(answer.shape, generator=draw, dtype=torch.float64)
        (expected,) = torch.autograd.grad(answer, weight, gradient)
        found = weight_gradient(gradient, pixels, weight.detach(), stride, padding)
        torch.testing.assert_close(found, expected, msg=lambda text, at=(rows, columns): f"{at}: {text}")


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("kind", [nn.Conv2d, Conv2dSame])
@pytest.mark.parametrize("size", [2, 9])
def test_a_depthwise_layer_learns_as_before(kind, size, bias, monkeypatch):
    torch.manual_seed(0)
    options = {} if kind is Conv2dSame else {"padding": 2}
    layers = nn.Sequential(nn.Conv2d(3, 6, 1), kind(6, 6, 5, stride=2, groups=6, bias=bias, **options))
    pixels = torch.randn(4, 3, size, size, requires_grad=True)

    def gradients():
        layers(pixels).square().sum().backward()
        found = [pixels.grad, *(parameter.grad for parameter in layers.parameters())]
        pixels.grad = None
        layers.zero_grad(set_to_none=True)
        return found

    before, names = gradients(), [name for name, _ in layers.named_parameters()]
    speed_up_convolutions(layers)
    assert [name for name, _ in layers.named_parameters()] == names
    asked = []
    own = weight_gradient
    monkeypatch.setattr(convolutions, "weight_gradient", lambda *a: asked.append(1) or own(*a))
    torch.testing.assert_close(gradients(), before)
    assert asked, "the layer did not take the fast way"


@pytest.mark.parametrize(("kernel", "stride", "padding"), [((1, 1), 1, 0), ((3, 3), 1, 1), ((3, 2), (2, 1), (1, 0))])
@pytest.mark.parametrize("size", [2, 3, 8])
@pytest.mark.parametrize("bias", [False, True])
def test_other_layers_learn_as_before(kernel, stride, padding, size, bias):
    torch.manual_seed(0)
    layer = nn.Conv2d(5, 7, kernel, stride, padding, bias=bias)
    pixels = torch.randn(4, 5, size, size + 1, requires_grad=True)

    def learned():
        answer = layer(pixels)
        answer.square().sum().backward()
        found = [answer.detach(), pixels.grad, *(parameter.grad for parameter in layer.parameters())]
        pixels.grad = None
        layer.zero_grad(set_to_none=True)
        return found

    before = learned()
    speed_up_convolutions(layer)
    assert type(layer) is not nn.Conv2d
    torch.testing.assert_close(learned(), before, rtol=1e-4, atol=1e-4)


def test_layers_of_other_kinds_are_left_alone():
    kept = nn.Sequential(
        nn.Conv2d(4, 4, 5, groups=2), nn.Conv2d(4, 8, 5, groups=4), nn.Conv2d(4, 4, 5, dilation=2),
        nn.Conv2d(4, 4, 5, groups=4, dilation=2), nn.Conv2d(4, 4, 5, padding="same"),
        nn.Conv2d(4, 4, 5, padding=2, padding_mode="reflect"),
    )  # fmt: skip
    speed_up_convolutions(kept)
    assert all(type(layer) is nn.Conv2d for layer in kept)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["efficientnet_b0", "efficientnet_lite0", "convnext_tiny", "resnet18", "alexnet"])
def test_a_network_answers_as_before_and_learns_the_same_but_for_rounding(name):
    def trained(change):
        torch.manual_seed(1)
        net = age_net(name, px=64)
        change(net)
        pixels = torch.randint(0, 255, (4, 3, 64, 64)).float()
        net.eval()
        with torch.no_grad():
            answer = net(pixels)
        net.train()
        torch.manual_seed(2)  # dropout
        net(pixels).square().mean().backward()
        return answer, {key: value.grad for key, value in net.named_parameters()}

    answer, gradients = trained(lambda net: None)
    expected, slow = trained(plain_convolutions)
    assert torch.equal(answer, expected)
    scale = max(float(each.abs().max()) for each in slow.values())
    torch.testing.assert_close(gradients, slow, rtol=1e-3, atol=1e-5 * scale)
