"""Identity from one or a few photos: the published checkpoints' formats, their maths, and how they attach to a base.

formats   what each file must contain          checkpoint  opens, names and refuses files
methods   which face goes into which method    fusion      several photos of a face become one
attach    put in, and taken out bit for bit    evidence    what is kept of a person
"""
