"""Low-rank weights that learn a person (DreamBooth, Ruiz et al. 2023; LoRA, Hu et al. 2021).

settings.py     everything that can be chosen about a training
job.py          a training as a folder: what goes in, what comes out
examples.py     crops and captions become cached latents, masks and text embeddings
adapters.py     the low-rank layers and their moving average
optimizers.py   optimisers by name, and the learning rate of each step
loss.py         face-weighted, noise-level-balanced error
checkpoints.py  whole checkpoints or none, and starting again from one
likeness.py     which checkpoint is the most like the person
memory.py       what a training needs, before and after
export.py       files for diffusers, and for A1111, ComfyUI and kohya's scripts
parked.py       memory a training can do without
learner.py      one change of the weights
validate.py     pictures in between, scored
finish.py       the best checkpoint becomes the result
train.py        all of the above, in order
child.py        the same in a process of its own
engine.py       behind the engine protocol
"""
