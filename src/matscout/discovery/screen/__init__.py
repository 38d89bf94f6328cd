"""Candidates predicted, scored and shortlisted."""
