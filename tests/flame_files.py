"""Files of FLAME's layout: pickles as Python 2 wrote them, arrays of chumpy, embeddings."""

import io
import pickle
import struct
import sys
import types

import numpy as np
import scipy.sparse

NUM_IDENTITY, NUM_EXPRESSION = 300, 100
_MODULES = {
    "numpy._core.multiarray": "numpy.core.multiarray",
    "scipy.sparse._csc": "scipy.sparse.csc",
    "builtins": "__builtin__",
}


class _Python2Pickler(pickle._Pickler):
    """Writes protocol 2 as Python 2 did: text and bytes are one, modules have their old names."""

    dispatch = pickle._Pickler.dispatch.copy()

    def save_text(self, text):
        content = text if isinstance(text, bytes) else text.encode("latin-1")
        self.write(b"T" + struct.pack("<i", len(content)) + content)
        self.memoize(text)

    dispatch[bytes] = dispatch[str] = save_text

    def save_global(self, obj, name=None):
        module = _MODULES.get(obj.__module__, obj.__module__)
        self.write(f"c{module}\n{name or obj.__name__}\n".encode())
        self.memoize(obj)


def python2_pickle(values):
    stream = io.BytesIO()
    _Python2Pickler(stream, protocol=2).dump(values)
    return stream.getvalue()


class Chumpy:
    """Makes objects that are pickled as chumpy's are, while the `with` block lasts."""

    def __enter__(self):
        self.modules = {name: types.ModuleType(name) for name in ("chumpy", "chumpy.ch")}
        self.modules["chumpy.reordering"] = types.ModuleType("chumpy.reordering")
        sys.modules.update(self.modules)
        return self

    def __exit__(self, *_):
        for name in self.modules:
            del sys.modules[name]

    def make(self, module, name, **state):
        kind = getattr(self.modules[module], name, None) or type(name, (), {"__module__": module})
        setattr(self.modules[module], name, kind)
        made = kind()
        made.__dict__.update(
            {"_dirty_vars": set(state), "_itr": None, "_depends_on_deps": {}, "_status": "new"}
        )
        made.__dict__.update(state)
        return made

    def array(self, x):
        return self.make("chumpy.ch", "Ch", x=np.asarray(x))


def flame_values(head, wrap=np.asarray, num_modes=NUM_IDENTITY + NUM_EXPRESSION):
    """The entries of FLAME's dict on another mesh; `wrap` makes what chumpy held."""
    rng = np.random.default_rng(5)
    num_vertices = len(head.mean)
    modes = rng.normal(size=(num_vertices, 3, num_modes)) * np.linspace(2e-3, 1e-4, num_modes)
    weights = rng.dirichlet(np.ones(5), num_vertices)
    return {
        "v_template": wrap(head.mean),
        "f": head.triangles.astype(np.uint32),
        "shapedirs": wrap(modes),
        "posedirs": rng.normal(size=(num_vertices, 3, 36)),
        "J_regressor": scipy.sparse.csc_matrix(np.full((5, num_vertices), 1 / num_vertices)),
        "kintree_table": np.array([[2**32 - 1, 0, 1, 1, 1], range(5)], np.uint32),
        "J": wrap(np.zeros((5, 3))),
        "weights": wrap(weights),
        "bs_type": "lrotmin",
        "bs_style": "lbs",
    }


class Embedding:
    """68 landmarks inside triangles of a head, near to where the default head's are."""

    def __init__(self, head):
        rng = np.random.default_rng(6)
        at = [np.flatnonzero((head.triangles == v).any(1))[0] for v in head.landmarks]
        self.face = np.array(at)
        self.weights = 0.5 * rng.dirichlet(np.ones(3), 68)
        self.weights += 0.5 * (head.triangles[at] == head.landmarks[:, None])
        self.points = np.einsum("lc,lci->li", self.weights, head.mean[head.triangles[self.face]])

    def deca(self):
        """`landmark_embedding.npy`, with the contour by yaw at 79 angles."""
        by_yaw = np.tile(self.face[:17], (79, 1)), np.tile(self.weights[:17], (79, 1, 1))
        return {
            "static_lmk_faces_idx": self.face[17:],
            "static_lmk_bary_coords": self.weights[17:],
            "dynamic_lmk_faces_idx": by_yaw[0],
            "dynamic_lmk_bary_coords": by_yaw[1],
            "full_lmk_faces_idx": self.face[None],
            "full_lmk_bary_coords": self.weights[None],
        }

    def ringnet(self):
        """`flame_static_embedding.pkl`: the inner 51."""
        return {"lmk_face_idx": self.face[17:].astype(np.uint32), "lmk_b_coords": self.weights[17:]}

    def ringnet_by_yaw(self):
        """`flame_dynamic_embedding.npy`; the first row is the view from the front."""
        face = np.concatenate([self.face[None, :17], np.zeros((78, 17), int)])
        return {"lmk_face_idx": face, "lmk_b_coords": np.tile(self.weights[:17], (79, 1, 1))}


def write_embedding(path, head):
    np.save(path, Embedding(head).deca(), allow_pickle=True)


def write_flame(path, head):
    """`generic_model.pkl` as its makers wrote it, with DECA's embedding beside it."""
    with Chumpy() as chumpy:
        path.write_bytes(python2_pickle(flame_values(head, chumpy.array)))
    write_embedding(path.parent / "landmark_embedding.npy", head)
