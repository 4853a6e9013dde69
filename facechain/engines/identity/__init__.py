"""Identity from one or a few photos: the published checkpoints' formats, their maths, and how they attach to a base.

formats.py      what each published file must contain; layout.py and parts.py are its words
reading.py      tensors of a file, read safely; naming.py says which kind it is, sizes.py how large
checkpoint.py   opens, names and refuses files
methods.py      which face vector goes into which method
fusion.py       several photos of a face become one vector
evidence.py     what is kept of a person
attention.py    face tokens in the cross-attention, put in for a sitting and taken out bit for bit
lora.py         the low-rank weights some files bring, likewise
paint.py        one shot through a pipeline
engine.py       what the engines have in common; begin.py what a shot begins from
folder.py       networks in diffusers folders, read strictly
open.py         every engine, opened from its packs

The rest is one method's own: project, keypoints, identitynet, photomaker_*, pulid_*, eva_net, arc2face_net, fact_*,
transface.
"""
