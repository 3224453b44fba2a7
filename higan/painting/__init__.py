"""Painting: a trained generator applied to whole maps, to tiles that agree with the whole, and to streams of maps."""
