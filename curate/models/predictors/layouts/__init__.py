"""How networks write down what they found: one function for each layout of `curate.models.predictors.sidecar`."""
