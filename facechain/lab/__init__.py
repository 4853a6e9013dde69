"""People who do not exist, rendered from CC0 shapes, and a small diffusion family trained on them.

assets    the fetched meshes, shape changes and textures
people    one seed → one person: shape, skin, eyes, brows, hair, beard
scenes    one seed → one picture's circumstances: pose, expression, clothes, light, background, camera
raster    triangles → samples → light (numba)
render    person and scene → pixels with their whole truth
traits    what a picture shows, in the words of the caption grammar
shards    many pictures on disk
family    the models' layout; train, score: how they learn and how well
"""
