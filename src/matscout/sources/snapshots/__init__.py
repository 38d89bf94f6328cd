"""A snapshot on disk: pages of raw rows and the manifest that guards them."""
