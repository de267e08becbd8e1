"""A few labels of the target that a person gave: the list that asks for them, and the file that keeps them."""
