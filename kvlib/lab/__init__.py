"""The lab: small real things to measure. Attention with and without a cache, a trained toy model, this machine."""
