"""Parts of `train_face_id`: pictures of people seen several times, judgements, sheets."""
