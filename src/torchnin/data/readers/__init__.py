"""One reader a format; each raises DataError that names the file, what was expected and what was found."""
