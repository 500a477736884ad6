"""The small convolutional network of STG-MTL."""

from __future__ import annotations

from torch import Tensor, nn

from polytask.encoders.base import Encoder, check_fraction, check_positive

SMALLEST_IMAGE = 8


class SmallCNN(Encoder):
    """Three convolutions and one dense layer, the custom network of STG-MTL's table 2.

    conv 5x5 to 32 (no padding), batch norm, ReLU, max-pool 2; conv 3x3 to 64 (padding 1), batch
    norm, ReLU; conv 3x3 to 64 (padding 1), batch norm, ReLU, max-pool 2; flatten; dense to
    `output_size`, ReLU. With 32 x 32 x 3 images the map before the dense layer is 64 x 7 x 7, and
    with a 100-way linear head the network has the published 472,612 parameters.

    Args:
        image_size: height and width of the images, each at least 8 (an 8 x 8 image reaches the
            dense layer as 64 x 1 x 1); one number means a square.
        channels: channels of the images, 3 for colour.
        output_size: features of an image (128, table 2).
        dropout: probability of dropping a feature before and after the dense layer; 0 as in table
            2, while the authors' code adds 0.2 twice.

    Shapes: inputs [B, channels, height, width]; features [B, output_size].

    Raises:
        ValueError: an image smaller than 8 x 8, or inputs of another shape than declared.

    Cost: about 13 million multiplications for a 32 x 32 x 3 image.

    Example:
        >>> import torch
        >>> encoder = SmallCNN(image_size=8, channels=1)
        >>> encoder(torch.zeros(2, 1, 8, 8)).shape
        torch.Size([2, 128])

    References:
        A. A. Sherif, A. Abid, M. Elattar, M. ElHelw, STG-MTL: Scalable Task Grouping for Multi-Task
        Learning Using Data Map, ICML workshop DMLR, 2023, https://arxiv.org/abs/2307.03374, table
        2.
    """

    def __init__(
        self,
        *,
        image_size: int | tuple[int, int] = 32,
        channels: int = 3,
        output_size: int = 128,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        sizes = (image_size, image_size) if isinstance(image_size, int) else tuple(image_size)
        if len(sizes) != 2:
            raise ValueError(
                f"`image_size` must be one number or (height, width), found {image_size!r}."
            )
        height, width = (check_positive("image_size", size) for size in sizes)
        if min(height, width) < SMALLEST_IMAGE:
            raise ValueError(
                f"SmallCNN needs images of at least {SMALLEST_IMAGE} x {SMALLEST_IMAGE} pixels, "
                f"found {height} x {width}; enlarge the images or use an MLP."
            )
        self.image_size = image_size
        self.channels = check_positive("channels", channels)
        self.output_size = check_positive("output_size", output_size)
        self.dropout = check_fraction("dropout", dropout)
        self.input_shape = (channels, height, width)
        final_map = ((height - 4) // 2 // 2) * ((width - 4) // 2 // 2)
        self.convolutions = nn.Sequential(
            nn.Conv2d(channels, 32, 5),
            nn.BatchNorm2d(32),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(32, 64, 3, padding=1),
            nn.BatchNorm2d(64),
            nn.ReLU(),
            nn.Conv2d(64, 64, 3, padding=1),
            nn.BatchNorm2d(64),
            nn.ReLU(),
            nn.MaxPool2d(2),
        )
        self.dense = nn.Sequential(
            nn.Flatten(),
            nn.Dropout(self.dropout),
            nn.Linear(64 * final_map, self.output_size),
            nn.ReLU(),
            nn.Dropout(self.dropout),
        )

    def forward(self, inputs: Tensor) -> Tensor:
        check_images("SmallCNN", inputs, self.input_shape)
        features: Tensor = self.dense(self.convolutions(inputs))
        return features


def check_images(owner: str, inputs: Tensor, shape: tuple[int, int, int]) -> None:
    """Refuse inputs that are not images of the declared channels, height and width."""
    if tuple(inputs.shape[1:]) != shape:
        raise ValueError(
            f"{owner} expects images of shape [B, {shape[0]}, {shape[1]}, {shape[2]}], found "
            f"{list(inputs.shape)}; channels come before height and width."
        )
