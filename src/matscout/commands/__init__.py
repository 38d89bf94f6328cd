"""Commands of `matscout` that need more than one call."""
