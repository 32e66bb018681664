"""Learning to classify images: timm's networks, or a head on what the built-in encoder sees."""
