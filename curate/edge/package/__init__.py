"""Making a package for a device: the model for its runtime, how to read it as data, and the proof that it says what it did."""
