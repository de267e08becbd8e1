"""The stage `embed` with photometric views of the source's images."""

from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from isthmus.data.augment.photometric import photometric_view
from isthmus.data.shards import open_shard
from isthmus.models.embedding import encode, stored_encoder
from tests.mask_project import build_project, run_stages


@pytest.mark.slow
@pytest.mark.soak
def test_two_views_are_a_plain_and_an_exchanged_one_also_after_a_run_with_a_single_view(tmp_path: Path) -> None:
    project = run_stages(build_project(tmp_path), "embed")
    features = project / "out" / "demo" / "features"
    single = np.load(features / "view1-domain0-all.npy")
    document = yaml.safe_load((project / "params.yaml").read_text())
    document["models"]["cells"]["views"] = 2
    (project / "params.yaml").write_text(yaml.safe_dump(document, sort_keys=False))

    run_stages(project, "embed")

    images = open_shard(project / "out" / "demo" / "prepared" / "shards" / "domain0-all.npy")
    encoder = stored_encoder(features, 2).eval()
    for number, share in ((1, 0.0), (2, 1.0)):
        found = np.load(features / f"view{number}-domain0-all.npy")
        expected = encode(encoder, photometric_view(images, 1, share), torch.device("cpu"))
        np.testing.assert_allclose(found, expected, atol=0.02)
        assert not np.allclose(found, single, atol=0.02)
