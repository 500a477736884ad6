"""ResNet-18 for images, as used by STG-MTL."""

from __future__ import annotations

from torch import Tensor, nn

from polytask.encoders.base import Encoder, check_positive

# C channels of a stage, H and W of an image


class ResNet18(Encoder):
    """Eighteen-layer residual network without its final classifier.

    Four stages of two basic blocks, y = ReLU(F(x) + s(x)), F = conv 3x3, batch norm, ReLU, conv
    3x3, batch norm; s is the identity or, where the shape changes, a strided 1x1 convolution and
    batch norm. The features are the mean over the last map. With `stem="imagenet"`, `width=64` and
    a bias-free 100-way head the network has the 11,227,712 parameters that STG-MTL publishes (the
    "cifar" stem gives 11,220,032).

    Args:
        channels: channels of the images, 3 for colour.
        width: channels of the first stage; later stages have 2, 4 and 8 times as many
            (64, the original; 8 gives a small network of about 177 thousand parameters).
        stem: "imagenet", a strided 7x7 convolution and max-pooling (the original), or "cifar", a
            3x3 convolution that keeps the resolution of small images.

    Shapes: inputs [B, channels, H, W] of any H and W; features [B, 8 * width].

    Raises:
        ValueError: an argument out of its range, or inputs that are not images with these channels.

    Cost: about 37 million multiplications for a 32 x 32 image with the "imagenet" stem, 560 million
        with the "cifar" stem (width 64).

    Example:
        >>> import torch
        >>> encoder = ResNet18(channels=1, width=4, stem="cifar")
        >>> encoder(torch.zeros(2, 1, 8, 8)).shape
        torch.Size([2, 32])

    References:
        K. He, X. Zhang, S. Ren, J. Sun, Deep Residual Learning for Image Recognition, CVPR 2016,
        https://arxiv.org/abs/1512.03385, table 1 (18-layer) and section 4.2 (small images).
    """

    def __init__(self, *, channels: int = 3, width: int = 64, stem: str = "imagenet") -> None:
        super().__init__()
        self.channels = check_positive("channels", channels)
        self.width = check_positive("width", width)
        if stem not in ("imagenet", "cifar"):
            raise ValueError(f"`stem` must be 'imagenet' or 'cifar', found {stem!r}.")
        self.stem = stem
        self.output_size = 8 * width
        if stem == "imagenet":
            first: list[nn.Module] = [
                nn.Conv2d(channels, width, 7, stride=2, padding=3, bias=False)
            ]
            pool: list[nn.Module] = [nn.MaxPool2d(3, stride=2, padding=1)]
        else:
            first = [nn.Conv2d(channels, width, 3, padding=1, bias=False)]
            pool = []
        self.entry = nn.Sequential(*first, nn.BatchNorm2d(width), nn.ReLU(inplace=True), *pool)
        self.stages = nn.Sequential(
            _stage(width, width, 1),
            _stage(width, 2 * width, 2),
            _stage(2 * width, 4 * width, 2),
            _stage(4 * width, 8 * width, 2),
        )
        _initialise(self)

    def forward(self, inputs: Tensor) -> Tensor:
        if inputs.dim() != 4 or inputs.shape[1] != self.channels:
            raise ValueError(
                f"ResNet18 expects images of shape [B, {self.channels}, H, W], found "
                f"{list(inputs.shape)}; channels come before height and width."
            )
        features: Tensor = self.stages(self.entry(inputs))
        return features.mean(dim=(2, 3))


class BasicBlock(nn.Module):
    """Two 3x3 convolutions around a shortcut: ReLU(F(x) + s(x))."""

    def __init__(self, before: int, after: int, stride: int) -> None:
        super().__init__()
        self.residual = nn.Sequential(
            nn.Conv2d(before, after, 3, stride=stride, padding=1, bias=False),
            nn.BatchNorm2d(after),
            nn.ReLU(inplace=True),
            nn.Conv2d(after, after, 3, padding=1, bias=False),
            nn.BatchNorm2d(after),
        )
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or before != after:
            self.shortcut = nn.Sequential(
                nn.Conv2d(before, after, 1, stride=stride, bias=False), nn.BatchNorm2d(after)
            )

    def forward(self, inputs: Tensor) -> Tensor:
        """Features of each row."""
        total: Tensor = self.residual(inputs) + self.shortcut(inputs)
        return nn.functional.relu(total, inplace=True)


def _stage(before: int, after: int, stride: int) -> nn.Sequential:
    return nn.Sequential(BasicBlock(before, after, stride), BasicBlock(after, after, 1))


def _initialise(network: nn.Module) -> None:
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
