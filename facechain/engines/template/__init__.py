"""The person's face, fused into a picture: no generative weights, seconds on a CPU.

choose.py   which of the person's photos suits this picture
shape.py    the person's proportions, in the picture's head pose
front.py    hair, glasses and hands in front of the picture's face
warp.py     dense maps from landmarks: the face, and its surroundings moving along
light.py    the picture's skin tone and light, on the person's face
blend.py    where the face shows, and joining it in frequency bands
fuse.py     the five above, in order
engine.py   behind the engine protocol
"""
