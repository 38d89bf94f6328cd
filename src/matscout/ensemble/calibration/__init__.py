"""From predicted distributions to intervals with the coverage that they promise."""
