"""Views of medical images: what their devices do to intensities, by MONAI's transforms.

- Bias field: the sensitivity of a coil (Van Leemput et al., IEEE Transactions on Medical Imaging 18(10), 1999).
- Gibbs ringing: high frequencies that were not measured (Morelli et al., RadioGraphics 31(3), 2011).
- Gaussian noise.

None of them moves a pixel or changes what an image shows. Photographs and measured bands have other artefacts.
"""

import torch
from torch import Tensor

from isthmus.core.monai_import import monai_import
from isthmus.data.augment.views import highest

KIND = "medical"
SHARE = 0.5  # [share] of strong views that get each artefact, where params.yaml says nothing
_SEEDS = 2**31


def with_artefacts(images: Tensor, share: float, strength: float, generator: torch.Generator) -> Tensor:
    """Returns images `[N, C, H, W]` of the same dtype, about `share` of them with each of the three artefacts.

    At the strength 9 the coefficients of the bias field lie in [-0.3, 0.3], the cut of Gibbs ringing in [0, 0.3] and
    the deviation of noise in [0, 0.1] of the range, which is MONAI's default; all grow with the strength.

    Args:
        images: uint8, uint16 or float16 in [0, 1].
        share: of each artefact, drawn by itself.
        strength: in [0, 30].
        generator: of all draws; MONAI's own states are set from it.
    """
    if not len(images) or not share or not strength:
        return images
    with monai_import():
        from monai.transforms import RandBiasField, RandGaussianNoise, RandGibbsNoise
    level = strength / 30.0
    chain = [
        RandBiasField(prob=share, coeff_range=(-level, level)),
        RandGibbsNoise(prob=share, alpha=(0.0, level)),
        RandGaussianNoise(prob=share, std=level / 3.0),
    ]
    seeds = torch.randint(_SEEDS, (len(images), len(chain)), generator=generator).tolist()
    high = highest(images.dtype)
    changed = []
    for image, drawn in zip(images.float() / high, seeds, strict=True):
        grey = bool((image == image[:1]).all())  # repeated for the network's sake: it stays one image
        view = image[:1] if grey else image
        for transform, seed in zip(chain, drawn, strict=True):
            view = transform.set_random_state(seed)(view)
        changed.append(view.as_subclass(Tensor).expand_as(image))
    out = torch.stack(changed).clamp(0.0, 1.0) * high
    return (out if images.dtype.is_floating_point else out.round()).to(images.dtype)
