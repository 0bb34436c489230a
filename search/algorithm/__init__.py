"""Decisions of a search, the same under Ray and in simulation. No file, clock or network here."""
