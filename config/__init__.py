"""Reading files and command lines, and saying what is wrong with them. No torch here."""
