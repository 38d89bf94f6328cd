"""From predicted distributions to intervals that hold what they promise."""
