"""The ensemble on the test fold beside what it must beat."""
