"""From a trained model to the device and back: smaller models, packages, the runtime that runs them, and its hard frames."""
