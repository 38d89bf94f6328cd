"""Clients of the three databases, and the download that resumes."""
