"""The members' distributions of a target, and the one that they make together."""
