"""curate finds what is wrong with a computer-vision dataset, gets it fixed where the labels live, and proves that it helped."""

__version__ = "0.1.0"
