"""Confirmation of a front: its candidates retrained with fresh seeds."""
