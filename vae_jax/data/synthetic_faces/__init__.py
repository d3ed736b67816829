"""A data set of drawn faces, made by the package itself."""
