"""matscout: reproducible search for new materials."""
