"""Pictures on a terminal: what it can show and how large it is, the ways to send a picture, and the picture of a finding."""
