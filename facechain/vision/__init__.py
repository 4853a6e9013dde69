"""Models that look: who is in a picture, where, in which pose, and what each pixel belongs to.

Start at `readers.py`: its tables name every reader and tool. The one home of onnxruntime, LiteRT, dlib and
OpenCV's networks; nothing is loaded before it is first used.
"""
