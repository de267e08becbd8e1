"""Floor 3: how far apart domains are, which model to take without labels, how good it was with them."""
