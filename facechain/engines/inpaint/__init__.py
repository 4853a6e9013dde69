"""Any diffusion engine paints into a picture: one face at a time, everything else exactly as it was.

crop.py      the square around a face that is painted at the base's own size
ground.py    whose pixels are whose, and other faces blanked so that nobody leaks into a neighbour
mask.py      what may change of a face: not the hand, the glasses or the hair in front of it
paste.py     the drift of the autoencoder taken off, a feathered seam, and not a bit changed outside
repaint.py   a painting pipeline becomes its inpainting and ControlNet sibling
engine.py    the five above around another engine
"""
