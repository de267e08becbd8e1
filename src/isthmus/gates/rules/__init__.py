"""Rules of the gate. One file a rule; the folder is the registry, the contract is `gates.Rule`."""
