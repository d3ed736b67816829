"""Encoders, decoders, priors and the model that joins them."""
