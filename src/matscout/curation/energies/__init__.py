"""Formation energies of several databases on one scale, and how far they disagree."""
