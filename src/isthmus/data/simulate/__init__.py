"""Physics of the simulated pairs: a chest under two CT scanners, a countryside under two satellites."""
