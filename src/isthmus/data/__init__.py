"""Floor 1: from files to arrays: readers, kinds of imagery, known pairs, manifest, shards, batches."""
