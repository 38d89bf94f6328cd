"""New candidates by substitution, prototypes and intermetallic rules, and the gates that they must pass."""
