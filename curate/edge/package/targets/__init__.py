"""One module for each runtime that a package can be for: each writes the model as that runtime takes it."""
