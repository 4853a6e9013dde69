"""Stable Diffusion 1.5 and SDXL: opening a base, and painting with it.

layouts.py     what a base in one file is made of
base.py        a folder or a file becomes a diffusers pipeline
setup.py       precision, memory and speed, fitted to this machine
samplers.py    schedulers by name, and the fast modes
words.py       prompts of any length with (weighted:1.2) words
loras.py       style weights of every usual format: put in for a sitting, taken out bit for bit
guides.py      edges, skeleton and depth of a picture
controls.py    ControlNets that follow them
painter.py     a shot becomes pixels, the same whatever is painted beside it
"""
