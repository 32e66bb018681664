"""New images where the data are thin: a measured shift as a recipe, labelled images changed by it, and whether that helped."""
