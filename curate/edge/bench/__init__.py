"""How fast packages are and how much memory they take, measured here; and what that may come to on other devices."""
