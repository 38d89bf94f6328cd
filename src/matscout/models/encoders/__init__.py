"""One architecture a file: `CrystalGraph -> (n_crystals, hidden_dim)`."""
