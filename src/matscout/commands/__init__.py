"""Commands of `matscout` that are more than one call."""
