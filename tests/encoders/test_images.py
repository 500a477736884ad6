"""The two image networks of STG-MTL."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from polytask.architectures import HardSharing
from polytask.encoders import ResNet18, SmallCNN
from polytask.tasks import Binary, Task


def count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def test_small_cnn_has_the_published_number_of_parameters():
    tasks = [Task(f"class {i}", Binary()) for i in range(100)]
    model = HardSharing(encoder=SmallCNN(image_size=32, channels=3), tasks=tasks)
    assert count(model) == 472_612
    assert model(torch.zeros(2, 3, 32, 32))["class 99"].shape == (2, 1)


def test_resnet18_has_the_published_number_of_parameters():
    encoder = ResNet18()
    head = nn.Linear(encoder.output_size, 100, bias=False)
    assert count(encoder) + count(head) == 11_227_712


def test_resnet18_has_eighteen_weighted_layers_with_its_head():
    three_by_three = [
        m for m in ResNet18().modules() if isinstance(m, nn.Conv2d) and m.kernel_size != (1, 1)
    ]
    assert len(three_by_three) + 1 == 18


@pytest.mark.parametrize("stem", ["imagenet", "cifar"])
def test_resnet18_stems_and_width(stem):
    encoder = ResNet18(channels=1, width=4, stem=stem)
    for size in (8, 32, 33):
        assert encoder(torch.randn(2, 1, size, size)).shape == (2, 32)
    encoder.eval()
    image = torch.randn(1, 1, 32, 32)
    first = encoder.entry(image).shape[-1]
    assert first == (8 if stem == "imagenet" else 32)


@pytest.mark.parametrize(("size", "channels"), [(8, 1), ((8, 21), 2), (28, 1), (64, 3)])
def test_small_cnn_takes_other_images(size, channels):
    encoder = SmallCNN(image_size=size, channels=channels, output_size=16)
    height, width = (size, size) if isinstance(size, int) else size
    assert encoder(torch.randn(3, channels, height, width)).shape == (3, 16)


@pytest.mark.parametrize("size", [7, (32, 4)])
def test_small_cnn_refuses_small_images(size):
    with pytest.raises(ValueError, match="images of at least 8 x 8 pixels, found"):
        SmallCNN(image_size=size)


@pytest.mark.parametrize(
    ("encoder", "shape"),
    [
        (SmallCNN(image_size=8, channels=3), (2, 8, 8, 3)),
        (SmallCNN(image_size=8, channels=3), (2, 3, 9, 9)),
        (ResNet18(width=4), (2, 1, 8, 8)),
        (ResNet18(width=4), (3, 8, 8)),
    ],
)
def test_inputs_of_another_form_are_refused(encoder, shape):
    with pytest.raises(ValueError, match=r"expects images of shape \[B, 3, "):
        encoder(torch.zeros(shape))


def test_unknown_stem_is_refused():
    with pytest.raises(ValueError, match="`stem` must be 'imagenet' or 'cifar', found 'tiny'"):
        ResNet18(stem="tiny")


def test_dropout_of_small_cnn_acts_in_training_only():
    encoder = SmallCNN(image_size=8, channels=1, dropout=0.5)
    images = torch.randn(32, 1, 8, 8)
    encoder.train()
    assert not torch.equal(encoder(images), encoder(images))
    encoder.eval()
    assert torch.equal(encoder(images), encoder(images))


def test_channels_last_gives_the_same_features():
    encoder = ResNet18(channels=3, width=4, stem="cifar").eval()
    images = torch.randn(2, 3, 8, 8)
    expected = encoder(images)
    encoder.to(memory_format=torch.channels_last)
    found = encoder(images.contiguous(memory_format=torch.channels_last))
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
