"""Structure from motion by pycolmap: a program of its own, which `poses_io` starts and may kill.

    python colmap_worker_io.py TASK.json

It imports nothing of this project and no Pillow: loaded into one process with it, pycolmap corrupts
the heap. What it has found so far lies in the task's database, so that a run that was killed goes
on from there. It ends with whoever started it: two at work on one database would break it.
"""

import json
import os
import pathlib
import sys
import threading

import pycolmap


def main() -> None:
    threading.Thread(target=_end_with_the_starter, daemon=True).start()
    task = json.loads(pathlib.Path(sys.argv[1]).read_text(encoding="utf-8"))
    folder = pathlib.Path(task["folder"])
    database, images = folder / "database.db", pathlib.Path(task["images"])
    names, threads = task["names"], _num_cores()
    extraction = pycolmap.FeatureExtractionOptions(
        num_threads=threads, use_gpu=task["use_gpu"], max_image_size=task["max_side"]
    )
    extraction.sift.max_num_features = task["max_features"]
    mode = pycolmap.CameraMode.SINGLE if task["is_one_camera"] else pycolmap.CameraMode.PER_IMAGE
    pycolmap.extract_features(
        database,
        images,
        image_names=names,
        camera_mode=mode,
        reader_options=pycolmap.ImageReaderOptions(camera_model=task["camera"]),
        extraction_options=extraction,
    )
    matching = pycolmap.FeatureMatchingOptions(num_threads=threads, use_gpu=task["use_gpu"])
    if task["pairs"] is None:
        pycolmap.match_exhaustive(database, matching_options=matching)
    else:
        table = folder / "pairs.txt"
        lines = [f"{names[first]} {names[second]}\n" for first, second in task["pairs"]]
        table.write_text("".join(lines), encoding="utf-8")
        pairing = pycolmap.ImportedPairingOptions(match_list_path=table)
        pycolmap.match_image_pairs(database, matching_options=matching, pairing_options=pairing)
    options = pycolmap.IncrementalPipelineOptions(
        num_threads=threads, random_seed=0, min_model_size=min(10, len(names) // 2)
    )
    models = folder / "models"
    models.mkdir(exist_ok=True)
    found = pycolmap.incremental_mapping(database, images, models, options)
    best = max(found.values(), key=lambda model: model.num_reg_images(), default=None)
    result = {"names": [], "num_points": 0, "reprojection_error_px": None, "num_models": 0}
    if best is not None:
        model = folder / "model"
        model.mkdir(exist_ok=True)
        best.write(model)
        result = {
            "names": sorted(best.image(index).name for index in best.reg_image_ids()),
            "num_points": best.num_points3D(),
            "reprojection_error_px": best.compute_mean_reprojection_error(),
            "num_models": len(found),
        }
    temporary = folder / "result.unfinished"
    temporary.write_text(json.dumps(result), encoding="utf-8")
    temporary.replace(folder / "result.json")


def _end_with_the_starter() -> None:
    """Waits for the end of the input, whose other end dies with the starter, however that dies."""
    os.read(0, 1)  # sys.stdin would hold a lock that Python wants at its end
    os._exit(1)


def _num_cores() -> int:
    """How many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


if __name__ == "__main__":
    main()
