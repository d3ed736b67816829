"""A web page on which a trained model is explored."""
