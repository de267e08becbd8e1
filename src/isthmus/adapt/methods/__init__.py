"""Adaptation methods. One file a method; the folder is the registry, the contract is `adapt.Method`."""
