"""Universal potentials: energies and forces of crystals, computed by different packages."""
