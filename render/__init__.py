"""The ground floor: the types everybody shows (camera, mesh, image) and their pixels."""
