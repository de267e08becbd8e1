"""One file a distributed engine: how it is reached or started, given a unit, asked for its answer, and left."""
