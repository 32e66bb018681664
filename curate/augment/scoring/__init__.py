"""How good a model is on pixels that no dataset holds: what it says of them against labels, without a layer of predictions."""
