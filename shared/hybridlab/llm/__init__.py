"""Language models: tokenizers, real weights, adapters, quantisation, inference."""
