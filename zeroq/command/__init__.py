"""The command line, ``python -m zeroq``: a network of one's own becomes a quantized file."""
