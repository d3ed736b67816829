"""A trained model opened for use: encode, decode, interpolate, edit."""
