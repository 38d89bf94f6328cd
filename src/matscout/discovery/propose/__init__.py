"""New candidates: substitution, prototypes, intermetallics, and the gates that they pass."""
