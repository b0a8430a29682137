"""A first convolution that takes neighbouring pixels as one."""

from __future__ import annotations

from torch import Tensor, nn


class FoldedConv(nn.Module):
    """A CNN's first convolution, exactly, over as many neighbouring pixels of a row as its stride is, taken as one.

    Kernels for 8-bit values go through each place of a window with at least eight channels at a time: of an RGB
    picture they multiply mostly padding. Taking s pixels of 3 channels for one of 3 s costs no operation, since that is
    how they lie in memory, and leaves a window of fewer places.
    """

    def __init__(self, conv: nn.Module, *, border: float = 0.0, plain: nn.Module | None = None) -> None:
        """Rearranges the weights.

        Args:
            conv: Of 3 input channels and a square kernel; pads before the picture as it says, behind it as little as
                gives side / s.
            border: What is padded with.
            plain: The convolution for pictures (N, 3, side, side) of other sides than multiples of its stride; itself
                where left out.
        """
        super().__init__()
        assert isinstance(conv, nn.Conv2d)
        channels, _, size, _ = conv.weight.shape
        step, before = int(conv.stride[0]), int(conv.padding[0])
        self.step, self.border = step, border
        # Whole pixels of the folded row that the window reaches to the left and to the right of its own.
        left, right = -(-before // step), (size - 1 - before) // step
        self.padding = (0, 0, left, right, before, max(size - step - before, 0))
        """As `pad` takes it, of the folded picture: channels, columns, rows."""
        kernel = conv.weight.detach().new_zeros(channels, 3 * step, size, left + right + 1)
        for column in range(size):
            place, inside = divmod(column - before + left * step, step)
            kernel[:, 3 * inside : 3 * inside + 3, :, place] = conv.weight.detach()[:, :, :, column]
        self.conv = nn.Conv2d(3 * step, channels, (size, left + right + 1), stride=(step, 1))
        self.conv.weight.data = kernel
        self.conv.bias = conv.bias
        self.plain = conv if plain is None else plain

    def forward(self, pictures: Tensor) -> Tensor:
        """(N, side, side, 3) to (N, C, side / s, side / s), rounded up."""
        count, side = pictures.shape[:2]
        if side % self.step:
            whole: Tensor = self.plain(pictures.permute(0, 3, 1, 2))
            return whole
        folded = pictures.reshape(count, side, side // self.step, 3 * self.step)
        if any(self.padding):
            folded = nn.functional.pad(folded, self.padding, value=self.border)
        maps: Tensor = self.conv(folded.permute(0, 3, 1, 2))
        return maps
