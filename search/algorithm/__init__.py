"""Pure decisions of a search, the same under Ray and in simulation: no files, clock or network."""
