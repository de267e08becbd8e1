"""A first layer made for red, green and blue takes N bands: inflated, or with all bands but these three left out.

inflate: each colour's weights are shared equally by the bands nearest to it in wavelength. A band of unknown
wavelength (an index, radar) counts as a third of each colour; a colour that no band is nearest to gives its weights to
the band nearest to it. With the share B_ck of colour k in band c, sum_c B_ck = 1, and the weights are

    w'_c = sum_k B_ck w_k,    so that    sum_c w'_c x_c = sum_k w_k x_k    where every x_c equals its colour's x_k:

an image whose further bands repeat their nearest colour gives the RGB network's very features, and a constant image
gives its very response. (Repeating weights and scaling by 3/N, as timm and Carreira and Zisserman, CVPR 2017, do,
keeps the second only where N is a multiple of 3.) Mean and std of a band are its nearest colour's, or the mean of all.

rgb: the network is left as it is and sees the three bands that are red, green and blue. Inflation often loses.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from isthmus.core.errors import ConfigError
from isthmus.data.imaging.bands import TOLERANCE

COLOURS = {"red": 665.0, "green": 560.0, "blue": 490.0}  # [nm], bands 4, 3 and 2 of Sentinel-2 (ESA, 2015)
Wavelengths = Sequence[float | None]


def known_wavelengths(wavelengths: Wavelengths | None, channels: int) -> list[float | None]:
    """Returns a wavelength [nm] or None a channel; unstated ones are red, green, blue first, then unknown.

    Raises:
        ConfigError: there are more or fewer than the prepared images have channels.
    """
    if wavelengths is None:
        colours: list[float | None] = list(COLOURS.values()) if channels >= 3 else []
        return colours + [None] * (channels - len(colours))
    if len(wavelengths) != channels:
        raise ConfigError(
            f"models: backbone.wavelengths names {len(wavelengths)} bands, but the prepared images have {channels}"
            " channels ('preprocess.channels'). Name one wavelength [nm] a channel, null where there is none"
        )
    return list(wavelengths)


def colour_shares(wavelengths: Wavelengths) -> Tensor:
    """Returns B, float32 `[N, 3]`: which share of red's, green's and blue's weights each band gets; columns sum to 1.

    >>> colour_shares([665, 560, 490, 842]).tolist()
    [[0.5, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0], [0.5, 0.0, 0.0]]
    """
    places = list(COLOURS.values())
    nearness = torch.stack([_nearest(wave) for wave in wavelengths])
    for k, place in enumerate(places):
        if not nearness[:, k].any():
            apart = [float("inf") if wave is None else abs(wave - place) for wave in wavelengths]
            nearness[apart.index(min(apart)), k] = 1  # its own weights stay where they are
    return (nearness / nearness.sum(dim=0)).float()


def moved(values: Sequence[float], wavelengths: Wavelengths) -> tuple[float, ...]:
    """Returns a statistic of each band: its nearest colour's, or the mean of the three where it is unknown.

    >>> moved((0.1, 0.2, 0.6), [842, None, 490])
    (0.1, 0.3, 0.6)
    """
    out = []
    for wave in wavelengths:
        near = _nearest(wave)
        out.append(round(float(near @ torch.tensor(values, dtype=torch.float64)), 9))
    return tuple(out)


def inflated(weight: Tensor, wavelengths: Wavelengths) -> Tensor:
    """Returns the first layer's weights `[D, N, ...]` of those for red, green and blue `[D, 3, ...]`."""
    return torch.einsum("nk,dk...->dn...", colour_shares(wavelengths).to(weight), weight).contiguous()


def rgb_places(wavelengths: Wavelengths) -> list[int]:
    """Returns which channels are red, green and blue.

    Raises:
        ConfigError: one of them is not there, within the tolerance that bands are found by.
    """
    places, absent = [], []
    for colour, wanted in COLOURS.items():
        apart = [float("inf") if wave is None else abs(wave - wanted) for wave in wavelengths]
        nearest = min(apart, default=float("inf"))
        places.append(apart.index(nearest) if apart else 0)
        if nearest > TOLERANCE:
            absent.append(f"{colour} ({wanted:g} nm)")
    if absent:
        have = ", ".join("unknown" if wave is None else f"{wave:g} nm" for wave in wavelengths)
        raise ConfigError(
            f"models: backbone.bands: rgb: no band within {TOLERANCE:g} nm of {', '.join(absent)}; the channels are:"
            f" {have}. Name them in backbone.wavelengths, prepare the missing bands, or set 'bands: inflate'"
        )
    return places


class TakeChannels:
    """Hands a network some channels of its input only.

    A hook and not a wrapping module, so that the network keeps its parts and the names of its tensors.
    """

    def __init__(self, places: Sequence[int]) -> None:
        self.places = list(places)

    def __call__(self, _: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """Returns `[B, places, H, W]` of `[B, C, H, W]`."""
        return (inputs[0][:, self.places],)


def seeing_rgb(network: nn.Module, wavelengths: Wavelengths) -> nn.Module:
    """Returns a network of three channels that takes all and looks at red, green and blue.

    Raises:
        ConfigError: these are not among the channels.
    """
    places = rgb_places(wavelengths)
    if places != list(range(len(wavelengths))):
        network.register_forward_pre_hook(TakeChannels(places))
    return network


def _nearest(wave: float | None) -> Tensor:
    """Returns float64 `[3]`: one at the nearest colour, or a third each."""
    if wave is None:
        return torch.full((3,), 1 / 3, dtype=torch.float64)
    apart = [abs(wave - place) for place in COLOURS.values()]
    return torch.eye(3, dtype=torch.float64)[apart.index(min(apart))]
