"""A face embedding for whatever judges who is shown, where its weights are there."""

import os
from collections.abc import Callable

import jax

from models.perception.arcface import embed_by_arcface, load_arcface
from models.perception.face_id import embed_faces
from models.perception.face_id_io import SHIPPED, read_face_id
from models.torch_io import is_torch
from scripts.shell import command

Embed = Callable[[jax.Array], jax.Array]


def load_face_id(path: str | os.PathLike | None = None) -> Embed | None:
    """Loads a face embedding, or says in one line that the one that comes along is not there.

    Args:
      path: of `face_id.safetensors` as `scripts.train_face_id` writes it, or of ArcFace's
        `model_ir_se50.pth`; by default the small one that comes along.

    Returns:
      The function from square pictures [N, S, S, 3] in [0, 1] to unit embeddings [N, D], whose
      products are cosines; or None. Gradients go through it. The small one wants pictures framed as
      random people's are, ArcFace such as FFHQ's.

    Raises:
      ValueError: when a file that was named is missing, damaged or another one.
    """
    if path is None and not SHIPPED.is_file():
        command.say(f"identity is left out: {SHIPPED.name} did not come along")
        return None
    path = SHIPPED if path is None else path
    if os.path.isfile(path) and is_torch(path):
        params = load_arcface(path)
        return lambda images: embed_by_arcface(params, images)
    face_id = read_face_id(path)
    return lambda images: embed_faces(face_id.params, images, face_id.config)
