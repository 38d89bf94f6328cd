"""Universal potentials: energies and forces of crystals, whatever package computes them."""
